"""`retain compare`: methods and seeds on one stream, side by side."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from retain.cli.errors import FAILED, WrongUse
from retain.cli.flags import Group, asks_for_help, help_of, parse
from retain.cli.many import Options, name_failures, run_many
from retain.cli.names import method_class, positionals, stream_or_file, summary
from retain.cli.notes import note, notes
from retain.cli.output import print_comparison
from retain.combine import describe
from retain.experiment import Experiment, Settings, from_plain, load_config
from retain.methods import caution, discover
from retain.report import write_report
from retain.streams import BUILDERS

HELP = """\
usage: retain compare STREAM --methods NAME,NAME,... [flags]
       retain compare FILE.toml [flags]

Runs every method with every seed, prints what became of them and writes DIR/report.html. A method's
own hyper-parameters are flags with its name before them, such as --ewc.lam 100; with --methods,
--help shows them. A TOML file holds the same names: stream = "permuted",
methods = ["naive", "ewc"], seeds = 3, any setting, and a table for each method that needs one, such
as [ewc] lam = 100.

examples:
  retain compare permuted --methods naive,ewc,gem,joint --tasks 3 --seeds 2
  retain compare split --methods naive,ewc --scenario domain --ewc.lam 100 --out out/split
  retain compare permuted --methods naive,replay --seeds 3,7,11 --workers 4"""


@dataclass(frozen=True)
class What:
    """What is compared."""

    methods: str | None = None  # their names, with commas between
    seeds: str = "1"  # a number N: the seeds 0 to N - 1; or the seeds themselves, such as 3,7,11


def command(args: list[str]) -> int:
    """Compare what the command line says."""
    words, flags = positionals(args)
    told = _told(words)
    what = Group("compare", What, told.what, "What is compared.")
    asked = _methods(_given(flags, "--methods") or told.what.get("methods"))
    own = [
        Group(m, method_class(m), told.own.get(m, {}), f"Written --{m}.NAME.", prefix=True)
        for m in dict.fromkeys(asked)
    ]
    about = "What all runs are told. none: the default of the stream."
    settings = Group("settings", Settings, told.settings, about, leave_out=frozenset({"seed"}))
    groups = [what, *own, settings, Group("output", Options, {}, pairs=False)]
    if asks_for_help(flags):
        lists = f"streams:\n{summary(BUILDERS.items())}\n\nmethods:\n{summary(discover().items())}"
        print("\n\n".join([HELP, lists, help_of(groups)]))
        return 0
    stream = told.stream
    if stream is None:
        raise WrongUse("name a stream or a file first: retain compare STREAM --methods NAME,NAME")
    given = parse("retain compare", flags, groups)
    if not asked:
        raise WrongUse(f"say which methods: --methods NAME,NAME; there are {', '.join(discover())}")
    experiments = _experiments(stream, asked, given)
    return _run(stream, experiments, Options(**given["output"]), args)


def _run(stream: str, experiments: list[tuple[str, Experiment]], options: Options, args: list[str]) -> int:
    out = Path(options.out or f"out/compare-{stream}-{datetime.now():%Y%m%d-%H%M%S}")
    _check(experiments, options.quiet)
    results, failures = run_many(experiments, out, options, "compare", args)
    if results:
        print_comparison(results, options.quiet)
        write_report(results, out / "report.html")
        if not options.quiet:
            print(f"retain: the report is {out / 'report.html'}", file=sys.stderr)
    name_failures(failures)
    return FAILED if failures else 0


def _check(experiments: list[tuple[str, Experiment]], quiet: bool) -> None:
    """Refuse what cannot start, before anything runs; note once what is known to fail: the workers keep silent."""
    stream = experiments[0][1].build_stream()
    of_each = {describe(e.method)["name"]: e for _, e in experiments}  # whichever its seed
    for name, e in of_each.items():
        learner = e.build_learner(stream)
        try:
            learner.follow(stream)
            learner.start(stream[0].train)
        except ValueError as why:
            raise WrongUse(f"--methods {name}: {why}") from why
    with notes(quiet):
        if said := caution([e.method for e in of_each.values()], stream.scenario):
            note(said)


@dataclass(frozen=True)
class Told:
    """What a file says, or only the stream that the command line names."""

    stream: str | None
    what: Mapping[str, Any]
    settings: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]  # hyper-parameters by method


def _told(words: list[str]) -> Told:
    if not words:
        return Told(None, {}, {}, {})
    if len(words) > 1:
        raise WrongUse(f"what is {words[1]!r} for? usage: retain compare STREAM --methods NAME,NAME [flags]")
    target = stream_or_file(words[0])
    if isinstance(target, str):
        return Told(target, {}, {}, {})
    rest = load_config(target)
    if "method" in rest:
        raise WrongUse(
            f"{target} is a file for retain run, since it has a method; one for compare has a list, such as "
            'methods = ["naive", "ewc"], and a table for what is a method\'s own, such as [ewc] lam = 100'
        )
    stream, methods, seeds = rest.pop("stream", None), rest.pop("methods", None), rest.pop("seeds", 1)
    if stream not in BUILDERS:
        raise WrongUse(f"{target}: stream must be one of {', '.join(BUILDERS)}, got {stream!r}")
    if not isinstance(methods, list) or not all(isinstance(m, str) for m in methods):
        raise WrongUse(f'{target}: methods must be a list such as ["naive", "ewc"], got {methods!r}')
    if "seed" in rest:
        raise WrongUse(f"{target}: a comparison has seeds, a number of them or a list, and no seed")
    own = {k: rest.pop(k) for k in list(rest) if isinstance(rest[k], dict)}
    for name, values in own.items():
        if name not in methods:
            raise WrongUse(f"{target}: a table [{name}], but methods are {', '.join(methods)}")
        _belongs(target, method_class(name), values)
    _belongs(target, Settings, rest)
    listed = ",".join(map(str, seeds)) + "," if isinstance(seeds, list) else str(seeds)
    plain = {k.replace("-", "_"): v for k, v in rest.items()}
    return Told(stream, {"methods": ",".join(methods), "seeds": listed}, plain, own)


def _belongs(target: Path, kind: type[Any], values: dict[str, Any]) -> None:
    """Refuse what does not belong there, with the file's name."""
    try:
        from_plain(kind, values)
    except ValueError as e:
        raise WrongUse(f"{target}: {e}") from e


