"""What a loop hands over of its data, as a task; and what a file says of it."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from retain.checkpoint import BadCheckpoint
from retain.examples import Examples, Union
from retain.streams.own import SizedDataset, examples_of, read_dataset
from retain.types import Task

Data = Task | Examples | Union | SizedDataset | DataLoader[Any] | tuple[Any, Any]


def task_of(data: Data, index: int) -> Task:
    """The training data of a task as that task, under this number unless it has one.

    Raises:
        ValueError: data of another kind, or arrays that do not fit together.
    """
    if isinstance(data, Task):
        return data
    examples = data if isinstance(data, Examples | Union) else _read(data, index)
    if len(examples) == 0:
        raise ValueError(f"task {index + 1}: no samples; a task needs at least one")
    return Task(index, str(index), examples, None, None, tuple(examples.labels().unique().tolist()))


def _read(data: Any, index: int) -> Examples:
    data = data.dataset if isinstance(data, DataLoader) else data
    if not isinstance(data, tuple | list):
        if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
            kind = type(data).__name__
            raise ValueError(f"begin_task takes (x, y), a map-style Dataset or Examples, got a {kind}")
        data = read_dataset(data, index, "train")
    if len(data) != 2:
        raise ValueError(f"begin_task takes a pair (x, y), got {len(data)} values")
    x, y, *_ = examples_of((*data, *data), index)
    return Examples(x, y)


def named(index: int, classes: tuple[int, ...]) -> Task:
    """A task of which no more is known."""
    nothing = Examples(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64))
    return Task(index, str(index), nothing, None, None, tuple(classes))


def like(examples: Examples | Union) -> dict[str, Any]:
    """What one example is like, in plain data."""
    part = examples.parts[0]
    return {"shape": list(part.shape), "dtype": str(part.x.dtype), "normalise": part.normalise}


def blank(plain: dict[str, Any]) -> Examples:
    """One example of zeros that is like this.

    Raises:
        BadCheckpoint: it says nothing that an example could be like.
    """
    dtype = getattr(torch, str(plain.get("dtype")).removeprefix("torch."), None)
    shape, normalise = plain.get("shape"), plain.get("normalise")
    if not isinstance(dtype, torch.dtype) or not (
        isinstance(shape, list) and all(type(n) is int and 0 <= n < 2**24 for n in shape)
    ):
        raise BadCheckpoint(f"an example cannot be like {plain!r}: the file is damaged")
    x, y = torch.zeros(1, *shape, dtype=dtype), torch.zeros(1, dtype=torch.int64)
    return Examples(x, y, normalise=normalise)
