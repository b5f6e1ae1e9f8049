"""`retain tune`: hyper-parameters chosen on the first tasks only, then frozen."""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from retain.cli import many
from retain.cli.compare import seeds_of
from retain.cli.errors import FAILED, Failed, Stopped, WrongUse, close
from retain.cli.flags import Group, asks_for_help, flags_of, help_of, parse, read, show
from retain.cli.folder import claim
from retain.cli.names import method_class, positionals, stream_or_file
from retain.cli.output import print_comparison
from retain.cli.progress import watcher
from retain.cli.stop import Stop, deafen, resume_command
from retain.combine import describe
from retain.compare import Failure, Job
from retain.experiment import Experiment, Settings, from_plain, load_config
from retain.method import Method
from retain.methods import discover
from retain.report import write_report
from retain.result import Result
from retain.run import Interrupted
from retain.statistics import point, span, t_interval
from retain.tune import SETTINGS, TRIALS, Knob, Plan, Trial, Tuning, later, run_trial, to_toml

HELP = """\
usage: retain tune STREAM METHOD --tune NAME=LOW:HIGH[:log] ... [flags]
       retain tune FILE.toml --tune NAME=LOW:HIGH[:log] ... [flags]

Chooses hyper-parameters honestly (Chaudhry et al. 2019, A-GEM): trials learn the first tasks only,
with a seed that is never reported, and are scored on validation images held out of training; no
test image is looked at. The best values are frozen: DIR/frozen.toml is for retain run,
DIR/compare.toml for retain compare. With --report the frozen experiment is run with the seeds
given, and DIR/report/report.html shows it; what counts are the tasks that no trial has seen.
Trials are proposed by Optuna: pip install optuna. They run one after the other, here, since
each depends on those before it; --workers and --report-on ray are for --report. Where there are
choices alone, no more than --trials combinations of them, each is tried once.

  --tune NAME=LOW:HIGH        a number in this range; NAME is a hyper-parameter of the method, or
                              one of SETTINGS
  --tune NAME=LOW:HIGH:log    the same on a logarithmic scale
  --tune NAME=A,B,C           one of these

examples:
  retain tune permuted ewc --tune lam=1:1000:log --tune lr=0.01:0.5:log --out out/tune
  retain tune permuted ewc --tune lam=1,10,100,1000 --first-tasks 2 --report
  retain tune split replay --scenario class --tune replay-batch=32,128 --first-tasks 2
  retain run out/tune/frozen.toml --seed 1""".replace("SETTINGS", ", ".join(SETTINGS[:6]) + ", ...")


@dataclass(frozen=True)
class Options:
    """How long, and what becomes of it."""

    first_tasks: int = 3  # how many tasks, the first ones, trials see
    trials: int = 20  # how many sets of values are tried
    tune_seed: int = 1000  # of all trials; never one that is reported
    report: bool = False  # run the frozen experiment, and report on the tasks that no trial has seen
    seeds: str = "3"  # of the report: a number N for 0 to N - 1, or the seeds themselves, such as 3,7,11
    out: str | None = (
        None  # folder for trials, the frozen experiment and the report; none: out/tune-STREAM-METHOD
    )
    workers: int = 2  # of the report: runs at a time, each a process
    report_on: Literal["local", "ray"] = "local"  # processes here, or a Ray cluster (pip install ray)
    address: str | None = None  # of the Ray cluster, HOST:PORT or auto; none: one is started here and ended
    resume: bool = False  # go on with the trials that --out holds
    force: bool = False  # replace them
    quiet: bool = False  # show no progress


def command(args: list[str]) -> int:
    """Tune what the command line says."""
    words, flags = positionals(args)
    wanted, flags = _wanted(flags)
    told = _told(words)
    groups = [
        *([Group(told.name, told.kind, told.own)] if told else []),
        Group("settings", Settings, told.settings if told else {}, leave_out=frozenset({"seed"})),
        Group("tune", Options, {}, pairs=False),
    ]
    if asks_for_help(flags):
        print(f"{HELP}\n\n{help_of(groups)}")
        return 0
    if told is None:
        raise WrongUse("name a stream and a method first: retain tune STREAM METHOD --tune NAME=LOW:HIGH")
    given = parse("retain tune", flags, groups)
    options = Options(**given["tune"])
    _of_report(options, Path())  # is refused now, and not after the trials
    seeds = seeds_of(options.seeds)
    if options.tune_seed in seeds:
        raise WrongUse(f"--tune-seed {options.tune_seed} is one of the seeds that are reported: take another")
    method, settings = from_plain(told.kind, given[told.name]), from_plain(Settings, given["settings"])
    knobs = tuple(knob_of(word, told.kind) for word in wanted)
    experiment = Experiment(told.stream, method, settings)
    plan = Plan(experiment, knobs, options.first_tasks, options.trials, options.tune_seed)
    return _tune(plan, told.name, options, args)


