"""Anybody's arrays and datasets, made into tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from retain.examples import Examples
from retain.seeds import generator
from retain.types import Task

AHEAD = 64  # items that a worker reads at a time

Array = Tensor | np.ndarray[Any, Any]
Arrays = tuple[Array, Array, Array, Array]  # x_train, y_train, x_test, y_test


class SizedDataset(Protocol):
    """A map-style Dataset: items (x, label) by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


def examples_of(arrays: Sequence[Array], task: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four arrays of a task as CPU tensors: x uint8 or float, y int64."""
    where = f"task {task + 1}"
    if len(arrays) != 4:
        raise ValueError(f"{where}: {len(arrays)} arrays; it needs (x_train, y_train, x_test, y_test)")
    x_train, y_train, x_test, y_test = arrays
    x1, y1 = _inputs(x_train, f"{where}: x_train"), _labels(y_train, f"{where}: y_train")
    x2, y2 = _inputs(x_test, f"{where}: x_test"), _labels(y_test, f"{where}: y_test")
    for x, y, split in ((x1, y1, "train"), (x2, y2, "test")):
        if len(x) != len(y):
            raise ValueError(
                f"{where}: x_{split} has {len(x)} rows, but y_{split} {len(y)}; each x needs a label"
            )
    return x1, y1, x2, y2


def _inputs(values: Array, what: str) -> Tensor:
    x = _tensor(values, what)
    if x.dim() < 2:
        raise ValueError(
            f"{what} has shape {list(x.shape)}; it must be [N, ...], each example at least a vector"
        )
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise ValueError(
            f"{what} is {x.dtype}; it must be floating point, or uint8 (which is read as x / 255): convert it"
        )
    return x.to(torch.get_default_dtype())


def _labels(values: Array, what: str) -> Tensor:
    y = _tensor(values, what)
    if y.dim() != 1 or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise ValueError(f"{what} is {y.dtype} {list(y.shape)}; labels must be integers of shape [N]")
    return y.to(torch.int64)


def _tensor(values: Array, what: str) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{what} must be a torch tensor or a NumPy array, got {type(values).__name__}")
    if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
        raise ValueError(
            f"{what} has NumPy dtype {values.dtype}; it must hold real numbers of at most 8 bytes"
        )
    values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def _items(dataset: SizedDataset, workers: int) -> Iterator[Any]:
    """All items in order; with workers, read by as many processes, some batches ahead."""
    if workers == 0:
        yield from (dataset[i] for i in range(len(dataset)))
        return
    loader: Any = DataLoader(dataset, AHEAD, num_workers=workers, collate_fn=list)  # type: ignore[arg-type]
    for portion in loader:
        # cloned: what a worker sends holds a file open for as long as it lives
        yield from (
            tuple(v.clone() if isinstance(v, Tensor) else v for v in item)
            if isinstance(item, tuple | list)
            else item
            for item in portion
        )


def read_dataset(dataset: SizedDataset, task: int, split: str, workers: int = 0) -> tuple[Tensor, Tensor]:
    """All of a dataset as x [N, ...] and y [N]."""
    where = f"task {task + 1}: {split}"
    xs, ys = [], []
    for i, item in enumerate(_items(dataset, workers)):
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(f"{where}: item {i} is a {type(item).__name__}; it must be a pair (x, label)")
        xs.append(_tensor(item[0], f"{where}: x of item {i} (torchvision: use transforms.ToTensor())"))
        if xs[-1].shape != xs[0].shape or xs[-1].dtype != xs[0].dtype:
            raise ValueError(
                f"{where}: item {i} is {xs[-1].dtype} {list(xs[-1].shape)}, but item 0 "
                f"{xs[0].dtype} {list(xs[0].shape)}; all must be alike"
            )
        ys.append(_label(item[1], f"{where}: label of item {i}"))
    if not xs:
        raise ValueError(f"{where}: no samples; a task needs at least one")
    return torch.stack(xs), torch.tensor(ys)


def _label(value: object, what: str) -> int:
    number = torch.as_tensor(value).tolist() if isinstance(value, Tensor | np.generic | np.ndarray) else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"{what} is {value!r}; it must be one integer")
    return number


def tasks_of(
    sets: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], names: Sequence[str], validation: int, seed: int
) -> tuple[Task, ...]:
    """Tasks of (x_train, y_train, x_test, y_test), `validation` examples of each taken off train."""
    tasks = []
    for t, (x_train, y_train, x_test, y_test) in enumerate(sets):
        train, held = Examples(x_train, y_train), None
        if validation:
            kept, out = hold_out(len(y_train), validation, generator(seed, "validation", t), f"task {t + 1}")
            train, held = train.subset(kept), train.subset(out)
        classes = tuple(np.unique(torch.cat([y_train, y_test]).numpy()).tolist())
        tasks.append(Task(t, names[t], train, Examples(x_test, y_test), held, classes))
    return tuple(tasks)


def hold_out(n: int, validation: int, rng: torch.Generator, what: str) -> tuple[Tensor, Tensor]:
    """Positions 0 to n - 1 in two ascending parts: those to train on, and `validation` others."""
    if not 0 <= validation < n:
        raise ValueError(
            f"{what}: validation must be from 0 to {n - 1}, all training samples but one; got {validation}"
        )
    if validation == 0:
        return torch.arange(n), torch.arange(0)
    order = torch.randperm(n, generator=rng)
    return order[validation:].sort().values, order[:validation].sort().values
