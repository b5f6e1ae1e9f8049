"""A uniform sample of all examples seen (Vitter 1985, algorithm R)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from retain.memory.mapped import Mapped
from retain.memory.slots import Slots
from retain.types import Batch


class Reservoir(NamedTuple):
    """Each example seen so far is held with the same probability, capacity / seen."""

    slots: Slots | Mapped
    seen: int

    @classmethod
    def like(cls, batch: Batch, capacity: int) -> Reservoir:
        """An empty reservoir for examples such as those of the batch."""
        return cls(Slots.like(batch, capacity), 0)

    def add(self, batch: Batch, group: int, rng: Generator) -> Reservoir:
        """Offer the batch to the sample, in place; `group` plays no part here."""
        return self.take(batch, rng)[0]

    def take(self, batch: Batch, rng: Generator) -> tuple[Reservoir, Tensor]:
        """The same, and the slot that each row went into: int64 [N], -1 where it was not kept."""
        capacity, n = self.slots.capacity, len(batch.y)
        where = torch.full((n,), -1)
        if capacity == 0:
            return self, where
        u = torch.rand(n, generator=rng, dtype=torch.float64).tolist()
        slots, rows = [], []
        for r in range(n):
            number = self.seen + r
            slot = number if number < capacity else int(u[r] * (number + 1))
            if slot < capacity:
                slots.append(slot)
                rows.append(r)
        last = dict(zip(slots, rows, strict=True))
        where[list(last.values())] = torch.tensor(list(last), dtype=torch.int64)
        return Reservoir(self.slots.put(slots, batch, rows), self.seen + n), where

    @property
    def filled(self) -> int:
        """How many examples it holds."""
        return self.slots.filled

    def draw(self, n: int, rng: Generator) -> Batch:
        """n of the examples held."""
        return self.slots.draw(n, rng)

    def all(self) -> Batch:
        """The examples held."""
        return self.slots.all()
