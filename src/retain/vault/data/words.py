"""What comes from outside as it is shown in a message: on one line, printable, and not too long."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

from retain.vault.errors import BadData

P = ParamSpec("P")
T = TypeVar("T")

LONGEST = 2000  # characters of a message


def printable(text: str) -> str:
    r"""Text in which whatever could move a terminal's cursor is escaped, and the rest is as it was.

    >>> printable("cat\x1b[2J.png")
    'cat\\x1b[2J.png'
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text.strip())
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 3]}..."


def plainly(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, whose refusals are printable, whatever names and values are in them."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BadData as e:
            raise type(e)(printable(str(e))) from None

    return wrapped


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names for a message: the first of them, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(short(n) for n in names[:most]) or "none") + more


def short(text: object, most: int = 60) -> str:
    """Something from outside as it is shown in a message: quoted, on one line, and not too long."""
    shown = repr(text)
    return shown if len(shown) <= most else f"{shown[: most - 4]}...{shown[0]}"
