"""Runs in lockstep: each goes its own way between the steps, and the steps are made at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from retain.divergence import Diverged
from retain.result import Result
from retain.run import Course, Portion, Progress
from retain.stacked.step import CannotStack, Stack

Outcome = Result | Exception
"""What a run gave, or what ended it."""


class _Run:
    """One of the runs, between two steps."""

    def __init__(
        self, course: Course, progress: Callable[[Progress], None] | None, stop: Callable[[], bool] | None
    ):
        self.course, self.portions = course, course.portions(False, progress, stop)
        self.outcome: Outcome | None = None
        self.waits_since = time.perf_counter()

    def next(self, share: float) -> Portion | None:
        """Go on to the next step, or to the end; `share` of the seconds waited were spent on this run."""
        self.course.sitting.clock.leave_out(time.perf_counter() - self.waits_since - share)
        try:
            for portion in self.portions:
                return portion
            self.outcome = self.course.result()
        except Exception as e:  # whatever ends one run leaves the others going, as if they were apart
            self.outcome = e
        finally:
            self.waits_since = time.perf_counter()
        return None

    def count(self, loss: torch.Tensor) -> None:
        """A step is over."""
        try:
            self.course.learner.count(loss)
        except Diverged as e:
            self.portions.close()
            self.outcome = e


def run_together(
    courses: Sequence[Course],
    progress: Sequence[Callable[[Progress], None] | None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[Outcome]:
    """What `Course.run` gives of each, with the steps of all made at once; or the exception that ended it.

    Each writes its own files, as if it were alone; of the time that the steps take each counts its share.
    Where `stop` says yes, each saves and ends with `Interrupted`, and can be gone on with alone.

    Raises:
        CannotStack: they must run separately, from their beginning.
    """
    told = progress or [None] * len(courses)
    runs = [_Run(course, p, stop) for course, p in zip(courses, told, strict=True)]
    going, share = runs, 0.0
    stack = Stack([r.course.learner for r in going])
    while True:
        portions = [p for p in (r.next(share) for r in going) if p is not None]
        going, stack = _without_ended(going, stack)
        if not going:
            return [r.outcome for r in runs if r.outcome is not None]
        _in_step(portions)
        began = time.perf_counter()
        for r, loss in zip(going, stack.observe(portions), strict=True):
            r.count(loss)
        share = (time.perf_counter() - began) / len(going)
        going, stack = _without_ended(going, stack)


def _without_ended(going: list[_Run], stack: Stack) -> tuple[list[_Run], Stack]:
    """The runs that go on, and a stack of them."""
    left = [r for r in going if r.outcome is None]
    if len(left) == len(going) or not left:
        return left, stack
    stack.settle()
    return left, Stack([r.course.learner for r in left], stack.alone)


def _in_step(portions: Sequence[Portion]) -> None:
    where = {(p.task, p.step, p.steps) for p in portions}
    if len(where) > 1:
        raise CannotStack(
            f"the runs are not at the same step: {', '.join(f'task {t}, step {s}' for t, s, _ in where)}"
        )
