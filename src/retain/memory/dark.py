"""Examples together with what the network said of them (Buzzega et al. 2020)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor

from retain.memory.reservoir import Reservoir
from retain.types import Batch, Params, Problem


class Dark(NamedTuple):
    """A reservoir of examples, each with the logits that it had in the step in which it was new."""

    reservoir: Reservoir
    z: Tensor  # [capacity, C]
    slot: Tensor  # [N] int64: where the batch added last went; -1 where an example was not kept

    @classmethod
    def like(cls, batch: Batch, z: Tensor) -> Dark:
        """An empty memory for examples such as those of the batch; its logits will be written into z."""
        return cls(Reservoir.like(batch, len(z)), z, batch.y.new_zeros(0, dtype=torch.int64))

    @classmethod
    def empty(cls, problem: Problem, params: Params, batch: Batch, capacity: int) -> Dark:
        """The same with room for the logits of a network, in the dtype of its weights."""
        return cls.like(batch, params[problem.spec.names[0]].new_zeros(capacity, problem.spec.classes))

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

    def gap(self, batch: Batch, logits: Tensor) -> Tensor | None:
        """The mean of (z' - h(x'))^2 over what is replayed and its outputs; None where nothing is.

        Of the logits [N, C] those of new examples come first: they are noted. Next come those of what is
        replayed, whose z' are in the batch's extras.
        """
        n = len(self.slot)
        self.note(logits[:n])
        if "z" not in batch.extra:
            return None
        z = batch.extra["z"]
        return nnf.mse_loss(logits[n : n + len(z)], z)

    def draw(self, n: int, rng: Generator) -> tuple[Batch, Tensor]:
        """n of the examples held and their logits [n, C]."""
        i = self.reservoir.slots.pick(n, rng)
        return self.reservoir.slots.at(i), self.z[i]