@dataclass(frozen=True)
class Told:
    """What is tuned: by the names on the command line, or by a file."""

    stream: str
    name: str
    kind: type[Method[Any]]
    own: dict[str, Any]
    settings: dict[str, Any]


def _told(words: list[str]) -> Told | None:
    if not words:
        return None
    target = stream_or_file(words[0])
    extra = words[1:] if isinstance(target, Path) else words[2:]
    if extra:
        raise WrongUse(f"what is {extra[0]!r} for? usage: retain tune STREAM METHOD --tune NAME=LOW:HIGH")
    if isinstance(target, Path):
        try:
            e = Experiment.from_config(load_config(target))
        except ValueError as error:
            raise WrongUse(f"{target}: {error}") from error
        settings = {k: v for k, v in vars(e.settings).items() if k != "seed"}
        return Told(e.stream, describe(e.method)["name"], type(e.method), dict(vars(e.method)), settings)
    if len(words) == 1:
        raise WrongUse(f"name a method after the stream; there are {', '.join(discover())}")
    return Told(target, words[1], method_class(words[1]), {}, {})


def _wanted(flags: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands behind each --tune, and the other flags."""
    found, rest, i = [], [], 0
    while i < len(flags):
        if flags[i] == "--tune":
            if i + 1 == len(flags) or flags[i + 1].startswith("--"):
                raise WrongUse("--tune needs a value, such as lam=1:1000:log")
            found.append(flags[i + 1])
            i += 2
            continue
        if flags[i].startswith("--tune="):
            found.append(flags[i].partition("=")[2])
        else:
            rest.append(flags[i])
        i += 1
    return found, rest


def knob_of(word: str, kind: type[Any]) -> Knob:
    """What a word behind --tune means for a method.

    >>> from retain.methods.ewc import EWC
    >>> knob_of("lam=1:1000:log", EWC)
    Knob(name='lam', low=1.0, high=1000.0, log=True, choices=(), whole=False)
    >>> knob_of("labels=exact,true", EWC).choices
    ('exact', 'true')

    Raises:
        WrongUse: it means nothing.
    """
    name, _, values = word.partition("=")
    name = name.replace("-", "_")
    if not name or not values:
        raise WrongUse(f"--tune {word}: must be NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C")
    hints = {f.name: f.hint for k in (Settings, kind) for f in flags_of(k)}
    if name not in hints:
        raise WrongUse(f"--tune {word}: {_stranger(name, kind)}")
    hint, told = hints[name], f"--tune {name}"
    try:
        if ":" in values:
            return _range(name, hint, values, f"--tune {word}")
        choices = tuple(_value(hint, v, told) for v in values.split(","))
        if len(choices) == 1:
            raise WrongUse(
                f"--tune {word}: one value leaves nothing to choose: give it as {_flag(name, values)}"
            )
        return Knob(name, choices=choices)
    except ValueError as e:
        raise WrongUse(f"--tune {e}") from e


def _stranger(name: str, kind: type[Any]) -> str:
    """What to say of a name that neither the method nor the settings have."""
    own = [f.name for f in flags_of(kind)]
    hint = close(name, [*own, *SETTINGS])
    has = f"it has {', '.join(own)}" if own else "it has none"
    return (
        f"{kind.__name__} has no hyper-parameter {name!r}{hint}; {has}; "
        f"of the settings {', '.join(SETTINGS)} can be tuned"
    )


def _flag(name: str, value: str) -> str:
    """How one value is given."""
    flag = name.replace("_", "-")
    return {"true": f"--{flag}", "false": f"--no-{flag}"}.get(value, f"--{flag} {value}")


def _range(name: str, hint: Any, values: str, told: str) -> Knob:
    low, high, *log = values.split(":")
    inner = next((a for a in typing.get_args(hint) if a is not type(None)), hint)
    if inner not in (int, float) or log not in ([], ["log"]):
        raise WrongUse(
            f"{told}: a range is of numbers, LOW:HIGH or LOW:HIGH:log; else name the choices A,B,C"
        )
    bottom, top = (float(read(inner, end, f"--tune {name}")) for end in (low, high))
    return Knob(name, bottom, top, bool(log), whole=inner is int)


def _value(hint: Any, word: str, told: str) -> Any:
    if hint is bool:
        if word not in ("true", "false"):
            raise WrongUse(f"{told} must be true or false, got {word!r}")
        return word == "true"
    return read(hint, word, told)


def _tune(plan: Plan, name: str, options: Options, args: list[str]) -> int:
    out = Path(options.out or f"out/tune-{plan.experiment.stream}-{name}")
    with claim(out, [], options.resume, options.force):
        if (out / TRIALS).exists() and not options.resume:
            if not options.force:
                raise WrongUse(
                    f"{out} already holds trials: --resume goes on with them, --force replaces them"
                )
            (out / TRIALS).unlink()
        try:
            best = _search(Tuning(plan, out), options)
        except (Interrupted, KeyboardInterrupt):
            deafen()
            again = resume_command("tune", args, str(out))
            raise Stopped(f"stopped; the trials that were done are kept. Go on with:\n  {again}") from None
        frozen = plan.with_values(best.values)
        seeds = seeds_of(options.seeds)
        text = to_toml(frozen)
        (out / "frozen.toml").write_text(text, encoding="utf-8")
        pair = [name] if name == "naive" else ["naive", name]
        (out / "compare.toml").write_text(to_toml(frozen, pair, len(seeds)), encoding="utf-8")
    if not options.quiet:
        print(f"retain: frozen at {_words(best)}: {100 * best.score:.1f} % on validation", file=sys.stderr)
        print(f"retain: saved {out / 'frozen.toml'} and {out / 'compare.toml'}", file=sys.stderr)
    if not options.report:
        print(text, end="")
        return 0
    return _report(plan, frozen, name, seeds, out, options, args)


def _search(tuning: Tuning, options: Options) -> Trial:
    """Run the trials that are left; the best of all."""
    plan, reason = tuning.plan, ""
    left = plan.total - len(tuning.done)
    if plan.combinations and not options.quiet:
        print(f"retain: every combination is tried once: {_count(plan.total, 'trial')}", file=sys.stderr)
    with Stop() as stop, watcher(max(left, 1), options.quiet) as watch:
        while trial := tuning.ask():
            name = f"trial {trial.number + 1} of {plan.total} ({_words(trial)})"
            got = run_trial(plan, trial, lambda p, name=name: watch.tell(name, p), stop)  # type: ignore[misc]
            if isinstance(got, Result):
                tuning.tell(trial, got.acc)
                watch.done(name, got)
            else:
                reason = f"; the last that failed: {got}"
                tuning.tell(trial, 0.0)
                watch.done(name, Failure(Job(name, plan.of_trial(trial.values), Path()), str(got)))
    try:
        return tuning.best
    except ValueError as e:
        raise Failed(f"{e}{reason}") from e


def _count(n: int, of: str) -> str:
    return f"{n} {of}" if n == 1 else f"{n} {of}s"


def _words(trial: Trial) -> str:
    return ", ".join(
        f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {show(v)}" for k, v in trial.values.items()
    )


def _of_report(options: Options, out: Path) -> many.Options:
    return many.Options(
        str(out / "report"), options.workers, options.report_on, options.address, options.resume, options.force,
        options.quiet,
    )  # fmt: skip


def _report(
    plan: Plan, frozen: Experiment, name: str, seeds: list[int], out: Path, options: Options, args: list[str]
) -> int:
    """Run what was frozen; print each run, and a line on the tasks that no trial has seen."""
    runs = [
        (
            f"{name}-{s}",
            Experiment(frozen.stream, frozen.method, dataclasses.replace(frozen.settings, seed=s)),
        )
        for s in seeds
    ]
    folder = out / "report"
    results, failures = many.run_many(runs, folder, _of_report(options, out), "tune", args)
    if results:
        print_comparison(results, options.quiet)
        _print_later(results, plan, name, options.quiet)
        write_report(results, folder / "report.html")
        if not options.quiet:
            print(f"retain: the report is {folder / 'report.html'}", file=sys.stderr)
    many.name_failures(failures)
    return FAILED if failures else 0


def _print_later(results: Sequence[Result], plan: Plan, name: str, quiet: bool) -> None:
    """What counts, the tasks that no trial has seen: a sentence for people, a line of JSON for programs."""
    found = t_interval([later(r, plan) for r in results])
    kind = type(plan.experiment.method).__name__
    mean = f"{point(100 * found.mean)} %"
    said = f"{kind} on {plan.unseen}, which no trial has seen: {mean}, {span(found)}"
    if sys.stdout.isatty():
        print(said)
        return
    ends = {k: None if v is None else 100 * v for k, v in (("low", found.low), ("high", found.high))}
    summary = {"method": name, "after_task": plan.first, "mean": 100 * found.mean, **ends}
    print(json.dumps({**summary, "seeds": [r.seed for r in results]}))
    if not quiet:
        print(f"retain: {said}", file=sys.stderr)
