"""Rows of examples kept for later."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from retain.types import Batch


class Slots(NamedTuple):
    """Room for `capacity` examples, of which the first `filled` are real."""

    x: Tensor  # [capacity, ...]
    y: Tensor  # [capacity]
    task: Tensor  # [capacity]
    filled: int

    @classmethod
    def like(cls, batch: Batch, capacity: int) -> Slots:
        """Empty slots for examples such as those of the batch."""
        return cls(
            batch.x.new_zeros(capacity, *batch.x.shape[1:]),
            batch.y.new_zeros(capacity, *batch.y.shape[1:]),
            batch.task.new_zeros(capacity),
            0,
        )

    @property
    def capacity(self) -> int:
        """How many examples there is room for."""
        return len(self.y)

    def put(self, slots: list[int], batch: Batch, rows: list[int]) -> Slots:
        """Write the batch's `rows` into `slots`, in place; where a slot comes twice the later row stays."""
        last = dict(zip(slots, rows, strict=True))
        if not last:
            return self
        # not blocking: a GPU is not waited for
        to = torch.tensor(list(last)).to(self.x.device, non_blocking=True)
        of = torch.tensor(list(last.values())).to(batch.x.device, non_blocking=True)
        for mine, new in ((self.x, batch.x), (self.y, batch.y), (self.task, batch.task)):
            mine.index_copy_(0, to, new.index_select(0, of))  # quicker than mine[to] = new[of], as is `at`
        return self._replace(filled=max(self.filled, 1 + max(last)))

    def draw(self, n: int, rng: Generator) -> Batch:
        """n of the filled slots, uniformly: without replacement as far as they go."""
        return self.at(self.pick(n, rng))

    def pick(self, n: int, rng: Generator) -> Tensor:
        """Which slots `draw` gives: [n]."""
        return pick(n, self.filled, rng).to(self.x.device, non_blocking=True)

    def at(self, i: Tensor) -> Batch:
        """What lies in the slots i [n]."""
        return Batch(self.x.index_select(0, i), self.y.index_select(0, i), self.task.index_select(0, i))

    def all(self) -> Batch:
        """The filled slots, and no row that was never written."""
        return Batch(self.x[: self.filled], self.y[: self.filled], self.task[: self.filled])


def pick(n: int, held: int, rng: Generator) -> Tensor:
    """n of the numbers below `held`, uniformly: without replacement as far as they go."""
    if n <= held:
        return torch.randperm(held, generator=rng)[:n]
    return torch.randint(held, (n,), generator=rng)
