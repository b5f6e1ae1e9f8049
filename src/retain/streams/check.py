"""What makes a task fit for a stream; each refusal names the task."""

from __future__ import annotations

import torch
from torch import Tensor

from retain.examples import Examples, Union
from retain.types import Task

_CHUNK = 8192  # rows looked at in one go


def check_task(task: Task, num_classes: int, like: Task) -> None:
    """Raise ValueError unless `task` has samples, labels and inputs as they must be.

    Args:
        task: the one to check.
        num_classes: outputs of the network.
        like: the stream's first task, whose shape and dtype all others must have.
    """
    where = f"task {task.index + 1} ({task.name!r})"
    if task.index < 0:
        raise ValueError(
            f"task {task.name!r}: its index is hidden; a stream holds tasks that know their number"
        )
    if task.test is None:
        raise ValueError(f"{where}: no test set; a stream's task needs one")
    if list(task.classes) != sorted(set(task.classes)):
        raise ValueError(f"{where}: classes {task.classes} must be ascending, each once")
    for split, examples in (("train", task.train), ("test", task.test), ("validation", task.validation)):
        if examples is not None:
            _check(f"{where}, {split}", examples, task.classes, num_classes, like)


def _check(
    where: str, examples: Examples | Union, classes: tuple[int, ...], num_classes: int, like: Task
) -> None:
    parts = examples.parts
    if not parts or any(len(part) == 0 for part in parts):
        raise ValueError(f"{where}: no samples; it needs at least one")
    first = like.train.parts[0]
    for part in parts:
        if len(part.x) != len(part.y):
            raise ValueError(
                f"{where}: {len(part.x)} rows of x, but {len(part.y)} labels; each x needs a label"
            )
        if part.rows is not None and not 0 <= int(part.rows.min()) <= int(part.rows.max()) < len(part.x):
            raise ValueError(f"{where}: it names rows outside the {len(part.x)} that are stored")
        if part.x.dtype != first.x.dtype or part.shape != first.shape:
            raise ValueError(
                f"{where}: examples are {part.x.dtype} {list(part.shape)}, but the stream's first task has "
                f"{first.x.dtype} {list(first.shape)}; all must be alike"
            )
        _check_labels(where, part.labels(), classes, num_classes)
        _check_finite(where, part)


def _check_labels(where: str, y: Tensor, classes: tuple[int, ...], num_classes: int) -> None:
    if y.dtype != torch.int64 or y.dim() != 1:
        raise ValueError(f"{where}: labels are {y.dtype} {list(y.shape)}; they must be int64 of shape [N]")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{where}: label {low if low < 0 else high} is outside 0 to {num_classes - 1}, "
            f"the stream's {num_classes} classes"
        )
    strange = y[~torch.isin(y, torch.tensor(classes))]
    if len(strange):
        raise ValueError(f"{where}: label {int(strange[0])} is not among the task's classes {classes}")


def _check_finite(where: str, examples: Examples) -> None:
    if not examples.x.is_floating_point():
        return
    for index in torch.split(torch.arange(len(examples)), _CHUNK):
        x = examples.stored(index).flatten(1)
        if x.sum().isfinite():  # quick: NaN and infinity survive a sum; one that overflows is looked at below
            continue
        good = x.isfinite().all(1)
        if not good.all():
            bad = int(index[~good][0])
            raise ValueError(f"{where}: example {bad} holds NaN or infinity (in {x.dtype}); clean it first")