def _given(flags: Sequence[str], flag: str) -> str | None:
    """The value of a flag that must be known before the others can be: which methods there are."""
    value = None
    for this, after in zip(flags, [*flags[1:], ""], strict=False):
        if this == flag:
            value = after
        elif this.startswith(flag + "="):
            value = this.partition("=")[2]
    return value


def _methods(text: str | None) -> list[str]:
    names = [m.strip() for m in (text or "").split(",") if m.strip()]
    twice = {m for m in names if names.count(m) > 1}
    if twice:
        raise WrongUse(f"--methods names {', '.join(sorted(twice))} twice")
    return names


def seeds_of(text: str) -> list[int]:
    """The seeds that a text means.

    >>> seeds_of("2"), seeds_of("3,7"), seeds_of("5,")
    ([0, 1], [3, 7], [5])

    Raises:
        WrongUse: it means none.
    """
    try:
        found = [int(s) for s in text.split(",") if s] if "," in text else list(range(int(text)))
    except ValueError:
        found = []
    if not found or len(set(found)) < len(found):
        raise WrongUse(f"--seeds must be a number >= 1, or different seeds such as 3,7,11, got {text!r}")
    return found


def _experiments(
    stream: str, methods: list[str], given: dict[str, dict[str, Any]]
) -> list[tuple[str, Experiment]]:
    """What is run by name, longest first: those that learn from all data so far."""
    made = {m: from_plain(method_class(m), given[m]) for m in methods}
    made = dict(sorted(made.items(), key=lambda pair: pair[1].data == "task"))
    return [
        (f"{m}-{seed}", Experiment(stream, method, from_plain(Settings, {**given["settings"], "seed": seed})))
        for m, method in made.items()
        for seed in seeds_of(given["compare"]["seeds"])
    ]
