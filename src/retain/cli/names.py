"""Streams, methods and files as a command line names them."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from retain.cli.errors import WrongUse, close
from retain.method import Method
from retain.methods import discover
from retain.streams import BUILDERS

WIDTH = 100  # of what is printed where there is no terminal to ask


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
        f"no stream is called {word!r}{close(word.lower(), BUILDERS)}; there are {', '.join(BUILDERS)}, "
        "or name a .toml file or a result.json"
    )


def method_class(word: str) -> type[Method[Any]]:
    """The method of this name.

    Raises:
        WrongUse: there is none.
    """
    known = discover()
    if word not in known:
        hint = close(word.lower(), known)
        raise WrongUse(f"no method is called {word!r}{hint}; there are {', '.join(known)}")
    return known[word]


def positionals(args: list[str]) -> tuple[list[str], list[str]]:
    """The words before the first flag, and the rest."""
    first = next((i for i, a in enumerate(args) if a.startswith("-")), len(args))
    return args[:first], args[first:]


def about(kind: type[Any]) -> str:
    """A method's docstring with its paper."""
    source = beside("Source: ", getattr(kind, "paper", ""))
    return f"{fitted(inspect.getdoc(kind) or '')}\n\n{source}"


def first_line(thing: object) -> str:
    """In plain words: of a method's file, whose class begins with the formula; else of the docstring."""
    said = inspect.getmodule(thing) if inspect.isclass(thing) else thing
    return (inspect.getdoc(said) or "").split("\n")[0]


def summary(things: Iterable[tuple[str, object]]) -> str:
    """Names with the first line of what each is."""
    found = dict(things)
    width = max(map(len, found))
    return "\n".join(beside(f"  {name:<{width}}  ", first_line(thing)) for name, thing in found.items())


def fitted(text: str, indent: str = "") -> str:
    """A text, indented; its paragraphs as they are where their lines are at most WIDTH, else anew."""

    def paragraph(text: str) -> str:
        as_it_is = textwrap.indent(text, indent)
        return as_it_is if max(map(len, as_it_is.split("\n"))) <= WIDTH else beside(indent, text)

    return "\n\n".join(map(paragraph, text.split("\n\n")))


def beside(head: str, text: str) -> str:
    """A text beside its head, in lines of at most WIDTH."""
    return textwrap.fill(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
