"""The only loop: a learner goes through a stream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from retain.learner import Learner
from retain.methods import caution
from retain.order import Order
from retain.record import Cells, Evaluator, Recorded
from retain.result import Result
from retain.sitting import Interrupted, Sitting, default_config
from retain.streams import Stream

__all__ = ["Course", "Interrupted", "Portion", "Progress", "run"]


class Progress(NamedTuple):
    """Where a run is, as its `progress` callback is told after each step."""

    task: int
    tasks: int
    step: int  # done in this task
    steps: int
    accuracy: list[float]  # on each task that `evaluate` chose, as last measured before this step
    seconds: float  # since the run began


class Portion(NamedTuple):
    """What the learner is to observe next."""

    x: Tensor
    y: Tensor
    tasks: Tensor | None  # as `Learner.observe` takes them
    task: int
    step: int  # of the task, from 1
    steps: int


class Course:
    """One run, set up: its portions, one after the other, and in the end its result. The arguments are `run`'s."""

    def __init__(
        self, stream: Stream, learner: Learner, order: Order, evaluate: str, curve_every: int | None,
        curve_samples: int, out: Path | None, checkpoint_seconds: float, config: dict[str, Any] | None,
        record: Recorded | None = None,
    ):  # fmt: skip
        cells = Cells.of(evaluate, curve_every)
        config = config or default_config(stream, learner, order, evaluate, record)
        self.stream, self.learner, self.order = stream, learner, order
        self.curve_every = curve_every if cells.whole else 0
        self.sitting = Sitting(stream, learner, order, out, checkpoint_seconds, config, evaluate, record)
        self.evaluator = Evaluator(stream, curve_samples, cells, learner.seed, learner.device, record)
        learner.follow(stream)
        if learner.world.leads and (note := caution([learner.method], stream.scenario)):
            logging.getLogger("retain").warning("retain: note: %s", note)
        learner.start(stream[0].train)

    def portions(
        self, resume: bool, progress: Callable[[Progress], None] | None, stop: Callable[[], bool] | None
    ) -> Generator[Portion, None, None]:
        """The loop. Between one portion and the next whoever asks for them lets the learner observe it."""
        stream, learner, r, evaluator = self.stream, self.learner, self.sitting, self.evaluator
        first, start = r.load() if resume else (0, -1)
        if first == 0 and start < 0:
            with r.clock.on("evaluate"):
                r.record.test(evaluator, learner, 0)
                r.record.point(evaluator, learner, 0)
        for i in range(first, len(stream)):
            task, data = stream[i], r.data(i)
            steps = self.order.steps(len(data))
            every = max(1, steps // 10) if self.curve_every is None else self.curve_every
            if start < 0 and stream.boundaries:
                with r.clock.on("consolidate"):
                    learner.begin_task(task, steps)
            with r.clock.on("train"):
                indices = self.order.indices(
                    len(data), learner.seed, task.index, max(start, 0), learner.device
                )
                for done, index in enumerate(indices, max(start, 0) + 1):
                    yield Portion(*data.batch(index), r.tasks_of(i, index), i, done, steps)
                    r.record.steps += 1
                    # before this step's accuracy is measured: a task's first tells how the last one ended
                    if progress and learner.world.leads:
                        progress(Progress(i, len(stream), done, steps, r.record.latest, r.clock.total))
                    if every and done % every == 0 and done < steps:
                        with r.clock.on("evaluate"):
                            r.record.point(evaluator, learner, i)
                    r.save_now_and_then(i, done, stop)
            start = -1
            self._end(i, steps)

    def _end(self, i: int, steps: int) -> None:
        """Consolidate task i and test."""
        r = self.sitting
        r.save(i, steps)
        if self.stream.boundaries:
            with r.clock.on("consolidate"):
                self.learner.end_task()
        with r.clock.on("evaluate"):
            r.record.boundaries.append(r.record.steps)
            r.record.test(self.evaluator, self.learner, i + 1)
            r.record.point(self.evaluator, self.learner, i, end=True)
        r.save(i + 1, -1)

    def result(self) -> Result:
        """The finished record, written to `out`; once there are no more portions."""
        return self.sitting.result(self.evaluator.matrix(self.sitting.record.accuracy))

    def run(
        self, resume: bool, progress: Callable[[Progress], None] | None, stop: Callable[[], bool] | None
    ) -> Result:
        """To its end."""
        for p in self.portions(resume, progress, stop):
            self.learner.observe(p.x, p.y, p.tasks)
        return self.result()


def run(
    stream: Stream,
    learner: Learner,
    order: Order | None = None,
    *,
    evaluate: str = "all",
    curve_every: int | None = None,
    curve_samples: int = 1000,
    out: Path | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 30.0,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    config: dict[str, Any] | None = None,
    record: Recorded | None = None,
) -> Result:
    """Learn the tasks of a stream one after the other; after each, test on all, or on some.

    Args:
        stream: the tasks.
        learner: what learns them, fresh.
        order: how often and in what portions each task's examples are gone through; None: once, by 128.
        evaluate: which tasks to test after each: `all`; or `current`, the one just learned and the next,
            and `sample:N`, N drawn from those learned before, or both with a comma between. All are tested
            before the first and after the last. Cells of the matrix that are not measured are NaN, and the
            measures that need them None; there is no curve, and methods show themselves at tasks' ends.
        curve_every: steps between two points of the accuracy curve; None: a tenth of a task; 0: only
            at the ends of tasks.
        curve_samples: test examples of each task that the curve is measured on.
        out: folder for `result.json` and the checkpoint; None: nothing is written.
        resume: go on from the checkpoint in `out`, where there is one, with the same bits.
        checkpoint_seconds: how often to save within a task; also at the ends of tasks.
        progress: told after each step; of several processes that train one network, only in the first.
        stop: asked after each step; where it says yes, the run saves and raises Interrupted.
        config: what the result carries as its configuration; None: stream, method and order.
        record: `confusions`: before the first task and after each, how often each class was taken for each, over
            all test examples that the row of the matrix is measured on; into the result's `extras`.

    Raises:
        Diverged: a loss became NaN or infinite; the checkpoint in `out` is the last good one.
        Interrupted: `stop` said so.
        ValueError: a checkpoint of another configuration, or a setting outside its range.
    """
    if not isinstance(stream, Stream) or not isinstance(learner, Learner):
        raise TypeError(f"run(stream, learner), got a {type(stream).__name__} and a {type(learner).__name__}")
    course = Course(
        stream,
        learner,
        order or Order(),
        evaluate,
        curve_every,
        curve_samples,
        out,
        checkpoint_seconds,
        config,
        record,
    )
    return course.run(resume, progress, stop)
