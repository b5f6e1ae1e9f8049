"""Examples together with what the network said of them (Buzzega et al. 2020)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from retain.memory.reservoir import Reservoir
from retain.types import Batch


class Dark(NamedTuple):
    """A reservoir of examples, each with the logits that it had in the step in which it was new."""

    reservoir: Reservoir
    z: Tensor  # [capacity, C]
    slot: Tensor  # [N] int64: where the batch added last went; -1 where an example was not kept

    @classmethod
    def like(cls, batch: Batch, z: Tensor) -> Dark:
        """An empty memory for examples such as those of the batch; its logits will be written into z."""
        return cls(Reservoir.like(batch, len(z)), z, batch.y.new_zeros(0, dtype=torch.int64))

    @property
    def filled(self) -> int:
        """How many examples it holds."""
        return self.reservoir.slots.filled

    def add(self, batch: Batch, rng: Generator) -> Dark:
        """Offer the batch, in place; what is kept of it has no logits until `note`."""
        reservoir, slot = self.reservoir.take(batch, rng)
        return Dark(reservoir, self.z, slot.to(self.z.device))

    def note(self, logits: Tensor) -> None:
        """Write the logits [N, C] of the batch that was added last."""
        kept = self.slot >= 0
        self.z[self.slot[kept]] = logits.detach()[kept]

    def draw(self, n: int, rng: Generator) -> tuple[Batch, Tensor]:
        """n of the examples held and their logits [n, C]."""
        i = self.reservoir.slots.pick(n, rng)
        return self.reservoir.slots.at(i), self.z[i]
