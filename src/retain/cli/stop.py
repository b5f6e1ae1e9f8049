"""Ctrl-C: the first asks the run to save and stop, the second stops at once; what comes then is not heard."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Self


class Stop:
    """While it holds, Ctrl-C makes it true; a second one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.asked = False
        self.before: Any = None

    def __call__(self) -> bool:
        """Whether it was heard."""
        return self.asked

    def __enter__(self) -> Self:
        self.before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self.before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def deafen() -> None:
    """Ctrl-C is not heard any more: the process is about to say how to go on, and to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def resume_command(command: str, args: Sequence[str], out: str) -> str:
    """The command line that goes on where this one was stopped.

    >>> resume_command("run", ["split", "ewc", "--force"], "a b")
    "retain run split ewc --out 'a b' --resume"
    """
    words = [a for a in args if a not in ("--force", "--resume")]
    if not any(a == "--out" or a.startswith("--out=") for a in words):
        words += ["--out", out]
    return shlex.join(["retain", command, *words, "--resume"])
