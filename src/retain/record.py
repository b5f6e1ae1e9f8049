"""What a run writes down while it goes: accuracies, times, and what the method shows of itself."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from retain.examples import Examples
from retain.learner import Learner
from retain.result import Curve, Seconds
from retain.seeds import derive, generator
from retain.streams import Stream
from retain.types import Task

Recorded = Literal["confusions"]
MOST = 4_000_000  # numbers of all confusions of a run: some 10 MB of JSON

CACHE_BYTES = 512 * 2**20  # test sets up to this size are kept arranged, larger ones are read anew each time


@dataclass
class Clock:
    """Wall seconds by what they were spent on; what is measured inside another is not counted twice."""

    spent: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("train", "consolidate", "evaluate"), 0.0)
    )
    before: float = 0.0  # total of the sittings before this one
    since: float = field(default_factory=time.perf_counter)
    doing: list[str] = field(default_factory=list)  # the blocks that are open, the innermost last
    counted: float = 0.0  # up to when

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Count the time of a block as `what`; seconds spent on anything but the three go to the total alone."""
        self._count()
        self.doing.append(what)
        try:
            yield
        finally:
            self._count()
            self.doing.pop()

    def _count(self) -> None:
        """Give the time since the last look to the innermost open block."""
        now = time.perf_counter()
        if self.doing and self.doing[-1] in self.spent:
            self.spent[self.doing[-1]] += now - self.counted
        self.counted = now

    def leave_out(self, seconds: float) -> None:
        """Do not count that many of the seconds since the last look: they were spent on something else."""
        self.counted += seconds
        self.since += seconds

    @property
    def total(self) -> float:
        """All seconds, earlier sittings included."""
        return self.before + time.perf_counter() - self.since

    def seconds(self) -> Seconds:
        """As a Result holds them."""
        return Seconds(**self.spent, total=self.total)


@dataclass(frozen=True)
class Cells:
    """Which cells of the accuracy matrix R [T + 1, T] a run measures.

    All of them; or the first row and the last one, and in each row between `current`: the task just
    learned, and the next one before it is learned, and `sample`: so many of the others learned by then
    (all, where they are fewer). With `current`, ACC, BWT, FWT and learning accuracy miss nothing.
    """

    whole: bool = True
    current: bool = False
    sample: int = 0

    @classmethod
    def of(cls, evaluate: str, curve_every: int | None = None) -> Cells:
        """As `all`, or `current` and `sample:N`, in any order with a comma between, say it.

        Raises:
            ValueError: another text, or a curve, which needs every task at each of its points.

        >>> Cells.of("current,sample:20")
        Cells(whole=False, current=True, sample=20)
        """
        if evaluate == "all":
            return cls()
        words = [w.strip() for w in evaluate.split(",")]
        others = [w for w in words if w != "current"]
        found = [re.fullmatch("sample:([1-9][0-9]{0,8})", w) for w in others]
        if words.count("current") > 1 or len(others) > 1 or None in found:
            raise ValueError(
                "evaluate must be all, or one or both of current and sample:N (N >= 1) with a comma between, "
                f"such as current,sample:20, got {evaluate!r}"
            )
        if curve_every:
            raise ValueError(
                f"curve_every must be 0 or none where evaluate is {evaluate}, got {curve_every}: each point of "
                "the curve tests every task, which only evaluate = all does"
            )
        return cls(False, "current" in words, int(others[0].removeprefix("sample:")) if others else 0)

    def row(self, i: int, tasks: int, seed: int) -> list[int]:
        """The columns, ascending, that are measured after `i` of the `tasks` are learned.

        What is drawn depends on seed and i alone, and a smaller sample lies within a larger one.
        """
        if self.whole or i in (0, tasks):
            return list(range(tasks))
        past = i - 1 if self.current else i  # tasks to draw from
        drawn = torch.randperm(past, generator=generator(seed, "evaluate", i))[: self.sample].tolist()
        return sorted(drawn) + ([i - 1, i] if self.current else [])


