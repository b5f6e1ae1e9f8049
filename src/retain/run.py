"""The only loop: a learner goes through a stream."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from retain import checkpoint
from retain.examples import Examples, Union
from retain.learner import Learner
from retain.methods import describe
from retain.order import Order, batches
from retain.record import Clock, Evaluator, Record
from retain.result import Result
from retain.streams import Stream

CHECKPOINT = "checkpoint.safetensors"


class Progress(NamedTuple):
    """Where a run is, as its `progress` callback is told after each step."""

    task: int
    tasks: int
    step: int  # done in this task
    steps: int
    accuracy: list[float]  # on each task, as last measured
    seconds: float  # since the run began


class Interrupted(Exception):
    """The run was asked to stop and has saved where it was."""


def run(
    stream: Stream,
    learner: Learner,
    order: Order = Order(),
    *,
    curve_every: int | None = None,
    curve_samples: int = 1000,
    out: Path | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 30.0,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    config: dict[str, Any] | None = None,
) -> Result:
    """Learn the tasks of a stream one after the other; after each, test on all.

    Args:
        stream: the tasks.
        learner: what learns them, fresh.
        order: how often and in what portions each task's examples are gone through.
        curve_every: steps between two points of the accuracy curve; None: a tenth of a task; 0: only
            at the ends of tasks.
        curve_samples: test examples of each task that the curve is measured on.
        out: folder for `result.json` and the checkpoint; None: nothing is written.
        resume: go on from the checkpoint in `out`, where there is one, with the same bits.
        checkpoint_seconds: how often to save within a task; also at the ends of tasks.
        progress: told after each step.
        stop: asked after each step; where it says yes, the run saves and raises Interrupted.
        config: what the result carries as its configuration; None: stream, method and order.

    Raises:
        Diverged: a loss became NaN or infinite; the checkpoint in `out` is the last good one.
        Interrupted: `stop` said so.
        ValueError: a checkpoint of another configuration.
    """
    r = _Run(stream, learner, order, out, checkpoint_seconds, config or _config(stream, learner, order))
    evaluator = Evaluator(stream, curve_samples)
    learner.follow(stream)
    learner.start(stream[0].train)
    first, start = r.load() if resume else (0, -1)
    if first == 0 and start < 0:
        with r.clock.on("evaluate"):
            r.record.accuracy.append(evaluator.row(learner))
            r.record.point(evaluator, learner, 0)
    for i in range(first, len(stream)):
        task, data = stream[i], r.data(i)
        steps = order.steps(len(data))
        every = max(1, steps // 10) if curve_every is None else curve_every
        if start < 0:
            with r.clock.on("consolidate"):
                learner.begin_task(task, steps)
        with r.clock.on("train"):
            for x, y in batches(data, order, learner.seed, task.index, max(start, 0)):
                learner.observe(x, y)
                done = learner.steps_done
                r.record.steps += 1
                if every and done % every == 0 and done < steps:
                    with r.clock.on("evaluate", inside="train"):
                        r.record.point(evaluator, learner, i)
                if progress:
                    progress(Progress(i, len(stream), done, steps, r.record.curve[-1], r.clock.total))
                r.save_now_and_then(i, done, stop)
        start = -1
        r.save(i, steps)
        with r.clock.on("consolidate"):
            learner.end_task()
        with r.clock.on("evaluate"):
            r.record.boundaries.append(r.record.steps)
            r.record.accuracy.append(evaluator.row(learner))
            r.record.point(evaluator, learner, i, end=True)
        r.save(i + 1, -1)
    return r.result()


class _Run:
    """What the loop keeps beside it: files, clock, record."""

    def __init__(self, stream: Stream, learner: Learner, order: Order, out: Path | None, every: float, config: dict[str, Any]):  # fmt: skip
        self.stream, self.learner, self.order, self.config = stream, learner, order, config
        self.path = None if out is None else Path(out) / CHECKPOINT
        self.out, self.every = out, every
        self.clock, self.record = Clock(), Record()
        self.saved = time.monotonic()

    def data(self, i: int) -> Examples | Union:
        """What the method is fed in task i: its own examples, or those of all tasks so far."""
        if self.learner.method.data == "task":
            train = self.stream[i].train
            return train.materialise() if isinstance(train, Examples) else train
        parts = [t.train for t in self.stream[: i + 1]]
        return Union(tuple(p.materialise() for p in parts if isinstance(p, Examples)))

    def save_now_and_then(self, task: int, step: int, stop: Callable[[], bool] | None) -> None:
        """Save if it is time to, or if the run is to stop."""
        stopping = stop is not None and stop()
        if stopping or (self.path and time.monotonic() - self.saved > self.every):
            with self.clock.on("save", inside="train"):
                self.save(task, step)
        if stopping:
            raise Interrupted(f"stopped at task {task + 1}, step {step}")

    def save(self, task: int, step: int) -> None:
        """A checkpoint at `step` of `task`, -1: not yet begun. Never one with a bad loss behind it."""
        self.learner.check()
        if self.path is None:
            return
        tree = {
            "task": task,
            "step": step,
            "learner": self.learner.snapshot(),
            "record": asdict(self.record),
            "seconds": {**self.clock.spent, "total": self.clock.total},
            "config": self.config,
        }
        checkpoint.save(self.path, tree)
        self.saved = time.monotonic()

    def load(self) -> tuple[int, int]:
        """Take up the checkpoint, if there is one; gives task and step to go on from."""
        if self.path is None:
            raise ValueError("resume needs the folder that the run was written to: out=...")
        if not self.path.exists():
            return 0, -1
        tree = checkpoint.load(self.path)
        differing = [k for k in {**tree["config"], **self.config} if tree["config"].get(k) != self.config.get(k)]
        if differing:
            was = ", ".join(f"{k} = {tree['config'].get(k)!r}, now {self.config.get(k)!r}" for k in differing)
            raise ValueError(f"{self.path} is of another run: {was}")
        task, step = tree["task"], tree["step"]
        self.record = Record(**tree["record"])
        total = tree["seconds"].pop("total")
        self.clock = Clock(tree["seconds"], before=total)
        steps = self.order.steps(len(self.data(task))) if step >= 0 else 0
        current = self.stream[task] if step >= 0 else None
        self.learner.restore(tree["learner"], list(self.stream)[:task], current, steps)
        return task, step

    def result(self) -> Result:
        """The finished record, written to `out`."""
        learner, record = self.learner, self.record
        result = Result(
            stream=self.stream.config,
            method=describe(learner.method),
            seed=learner.seed,
            tasks=[t.name for t in self.stream],
            accuracy=record.accuracy,
            curve=record.as_curve(),
            seconds=self.clock.seconds(),
            state_bytes=learner.state_bytes,
            examples_stored=learner.method.examples_stored(learner.state),
            config=self.config,
            versions=versions(),
            boundaries=record.boundaries,
            diagnostics={"records": record.shown} if record.shown else {},
        )
        if self.out is not None:
            result.save(Path(self.out) / "result.json")
        return result


def _config(stream: Stream, learner: Learner, order: Order) -> dict[str, Any]:
    return {
        "stream": stream.config,
        "method": describe(learner.method),
        "model": type(learner.model).__name__,
        **{f.name: getattr(order, f.name) for f in fields(order)},
        "seed": learner.seed,
    }


def versions() -> dict[str, str]:
    """Of this package and what its numbers depend on."""
    try:
        own = version("retain")
    except PackageNotFoundError:
        own = "not installed"
    return {"retain": own, "torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
