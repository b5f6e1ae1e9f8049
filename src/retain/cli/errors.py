"""What a command line can do wrong, and how it is told: one line, one exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FAILED, WRONG_USE, STOPPED = 1, 2, 130


class WrongUse(Exception):
    """The user asked for something that there is not; the message names it and the fix."""


class Failed(Exception):
    """A run ended without a result; the message says why."""


class Stopped(Exception):
    """Ctrl-C; the message says how to go on."""


def one_line(text: object) -> str:
    r"""Any message as a single line without control characters.

    >>> one_line("a\n  b" + chr(27) + "[31m")
    'a b�[31m'
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(str(text).split()))


def close(given: str, known: Iterable[str]) -> str:
    """A hint at what was meant, or nothing.

    >>> close("ewcc", ["ewc", "gem"]), close("x", ["ewc"])
    (" (did you mean 'ewc'?)", '')
    """
    found = difflib.get_close_matches(given, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