class Evaluator:
    """Accuracies on the tasks of a stream: over all test examples, or over a fixed sample of them.

    Of a stream whose matrix is measured in part no test set is kept arranged, so that memory does not
    grow with the tasks, and there is no sample: no curve is measured.
    """

    def __init__(
        self, stream: Stream, samples: int, cells: Cells | None = None, seed: int = 0,
        device: torch.device | None = None, record: Recorded | None = None,
    ):  # fmt: skip
        self.tasks, self.cells, self.seed = list(stream), cells or Cells(), seed
        self.classes = stream.num_classes if record == "confusions" else None  # whose confusions are counted
        if self.classes and (len(self.tasks) + 1) * self.classes**2 > MOST:
            raise ValueError(
                f"record is confusions, and {len(self.tasks)} tasks with {self.classes} classes would be more "
                f"than {MOST:,} numbers: leave it out"
            )
        tests = [task.test for task in self.tasks]
        if any(t is None for t in tests):
            raise ValueError("every task of a stream that is evaluated needs test examples")
        self.tests = [t for t in tests if t is not None]
        self.samples = []
        if not self.cells.whole:
            return
        device = device or torch.device("cpu")
        for task, test in zip(self.tasks, self.tests, strict=True):
            rng = torch.Generator().manual_seed(derive(0, "curve", task.index))
            self.samples.append(test.subset(torch.randperm(len(test), generator=rng)[:samples]).to(device))
        if sum(t.nbytes for t in self.tests) <= CACHE_BYTES:
            self.tests = [t.to(device) for t in self.tests]

    def columns(self, i: int) -> list[int]:
        """The tasks that are tested after `i` tasks are learned."""
        return self.cells.row(i, len(self.tasks), self.seed)

    def row(self, learner: Learner, i: int = 0) -> list[float]:
        """On all test examples of each task of `columns(i)`."""
        return _accuracies(learner, [(self.tests[j], self.tasks[j]) for j in self.columns(i)])

    def confusions(self, learner: Learner, i: int) -> Tensor:
        """How often each class was taken for each, over the test examples of each of `columns(i)`.

        int64 [columns, C, C]: class by row, what it was taken for by column.
        """
        assert self.classes is not None
        C, columns = self.classes, self.columns(i)
        found = torch.zeros(len(columns), C * C, dtype=torch.int64)
        for k, j in enumerate(columns):
            test, part = self.tests[j], learner.world.rows(len(self.tests[j]))
            for index in torch.arange(len(test), device=test.parts[0].y.device)[part].split(2000):
                x, y = test.batch(index)
                taken = learner.predict(x, self.tasks[j]).argmax(1)
                found[k] += torch.bincount(y.cpu() * C + taken.cpu(), minlength=C * C)
        counts = learner.world.counted(found.flatten().tolist())
        return torch.tensor(counts, dtype=torch.int64).view(len(columns), C, C)

    def matrix(self, rows: list[list[float]]) -> list[list[float]]:
        """R [T + 1, T] of all that `row` gave for i = 0 to T; NaN where nothing was measured."""
        out = [[math.nan] * len(self.tasks) for _ in rows]
        for i, (whole, row) in enumerate(zip(out, rows, strict=True)):
            for j, value in zip(self.columns(i), row, strict=True):
                whole[j] = value
        return out

    def sampled(self, learner: Learner) -> list[float]:
        """On the fixed sample of each task."""
        return _accuracies(learner, list(zip(self.samples, self.tasks, strict=True)))


def _accuracies(learner: Learner, sets: list[tuple[Examples, Task]]) -> list[float]:
    """On all examples of each set, which several processes share."""
    parts = [learner.world.rows(len(t)) for t, _ in sets]
    right = [
        learner.right(t, task, p) if p.stop > p.start else 0 for (t, task), p in zip(sets, parts, strict=True)
    ]
    return [n / len(t) for n, (t, _) in zip(learner.world.counted(right), sets, strict=True)]


@dataclass
class Record:
    """The growing result of a run."""

    accuracy: list[list[float]] = field(default_factory=list)  # of each row the cells that are measured
    curve_step: list[int] = field(default_factory=list)
    curve: list[list[float]] = field(default_factory=list)  # one row a point
    boundaries: list[int] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    confusions: list[list[list[int]]] = field(
        default_factory=list
    )  # [class, taken for], one a row of `accuracy`
    steps: int = 0  # of all tasks so far

    def test(self, evaluator: Evaluator, learner: Learner, i: int) -> None:
        """A row of the accuracy matrix, after `i` tasks, and what is recorded beside it."""
        if evaluator.classes is None:
            self.accuracy.append(evaluator.row(learner, i))
            return
        tables = evaluator.confusions(learner, i)
        self.accuracy.append([int(t.trace()) / int(t.sum()) for t in tables])
        self.confusions.append(tables.sum(0).tolist())

    def point(self, evaluator: Evaluator, learner: Learner, task: int, end: bool = False) -> None:
        """One point of the curve, where there is one, and what the method shows of itself there."""
        if evaluator.cells.whole:
            self.curve_step.append(self.steps)
            self.curve.append(evaluator.sampled(learner))
        if shown := learner.inspect(end):
            self.shown.append({"step": self.steps, "task": task, **shown})

    @property
    def latest(self) -> list[float]:
        """The accuracies measured last."""
        return self.curve[-1] if self.curve else self.accuracy[-1]

    def as_curve(self) -> Curve:
        """One row a task."""
        return Curve(list(self.curve_step), [list(row) for row in zip(*self.curve, strict=True)])
