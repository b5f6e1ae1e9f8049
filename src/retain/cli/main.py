"""`retain`: which command is meant, and with which exit code it ends. Imports nothing heavy."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence

from retain.cli.errors import FAILED, STOPPED, WRONG_USE, Failed, Stopped, WrongUse, close, one_line
from retain.missing import NotInstalled

COMMANDS = {
    "demo": "watch a network forget, and EWC, GEM and generative replay prevent it, on real data",
    "tour": "the lecture on lifelong learning as pages to play with, drawn from real runs",
    "run": "one method on one stream, or an experiment from a file",
    "compare": "many methods and seeds on one stream, side by side",
    "reproduce": "published results, run again and compared with what was published",
    "advise": "which methods fit your constraints, best first, with the figures behind it",
    "tune": "choose hyper-parameters on the first tasks only, and freeze them",
    "report": "an HTML page of everything that was saved in a folder",
    "list": "the streams, methods, models and data sets, with their parameters and sources",
    "init": "a vault: the home of one model that goes on learning, update after update",
    "learn": "one update of a vault: trained, judged, and served if nothing is lost by it",
    "watch": "compare data with what a vault knows, and change nothing",
    "evaluate": "accuracy of a vault's model on its guards, or on data",
    "predict": "predictions of a vault's model, as CSV",
    "history": "what happened to a vault",
    "diff": "two versions of a vault side by side",
    "promote": "serve another version of a vault",
    "rollback": "serve again what a vault served before",
    "forget": "remove a class, an update or examples from a vault, on purpose",
    "export": "a vault's model as ONNX or a torch.export program",
    "verify": "check every file of a vault",
}

VAULT = {
    "make": ("init",),
    "learn": ("learn", "watch"),
    "look": ("evaluate", "predict", "history", "diff", "verify"),
    "change": ("promote", "rollback", "forget", "export"),
}
"""Where the commands of a vault are: modules of cli/vault, with a function for each."""
_IN_VAULT = {name: home for home, names in VAULT.items() for name in names}

HELP = """\
retain: neural networks that learn task after task and keep what they knew

usage: retain COMMAND ...

commands:
{commands}

  retain COMMAND --help says more; retain --version says which version this is.

examples:
  retain demo
  retain tour
  retain run permuted ewc --tasks 3 --lam 30 --out out/ewc
  retain run out/ewc/result.json --seed 1 --out out/ewc-1
  retain compare split --methods naive,ewc,replay --seeds 3 --scenario class
  retain report out/ewc
  retain init shop --memory-bytes 2MB
  retain learn shop photos/march

exit codes: 0 done, 1 a run failed, 2 wrong use, 3 refused by the gate, 4 drifted, 130 Ctrl-C"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; gives the exit code. Says what is wrong in one line on stderr."""
    args = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without "±" is no reason to fail
    try:
        code = _dispatch(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # for the flush at exit
        return 0
    except Stopped as e:
        if not _follower():
            print(f"retain: {e}", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        if not _follower():
            print("retain: stopped", file=sys.stderr)
        return STOPPED
    except Exception as e:
        if os.environ.get("RETAIN_TRACEBACK"):
            raise
        return _explain(e)


def _explain(e: Exception) -> int:
    """Say in one line what is wrong; gives the exit code."""
    text, code = str(e), FAILED
    if isinstance(e, WrongUse | ValueError | OSError | NotInstalled):
        code = WRONG_USE
        if isinstance(e, OSError) and e.filename is not None and e.strerror:
            text = f"{e.filename}: {e.strerror}"
    elif not isinstance(e, Failed):
        text = f"{type(e).__name__}: {e} (a fault of retain; RETAIN_TRACEBACK=1 shows where)"
    who = f"retain (process {_follower()})" if _follower() else "retain"
    print(f"{who}: error: {one_line(text) or type(e).__name__}", file=sys.stderr)
    return code


def _together() -> bool:
    """Whether torchrun or accelerate launch started this process beside others."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def _follower() -> str:
    """The number of this process where it is not the first of several, else nothing."""
    rank = os.environ.get("RANK", "0") if _together() else "0"
    return "" if rank == "0" else rank


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        lines = [f"  {name:<11}{what}" for name, what in COMMANDS.items()]
        print(HELP.format(commands="\n".join(lines)))
        return 0
    if args[0] == "--version":
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"retain {version('retain')}")
        except PackageNotFoundError:
            print("retain, run from its source without being installed")
        return 0
    name, *rest = args
    if name not in COMMANDS:
        if name.startswith("-"):
            hint = close(name, ("--help", "--version"))
            raise WrongUse(f"retain has no flag {name}{hint}; give a command first, see retain --help")
        hint = close(name, COMMANDS)
        raise WrongUse(f"no command is called {name!r}{hint}; there are {', '.join(COMMANDS)}")
    if name != "run" and _together():
        raise WrongUse(
            f"several processes train one network with retain run alone: start retain {name} without torchrun "
            "or accelerate launch (WORLD_SIZE is set)"
        )
    return _command(name)(rest)


def _command(name: str) -> Callable[[list[str]], int]:
    """What does it; only its own module is imported."""
    if name in _IN_VAULT:
        home = importlib.import_module(f"retain.cli.vault.{_IN_VAULT[name]}")
        found: Callable[[list[str]], int] = getattr(home, name)
        return found
    command: Callable[[list[str]], int] = importlib.import_module(f"retain.cli.{name}").command
    return command


if __name__ == "__main__":
    sys.exit(main())
