"""`retain run`: one method on one stream."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from retain import trackers
from retain.cli.errors import Failed, Stopped, WrongUse
from retain.cli.flags import Group, asks_for_help, help_of, parse
from retain.cli.folder import claim
from retain.cli.names import about, method_class, positionals, stream_or_file, summary
from retain.cli.notes import notes
from retain.cli.output import print_run
from retain.cli.progress import watcher
from retain.cli.stop import Stop, deafen, resume_command
from retain.divergence import Diverged
from retain.experiment import Experiment, Settings, from_plain, load_config
from retain.methods import discover
from retain.parallel import Lost, NoAccelerate, launched
from retain.result import Result
from retain.run import Interrupted
from retain.streams import BUILDERS, DataNotFound

HELP = """\
usage: retain run STREAM METHOD [flags]
       retain run FILE.toml [flags]
       retain run RESULT.json [flags]       the same run again; flags change it

A TOML file holds the same names as the flags, and the method's own in a table:

  stream = "permuted"
  tasks = 3
  hidden = [256, 256]
  [method]
  name = "ewc"
  lam = 30

A result.json carries the whole configuration that it came from.

examples:
  retain run permuted ewc --tasks 3 --lam 30 --out out/ewc
  retain run split replay --scenario class --memory 500 --optimizer adam --lr 0.001
  retain run permuted gem --tasks 20 --samples 1000 --hidden 100,100 --init xavier --batch-size 10"""

ABOUT = "What any run can be told. none: the default of the stream; retain list streams says which."


@dataclass(frozen=True)
class Options:
    """What becomes of the run; its result does not depend on it."""

    out: str | None = None  # folder for result.json and the checkpoint; none: nothing is saved
    resume: bool = False  # go on from the checkpoint in --out, where there is one
    force: bool = False  # replace the result that --out holds
    checkpoint_seconds: float = 30.0  # how often to save within a task
    track: trackers.Name | None = None  # send curves, matrix and table there, through Accelerate's trackers
    quiet: bool = False  # show no progress

    def __post_init__(self) -> None:
        if self.track is not None:
            trackers.check(self.track)
            if self.out is None:
                raise WrongUse("--track keeps its files in the run's folder: --out DIR")
        if self.resume and self.out is None:
            raise WrongUse("--resume needs the folder to go on from: --out DIR")
        if not self.checkpoint_seconds >= 0:
            raise WrongUse(f"--checkpoint-seconds must be >= 0, got {self.checkpoint_seconds}")


def command(args: list[str]) -> int:
    """Run what the command line says."""
    words, flags = positionals(args)
    if asks_for_help(flags):
        print(_help(words))
        return 0
    experiment, options = _read(words, flags)
    leads = launched().leads
    result = _run(experiment, options, args, leads)
    if leads:
        print_run(result)
    return 0


def _help(words: list[str]) -> str:
    chosen = [stream_or_file(w) for w in words[:1]]
    if len(words) < 2:
        lists = (
            f"streams:\n{summary(BUILDERS.items())}\n\nmethods:\n{summary(discover().items())}\n\n"
            "retain run STREAM METHOD --help adds the method's own flags."
        )
        return "\n\n".join([HELP, lists, help_of([_settings({}), _options()])])
    kind = method_class(words[1])
    usage = f"usage: retain run {chosen[0]} {words[1]} [flags]"
    return "\n\n".join([usage, about(kind), help_of([Group(words[1], kind, {}), _settings({}), _options()])])


def _settings(defaults: dict[str, object]) -> Group:
    return Group("settings", Settings, defaults, ABOUT)


def _options() -> Group:
    return Group("output", Options, {}, pairs=False)


def _read(words: list[str], flags: list[str]) -> tuple[Experiment, Options]:
    """The experiment and what becomes of it."""
    if not words:
        raise WrongUse(
            "name a stream and a method first: retain run STREAM METHOD [flags]; see retain run --help"
        )
    target = stream_or_file(words[0])
    extra = words[1:] if isinstance(target, Path) else words[2:]
    if extra:
        raise WrongUse(
            f"what is {extra[0]!r} for? usage: retain run STREAM METHOD [flags] or retain run FILE [flags]"
        )
    settings: dict[str, object] = {}
    own: dict[str, object] = {}
    if isinstance(target, Path):
        config = load_config(target)
        try:
            told = Experiment.from_config(config)
        except ValueError as e:
            raise WrongUse(f"{target}: {e}") from e
        stream, kind, settings, own = told.stream, type(told.method), vars(told.settings), vars(told.method)
    elif len(words) == 1:
        raise WrongUse(f"name a method after the stream; there are {', '.join(discover())}")
    else:
        stream, kind = target, method_class(words[1])
    name = next(n for n, k in discover().items() if k is kind)
    given = parse("retain run", flags, [Group(name, kind, own), _settings(settings), _options()])
    made = Experiment(stream, from_plain(kind, given[name]), from_plain(Settings, given["settings"]))
    return made, Options(**given["output"])


def _run(experiment: Experiment, options: Options, args: list[str], leads: bool) -> Result:
    out = None if options.out is None else Path(options.out)
    quiet = options.quiet or not leads
    if out is None and not quiet:
        print("retain: no --out, so the result is printed and nothing is saved", file=sys.stderr)
    held = nullcontext() if out is None or not leads else claim(out, [out], options.resume, options.force)
    name = f"{experiment.config()['method']['name']} on {experiment.stream}"
    try:
        with held, Stop() as stop, notes(quiet), watcher(1, quiet) as watch:
            result = experiment.run(
                out, options.resume, options.checkpoint_seconds, lambda p: watch.tell(name, p), stop
            )
    except (Diverged, Lost, NoAccelerate) as e:
        raise Failed(str(e)) from e
    except (Interrupted, KeyboardInterrupt) as e:
        deafen()
        how = str(e) or "stopped at once"
        if out is None:
            raise Stopped(f"{how}; nothing was saved, since there was no --out") from None
        raise Stopped(f"{how}; go on with:\n  {resume_command('run', args, str(out))}") from None
    except OSError as e:
        if isinstance(e, DataNotFound):
            raise
        raise Failed(f"{e.filename or out}: {e.strerror or e}") from e  # such as a disk that is full
    if out is not None and options.track is not None and leads:
        trackers.send(options.track, {out.name: result}, out)
    if out is not None and not quiet:
        print(f"retain: saved {out / 'result.json'}", file=sys.stderr)
    return result
