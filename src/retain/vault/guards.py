"""Held-out sets that guard what was learned: taken from each update, and shrunk together to one byte budget.

There are no more of them than a bound: beyond it neighbours are joined, so that judging an update takes as long
after a thousand of them as after forty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from retain.seeds import generator
from retain.vault.errors import VaultError


class Guard(NamedTuple):
    """Examples of one update, or of several in a row, that no version was trained on."""

    name: str  # of the update, or of the first and the last; no other guard has it
    x: Tensor  # [N, ...] as stored: uint8 or float32
    y: Tensor  # int64 [N]; float [N, K] where numbers or several labels are predicted
    numbers: Tensor  # int64 [N]: of the update that each is from, from 0

    @classmethod
    def of(cls, name: str, x: Tensor, y: Tensor, number: int) -> Guard:
        """Of one update."""
        return cls(name, x, y, torch.full((len(y),), number))

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(t.numel() * t.element_size() for t in (self.x, self.y, self.numbers))

    def part(self, rows: Tensor) -> Guard:
        """Some of its examples, in memory of their own."""
        return Guard(self.name, self.x[rows].clone(), self.y[rows].clone(), self.numbers[rows].clone())


def hold_out(y: Tensor, size: int | float, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows to guard, each ascending: every class in proportion, and never all of it.

    Args:
        y: the targets, int64 [N]: classes; or float [N, K], held out without regard to their values.
        size: rows to guard, an int >= 1; or a share of them in (0, 1), rounded to the nearest number of rows.
            Fewer are held out where the classes are too small to give as many: a class keeps an example at least.
        seed: of the choice.

    >>> [t.tolist() for t in hold_out(torch.tensor([0, 0, 0, 0, 1, 1]), 3, seed=0)]
    [[2, 3, 5], [0, 1, 4]]
    >>> [len(t) for t in hold_out(torch.arange(1000) % 7, 0.2, seed=0)]
    [800, 200]

    Raises:
        VaultError: a size outside its range.
    """
    if isinstance(size, bool) or not (size >= 1 if isinstance(size, int) else 0 < size < 1):
        raise VaultError(f"a guard's size must be a number of examples >= 1 or a share in (0, 1), got {size}")
    groups = _groups(y, generator(seed, "guard"))
    wanted = size if isinstance(size, int) else round(size * len(y))
    counts = _dealt([max(len(g) - 1, 0) for g in groups], wanted)
    held = torch.cat(
        [torch.zeros(0, dtype=torch.int64), *(g[:k] for g, k in zip(groups, counts, strict=True))]
    )
    train = torch.ones(len(y), dtype=torch.bool)
    train[held] = False
    return train.nonzero()[:, 0], held.sort().values


def within_budget(guards: list[Guard], budget: int) -> list[Guard]:
    """The same guards in at most `budget` bytes: the largest give way first, down to one common size.

    What stays of a guard is a part of it, in its order, with every class in proportion: a guard only ever
    shrinks. The same guards and budget give the same parts.

    Args:
        guards: in any order, which is kept; one without examples takes nothing.
        budget: bytes of all tensors together.

    Raises:
        VaultError: not one example of each guard fits.
    """
    level = _level([g.nbytes for g in guards], budget)
    rows = [level * len(g.y) // g.nbytes if g.nbytes > level else len(g.y) for g in guards]
    if any(n == 0 and len(g.y) for n, g in zip(rows, guards, strict=True)):
        need = sum(-(-g.nbytes // len(g.y)) for g in guards if len(g.y))
        raise VaultError(
            f"{budget} bytes are too few for an example of each of {len(guards)} guards: give them {need} or more"
        )
    return [_part(g, n) for g, n in zip(guards, rows, strict=True)]


def _level(sizes: list[int], budget: int) -> int:
    """The size to which the larger ones shrink so that all together keep to the budget."""
    left = budget
    for done, size in enumerate(ordered := sorted(sizes)):
        if size * (len(ordered) - done) > left:
            return left // (len(ordered) - done)
        left -= size
    return max(sizes, default=0)


def _part(g: Guard, n: int) -> Guard:
    """n examples of a guard."""
    if n == len(g.y):
        return g
    groups = _groups(g.y, generator(len(g.y), "guard", g.name))
    counts = _dealt([len(c) for c in groups], n)
    rows = torch.cat([c[:k] for c, k in zip(groups, counts, strict=True)]).sort().values
    return g.part(rows)


def joined(guards: Sequence[Guard], most: int, updates: Sequence[str]) -> list[Guard]:
    """The same examples in at most `most` guards: two neighbours of the fewest updates become one, oldest first.

    Args:
        guards: in the order of their updates; the last one, the newest, stays by itself.
        most: >= 2.
        updates: the names of all updates.

    >>> one = torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64)
    >>> months = ["jan", "feb", "mar", "apr", "may"]
    >>> [g.name for g in joined([Guard.of(m, *one, i) for i, m in enumerate(months)], 3, months)]
    ['jan to feb', 'mar to apr', 'may']
    """
    found = list(guards)
    counts = [len(g.numbers.unique()) for g in found]
    while len(found) > max(most, 2):
        i = min(range(len(found) - 2), key=lambda i: counts[i] + counts[i + 1])
        pair, taken = found[i : i + 2], {*updates, *(g.name for g in found)}
        name = f"{updates[int(pair[0].numbers.min())]} to {updates[int(pair[1].numbers.max())]}"
        while name in taken:
            name += "'"
        found[i : i + 2] = [Guard(name, *(torch.cat(t) for t in list(zip(*pair, strict=True))[1:]))]
        counts[i : i + 2] = [sum(counts[i : i + 2])]
    return found


def _groups(y: Tensor, rng: torch.Generator) -> list[Tensor]:
    """The rows of each class, in random order; all rows where the targets are no classes."""
    order = torch.randperm(len(y), generator=rng)
    return [order] if y.dim() > 1 else [order[y[order] == c] for c in y.unique().tolist()]


def _dealt(sizes: list[int], total: int) -> list[int]:
    """`total`, or all there is, dealt in proportion to sizes; one to each that has one, where that many are dealt.

    Whole numbers by the largest remainders; of equal ones the first is rounded up.

    >>> _dealt([10, 10, 1], 5), _dealt([10, 10, 1], 2), _dealt([4, 4], 100)
    ([2, 2, 1], [1, 1, 0], [4, 4])
    """
    whole = sum(sizes)
    total = min(total, whole)
    exact = [total * n / whole if whole else 0.0 for n in sizes]
    counts = [int(e) for e in exact]
    remainders = sorted(range(len(sizes)), key=lambda i: counts[i] - exact[i])
    for i in remainders[: total - sum(counts)]:
        counts[i] += 1
    if total >= sum(n > 0 for n in sizes):
        for i in (i for i, n in enumerate(sizes) if n and not counts[i]):
            counts[counts.index(max(counts))] -= 1
            counts[i] = 1
    return counts
