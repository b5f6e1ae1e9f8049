"""One data set of images, from which a builder takes its tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retain.examples import Examples
from retain.seeds import generator
from retain.streams.arrange import Arrange, Pad, Then
from retain.streams.own import hold_out
from retain.streams.sources import KINDS, Data, Kind, load
from retain.types import Task

PADDED = 32


@dataclass(frozen=True, eq=False)
class Images:
    """All images, read in one way, and how many of them a task gets."""

    kind: Kind
    train: tuple[Tensor, Tensor]  # uint8 [N, C, H, W] and int64 [N]
    test: tuple[Tensor, Tensor]
    side: int  # of an image once it is padded
    normalise: tuple[float, float] | None
    samples: int | None
    test_samples: int | None
    validation: int
    seed: int

    @staticmethod
    def of(config: dict[str, Any]) -> Images:
        """The data set and the numbers that a builder's options name."""
        for name, low in (("samples", 1), ("test_samples", 1), ("validation", 0), ("seed", 0)):
            value = config[name]
            optional = name in ("samples", "test_samples")
            if not (optional and value is None) and (
                isinstance(value, bool) or not isinstance(value, int) or value < low
            ):
                raise ValueError(f"{name} must be an integer of at least {low}, got {value!r}")
        for name in ("pad", "normalise"):
            if not isinstance(config[name], bool):
                raise ValueError(f"{name} must be true or false, got {config[name]!r}")
        data, folder, pad = config["data"], config["folder"], config["pad"]
        train, test = load(data, "train", folder), load(data, "test", folder)
        kind = KINDS[data]
        if pad and kind.side >= PADDED:
            raise ValueError(f"pad makes images {PADDED}x{PADDED}, and those of {data} are so already")
        return Images(
            kind,
            train,
            test,
            PADDED if pad else kind.side,
            mean_and_sd(data, folder, pad) if config["normalise"] else None,
            config["samples"],
            config["test_samples"],
            config["validation"],
            config["seed"],
        )

    def task(
        self,
        index: int,
        name: str,
        arrange: Arrange | None = None,
        only: Sequence[int] | None = None,
        relabel: Sequence[int] | None = None,
        once: Callable[[Examples, str], Examples] | None = None,
    ) -> Task:
        """Task `index`.

        Args:
            index: from 0.
            name: of the task.
            arrange: what is done to its images, after padding, whenever they are read.
            only: its classes; None: all.
            relabel: all classes in order of their tasks; labels then count from 0 within each task.
            once: what is done here and now to its sets: (examples, purpose) -> examples.
        """
        only = range(self.kind.classes) if only is None else only
        whole = len(only) == self.kind.classes
        pool = _pool(self.train[1], only)
        # One held-out set for all tasks that share a pool: an image that one task validates on,
        # arranged in its way, is not trained on by another.
        held = generator(self.seed, "validation", *([] if whole else only))
        kept, out = hold_out(len(pool), self.validation, held, f"task {index + 1} ({name!r})")
        train = self._draw("samples", pool[kept], self.samples, index)
        test = self._draw("test_samples", _pool(self.test[1], only), self.test_samples, index)
        y = self.train[1], self.test[1]
        if relabel is not None:
            count = self.kind.classes
            y = _relabelled(y[0], relabel, len(only), count), _relabelled(y[1], relabel, len(only), count)
        arrange = self._padded(arrange)

        def read(x: Tensor, labels: Tensor, rows: Tensor, purpose: str) -> Examples:
            examples = Examples(x, labels, None if len(rows) == len(x) else rows, arrange, self.normalise)
            return examples if once is None else once(examples, purpose)

        return Task(
            index,
            name,
            read(self.train[0], y[0], train, "train"),
            read(self.test[0], y[1], test, "test"),
            read(self.train[0], y[0], pool[out], "validation") if self.validation else None,
            tuple(range(len(only)) if relabel is not None else sorted(only)),
        )

    def _padded(self, arrange: Arrange | None) -> Arrange | None:
        if self.side == self.kind.side:
            return arrange
        pad = Pad((self.side - self.kind.side) // 2)
        return pad if arrange is None else Then(pad, arrange)

    def _draw(self, what: str, pool: Tensor, wanted: int | None, index: int) -> Tensor:
        if wanted is None:
            return pool
        if wanted > len(pool):
            raise ValueError(
                f"task {index + 1}: {what} must be at most {len(pool)}, which is all there are; got {wanted}"
            )
        order = torch.randperm(len(pool), generator=generator(self.seed, what, index))
        return pool[order[:wanted]].sort().values


def _pool(y: Tensor, only: Sequence[int]) -> Tensor:
    """Where the labels [N] are among the classes `only`, ascending."""
    return torch.isin(y, torch.tensor(list(only))).nonzero()[:, 0]


def _relabelled(y: Tensor, order: Sequence[int], per_task: int, classes: int) -> Tensor:
    """The labels [N] counted from 0 within each task; `order`: all classes, task after task."""
    place = torch.full((classes,), -1)
    place[list(order)] = torch.arange(len(order)) % per_task
    return place[y]


@cache
def mean_and_sd(data: Data, folder: Path | str | None, pad: bool) -> tuple[float, float]:
    """Of every pixel of the training images, all channels alike, in [0, 1], to the four digits papers print.

    >>> mean_and_sd("mnist", None, pad=False)
    (0.1307, 0.3081)
    """
    x = load(data, "train", folder)[0]
    side = PADDED if pad else KINDS[data].side
    pixels = len(x) * KINDS[data].channels * side**2
    total = square = 0  # exact: Python integers
    for chunk in torch.split(x, 4096):
        wide = chunk.to(torch.int32)
        total += int(wide.sum())
        square += int(wide.square().sum())
    mean = total / pixels
    return round(mean / 255, 4), round((square / pixels - mean**2) ** 0.5 / 255, 4)
