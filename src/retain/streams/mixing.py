"""Tasks that come back, and tasks whose edges are blurred: a list of tasks made into another.

Both need no order within a segment, which a run shuffles anyway (`Order`): what a segment's training
set holds is all there is to it. Tests and validation sets stay those of the pure task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch

from retain.examples import Examples, Union
from retain.seeds import generator
from retain.types import Task


def repeated(tasks: Sequence[Task], repeats: int, seed: int) -> list[Task]:
    """Round and round: T tasks become T * repeats, visit i being task i mod T again.

    The training examples of a task are dealt at random among its visits, so that each is seen in
    exactly one. A visit has a number and a name of its own, "A (2)" for the second to A.

    Raises:
        ValueError: a task has fewer examples than visits.
    """
    if repeats == 1:
        return list(tasks)
    made = []
    for visit in range(repeats):
        for t, task in enumerate(tasks):
            n = len(task.train)
            if n < repeats:
                raise ValueError(
                    f"repeats must be at most {n}, the examples of task {task.name!r}, got {repeats}"
                )
            dealt = torch.randperm(n, generator=generator(seed, "visits", t)).tensor_split(repeats)
            name = task.name if visit == 0 else f"{task.name} ({visit + 1})"
            index = visit * len(tasks) + t
            made.append(replace(task, index=index, name=name, train=_some(task.train, dealt[visit])))
    return made


def blurred(tasks: Sequence[Task], blur: float, seed: int) -> list[Task]:
    """Each segment exchanges a share of its training examples with its neighbours.

    Of the examples of a segment, blur / 2 change places with as many of the segment before and
    blur / 2 with as many of the one after; the first and the last have one neighbour and exchange
    half as many. No example is lost or doubled. The classes of a segment are then all that occur in it.
    """
    if blur == 0 or len(tasks) == 1:
        return list(tasks)
    share = [int(len(task.train) * blur / 2) for task in tasks]
    over = [min(a, b) for a, b in pairwise(share)]  # across each edge, either way
    before, after = [0, *over], [*over, 0]
    drawn = [
        torch.randperm(len(task.train), generator=generator(seed, "blur", i)).split(
            [b, a, len(task.train) - a - b]
        )
        for i, (task, b, a) in enumerate(zip(tasks, before, after, strict=True))
    ]
    made = []
    for i, task in enumerate(tasks):
        parts = [_some(task.train, drawn[i][2])]
        if before[i]:
            parts.append(_some(tasks[i - 1].train, drawn[i - 1][1]))
        if after[i]:
            parts.append(_some(tasks[i + 1].train, drawn[i + 1][0]))
        occur = {int(c) for part in parts for c in part.labels().unique()}
        classes = tuple(sorted(occur | set(task.classes)))
        made.append(replace(task, train=Union(tuple(parts)), classes=classes))
    return made


def _some(examples: Examples | Union, which: torch.Tensor) -> Examples:
    """Those of a builder's set, which is one piece, in ascending order."""
    assert isinstance(examples, Examples)
    return examples.subset(which.sort().values)
