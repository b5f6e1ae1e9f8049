"""Notices a loss that has become NaN or infinite without asking the device at every step."""

from __future__ import annotations

import torch
from torch import Tensor

EVERY = 100  # steps between two readings on the host


class Diverged(RuntimeError):
    """Training ran out of all bounds; `task` and `step` count from 1."""

    def __init__(self, what: str, task: int, step: int, reason: str):
        self.task, self.step = task, step
        super().__init__(f"{what} at task {task}, step {step}: {reason}")


class Watch:
    """The losses of the last steps, each a scalar where it was computed."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def note(self, loss: Tensor) -> bool:
        """Keep a loss; whether it is time to look."""
        self.losses.append(loss)
        return len(self.losses) >= EVERY

    def first_bad(self) -> int | None:
        """How many steps ago the first bad loss was (1: the last step), or None; starts afresh."""
        noted, self.losses = self.losses, []
        if not noted:
            return None
        bad = (~torch.stack(noted).isfinite()).nonzero()
        return len(noted) - int(bad[0]) if len(bad) else None
