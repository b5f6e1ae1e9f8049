"""Streams, methods and files as a command line names them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from retain.cli.errors import WrongUse, close
from retain.method import Method
from retain.methods import discover
from retain.streams import BUILDERS


def stream_or_file(word: str) -> str | Path:
    """The name of a stream, or the path of an experiment's file.

    Raises:
        WrongUse: it is neither.
    """
    if word in BUILDERS:
        return word
    path = Path(word)
    if path.suffix in (".toml", ".json") or path.exists():
        if not path.is_file():
            what = "is a folder; name the file in it" if path.is_dir() else "does not exist"
            raise WrongUse(f"{word} {what}")
        return path
    raise WrongUse(
        f"no stream is called {word!r}{close(word, BUILDERS)}; there are {', '.join(BUILDERS)}, "
        "or name a .toml file or a result.json"
    )


def method_class(word: str) -> type[Method[Any]]:
    """The method of this name.

    Raises:
        WrongUse: there is none.
    """
    known = discover()
    if word not in known:
        raise WrongUse(f"no method is called {word!r}{close(word, known)}; there are {', '.join(known)}")
    return known[word]


def positionals(args: list[str]) -> tuple[list[str], list[str]]:
    """The words before the first flag, and the rest."""
    first = next((i for i, a in enumerate(args) if a.startswith("-")), len(args))
    return args[:first], args[first:]


def about(kind: type[Any]) -> str:
    """A method's docstring with its paper."""
    return f"{inspect.getdoc(kind) or ''}\n\nSource: {getattr(kind, 'paper', '')}"


def first_line(thing: object) -> str:
    """In plain words: of a method's file, whose class begins with the formula; else of the docstring."""
    said = inspect.getmodule(thing) if inspect.isclass(thing) else thing
    return (inspect.getdoc(said) or "").split("\n")[0]


def summary(things: Iterable[tuple[str, object]]) -> str:
    """Names with the first line of what each is."""
    return "\n".join(f"  {name:<18} {first_line(thing)}" for name, thing in things)
