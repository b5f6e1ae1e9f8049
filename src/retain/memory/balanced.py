"""Equal room for every class of every task (Chrysakis & Moens 2020, algorithm 1).

Balanced over pairs of task and class, not over classes alone: in a domain-incremental stream every
task has the same classes, and a memory that is full of the first task's would have no room left.
Targets that name no class, of several labels or numbers, are all of one class.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from retain.losses import classes_of
from retain.memory.mapped import Mapped
from retain.memory.slots import Slots
from retain.types import Batch


class Balanced(NamedTuple):
    """The largest group gives way to the others; within a group, a uniform sample or the newest ones."""

    slots: Slots | Mapped
    group: Tensor  # [capacity] int64: which group each slot belongs to
    born: Tensor  # [capacity] int64: the how-manieth example of all is in it
    seen: dict[str, int]  # group -> examples offered
    newest: bool  # each group is a ring: its newest ones, the oldest give way

    @classmethod
    def like(cls, batch: Batch, capacity: int, newest: bool = False) -> Balanced:
        """An empty memory for examples such as those of the batch."""
        return cls.over(Slots.like(batch, capacity), newest)

    @classmethod
    def over(cls, slots: Slots | Mapped, newest: bool = False) -> Balanced:
        """The same, in slots that are still empty."""
        none = slots.x.new_zeros(slots.capacity, dtype=torch.int64)
        return cls(slots, none, none.clone(), {}, newest)

    def add(self, batch: Batch, group: int, rng: Generator) -> Balanced:
        """Offer the batch, in place; `group` is the number of the task being learned."""
        capacity, n = self.slots.capacity, len(batch.y)
        if capacity == 0:
            return self
        members: dict[int, list[int]] = {}  # of each group its slots, the oldest first
        groups = self.group.tolist()
        for slot in self.born[: self.slots.filled].argsort().tolist():
            members.setdefault(groups[slot], []).append(slot)
        # A ring is where the first in line, the oldest, always gives way.
        u = [[0.0, 0.0]] * n if self.newest else torch.rand(n, 2, generator=rng, dtype=torch.float64).tolist()
        filled, before = self.slots.filled, sum(self.seen.values())
        slots: list[int] = []
        rows: list[int] = []
        for r, y in enumerate(classes_of(batch.y).tolist()):
            g = (group << 32) + y
            self.seen[str(g)] = self.seen.get(str(g), 0) + 1
            place = _place(members, g, filled, capacity, self.seen[str(g)], u[r])
            if place is None:
                continue
            filled = max(filled, place + 1)
            self.group[place], self.born[place] = g, before + r
            slots.append(place)
            rows.append(r)
        return self._replace(slots=self.slots.put(slots, batch, rows))

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


def _place(
    members: dict[int, list[int]], g: int, filled: int, capacity: int, seen: int, u: list[float]
) -> int | None:
    """The slot that the `seen`-th example of group g goes into, or None; `members` is kept up."""
    mine = members.setdefault(g, [])
    if filled < capacity:
        mine.append(filled)
        return filled
    largest = max(members, key=lambda k: len(members[k]))
    # One fewer than the largest counts as full too: two such groups would take each other's slots in
    # turn, and each would end with its newest examples instead of a uniform sample.
    if mine and len(mine) >= len(members[largest]) - 1:
        at = int(u[0] * seen)
        if at >= len(mine):
            return None
        mine.append(mine.pop(at))
        return mine[-1]
    losers = members[largest]
    slot = losers.pop(int(u[1] * len(losers)))
    mine.append(slot)
    return slot
