"""Exemplars: the few examples of a class whose mean feature stays closest to that of them all."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor

from retain.examples import Examples, Union
from retain.losses import classes_of
from retain.memory.slots import Slots
from retain.types import Batch, Params, Problem, Task

CHUNK = 1000  # examples whose features are computed at a time


def herd(features: Tensor, k: int) -> Tensor:
    """Which min(k, n) of the features [n, D] to keep, best first: any beginning of it is the best of its size.

    Greedy: the i-th makes ||mu - 1/i (f + sum of those before)|| smallest, with f of length 1 and mu
    the mean of all f (Welling 2009; Rebuffi et al. 2017, algorithm 4). No example is taken twice.

    >>> herd(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]), 1)
    tensor([1])
    """
    f = nnf.normalize(features, dim=1)
    mu = f.mean(0)
    square = (f * f).sum(1)  # 1, but for a feature that is zero
    left = torch.zeros_like(mu)  # i mu - the sum of those chosen
    chosen: list[Tensor] = []
    for _ in range(min(k, len(f))):
        left = left + mu
        best = (square - 2 * (f @ left)).argmin()
        square[best] = torch.inf
        left = left - f[best]
        chosen.append(best)
    return torch.stack(chosen) if chosen else torch.zeros(0, dtype=torch.int64, device=f.device)


def herded(
    problem: Problem, params: Params, examples: Examples | Union, task: int, k: int
) -> tuple[Batch, ...]:
    """The k exemplars, best first, of each class among the examples, by the network's features.

    `task` is what they are remembered to be from: its number, or HIDDEN. Classes ascend.
    """
    labels, device = examples.labels(), problem.spec.device
    sets = []
    for c in labels.unique().tolist():
        rows = (labels == c).nonzero()[:, 0]
        f = [problem.features(params, examples.batch(i)[0].to(device)) for i in rows.split(CHUNK)]
        x, y = (t.to(device) for t in examples.batch(rows[herd(torch.cat(f), k).to(rows.device)]))
        sets.append(Batch(x, y, torch.full_like(y, task)))
    return tuple(sets)


def drawn(task: Task, k: int, rng: Generator, device: torch.device) -> tuple[Batch, ...]:
    """k examples, drawn at random, of each class of the task; classes ascend. Without classes: of all."""
    labels = classes_of(task.train.labels())
    order = torch.randperm(len(labels), generator=rng).to(labels.device)
    return tuple(task.batch(order[labels[order] == c][:k], device) for c in labels.unique().tolist())


def class_means(problem: Problem, params: Params, exemplars: Batch) -> Tensor:
    """The mean feature of each class's exemplars, features and means of length 1: [C, D], 0 where none."""
    f = torch.cat([nnf.normalize(problem.features(params, x), dim=1) for x in exemplars.x.split(CHUNK)])
    sums = f.new_zeros(problem.spec.classes, f.shape[1]).index_add_(0, exemplars.y, f)
    return nnf.normalize(sums, dim=1)


class Exemplars(NamedTuple):
    """Sets of exemplars, each best first, that shrink as sets are added: one set a class and task."""

    x: Tensor  # [n, ...], set after set
    y: Tensor  # [n]
    task: Tensor  # [n]
    sizes: tuple[int, ...]  # of each set
    capacity: int  # exemplars in all, shared equally by the sets; of each set if `each`
    each: bool

    @classmethod
    def like(cls, batch: Batch, capacity: int, each: bool = False) -> Exemplars:
        """No exemplars, of examples such as those of the batch."""
        return cls(batch.x[:0].clone(), batch.y[:0].clone(), batch.task[:0].clone(), (), capacity, each)

    def room(self, new: int) -> int:
        """How many exemplars the largest set may have once there are `new` more sets."""
        return self.capacity if self.each else -(-self.capacity // max(1, len(self.sizes) + new))

    def add(self, sets: tuple[Batch, ...]) -> Exemplars:
        """With these sets too, each best first; every set gives up its last ones to make room."""
        old = [t.split(self.sizes) for t in (self.x, self.y, self.task)] if self.sizes else []
        whole = [*(Batch(*parts) for parts in zip(*old, strict=True)), *sets]
        share, more = (self.capacity, 0) if self.each else divmod(self.capacity, max(1, len(whole)))
        kept = [(b, min(len(b.y), share + (i < more))) for i, b in enumerate(whole)]
        if not kept:
            return self
        return self._replace(
            x=torch.cat([b.x[:n] for b, n in kept]),
            y=torch.cat([b.y[:n] for b, n in kept]),
            task=torch.cat([b.task[:n] for b, n in kept]),
            sizes=tuple(n for _, n in kept),
        )

    @property
    def filled(self) -> int:
        """How many exemplars it holds."""
        return len(self.y)

    def all(self) -> Batch:
        """Every exemplar."""
        return Batch(self.x, self.y, self.task)

    def draw(self, n: int, rng: Generator) -> Batch:
        """n of them, uniformly: without replacement as far as they go."""
        return Slots(self.x, self.y, self.task, len(self.y)).draw(n, rng)
