"""The last examples seen, older ones overwritten in turn (GEM's memory)."""

from __future__ import annotations

from typing import NamedTuple

from retain.memory.slots import Slots
from retain.types import Batch


class Ring(NamedTuple):
    """The last `capacity` examples."""

    slots: Slots
    seen: int

    @classmethod
    def like(cls, batch: Batch, capacity: int) -> Ring:
        """An empty ring for examples such as those of the batch."""
        return cls(Slots.like(batch, capacity), 0)

    def add(self, batch: Batch) -> Ring:
        """Remember the batch, in place."""
        capacity, n = len(self.slots.y), len(batch.y)
        if capacity == 0:
            return self
        rows = list(range(max(0, n - capacity), n))
        slots = self.slots.put([(self.seen + r) % capacity for r in rows], batch, rows)
        return Ring(slots, self.seen + n)
