"""What a run writes down while it goes: accuracies, times, and what the method shows of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from retain.learner import Learner
from retain.result import Curve, Seconds
from retain.seeds import derive
from retain.streams import Stream

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

    @property
    def total(self) -> float:
        """All seconds, earlier sittings included."""
        return self.before + time.perf_counter() - self.since

    def seconds(self) -> Seconds:
        """As a Result holds them."""
        return Seconds(**self.spent, total=self.total)


class Evaluator:
    """Accuracies on every task of a stream: over all test examples, or over a fixed sample of them."""

    def __init__(self, stream: Stream, samples: int):
        self.tasks = list(stream)
        tests = [task.test for task in self.tasks]
        if any(t is None for t in tests):
            raise ValueError("every task of a stream that is evaluated needs test examples")
        self.tests = [t for t in tests if t is not None]
        self.samples = []
        for task, test in zip(self.tasks, self.tests, strict=True):
            rng = torch.Generator().manual_seed(derive(0, "curve", task.index))
            self.samples.append(test.subset(torch.randperm(len(test), generator=rng)[:samples]).materialise())
        if sum(t.nbytes for t in self.tests) <= CACHE_BYTES:
            self.tests = [t.materialise() for t in self.tests]

    def row(self, learner: Learner) -> list[float]:
        """On all test examples of each task."""
        return [learner.accuracy(t, task) for t, task in zip(self.tests, self.tasks, strict=True)]

    def sampled(self, learner: Learner) -> list[float]:
        """On the fixed sample of each task."""
        return [learner.accuracy(t, task) for t, task in zip(self.samples, self.tasks, strict=True)]


@dataclass
class Record:
    """The growing result of a run."""

    accuracy: list[list[float]] = field(default_factory=list)
    curve_step: list[int] = field(default_factory=list)
    curve: list[list[float]] = field(default_factory=list)  # one row a point
    boundaries: list[int] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0  # of all tasks so far

    def point(self, evaluator: Evaluator, learner: Learner, task: int, end: bool = False) -> list[float]:
        """One point of the curve, and what the method shows of itself there."""
        self.curve_step.append(self.steps)
        self.curve.append(evaluator.sampled(learner))
        if shown := learner.inspect(end):
            self.shown.append({"step": self.steps, "task": task, **shown})
        return self.curve[-1]

    def as_curve(self) -> Curve:
        """One row a task."""
        return Curve(list(self.curve_step), [list(row) for row in zip(*self.curve, strict=True)])
