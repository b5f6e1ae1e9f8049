"""What the loop keeps beside it: the folder, the clock, the record, and how to go on after a stop."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retain import checkpoint
from retain.combine import describe
from retain.examples import Examples, Union
from retain.learner import Learner
from retain.order import Order
from retain.record import Clock, Record
from retain.result import Result
from retain.streams import Stream

CHECKPOINT = "checkpoint.safetensors"
MEMORY = "memory"  # the folder of what a method keeps on disk


class Interrupted(Exception):
    """The run was asked to stop and has saved where it was."""


class Sitting:
    """One sitting of a run, from its start, or from its checkpoint, to its end or next stop."""

    def __init__(
        self,
        stream: Stream,
        learner: Learner,
        order: Order,
        out: Path | None,
        every: float,
        config: dict[str, Any],
        evaluate: str = "all",
        record: str | None = None,
    ):
        self.stream, self.learner, self.order, self.config = stream, learner, order, config
        self.path = None if out is None else Path(out) / CHECKPOINT
        if out is not None and learner.room is None:
            learner.room = Path(out) / MEMORY
        self.out, self.every = out, every
        told = {"evaluate": None if evaluate == "all" else evaluate, "record": record}
        self.identity = {**config, **{name: value for name, value in told.items() if value is not None}}
        self.clock, self.record = Clock(), Record()
        self.saved = time.monotonic()

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.learner.world.leads

    def data(self, i: int) -> Examples | Union:
        """What the method is fed in task i: its own examples, or those of all tasks so far."""
        if self.learner.method.data == "task":
            return self.stream[i].train.to(self.learner.device)
        so_far = list(self.stream)[: i + 1]
        return Union(tuple(p for task in so_far for p in task.train.parts)).to(self.learner.device)

    def tasks_of(self, i: int, index: Tensor) -> Tensor | None:
        """Which task each example of `data(i)` that `index` [n] names is from; None: all from task i."""
        if self.learner.method.data == "task":
            return None
        so_far = list(self.stream)[: i + 1]
        ends = torch.tensor([len(task.train) for task in so_far], device=index.device).cumsum(0)
        numbers = torch.tensor([task.index for task in so_far], device=index.device)
        return numbers[torch.bucketize(index, ends, right=True)]

    def save_now_and_then(self, task: int, step: int, stop: Callable[[], bool] | None) -> None:
        """Save if it is time to, or if the run is to stop."""
        due = self.path is not None and self.leads and time.monotonic() - self.saved > self.every
        stopping, due = self.learner.world.any(stop is not None and stop(), due)
        if stopping or due:
            with self.clock.on("save"):
                self.save(task, step)
        if stopping:
            raise Interrupted(f"stopped at task {task + 1}, step {step}")

    def save(self, task: int, step: int) -> None:
        """A checkpoint at `step` of `task`, -1: not yet begun. Never one with a bad loss behind it."""
        self.learner.check()
        if self.path is None or not self.leads:
            return
        tree = {
            "task": task,
            "step": step,
            "learner": self.learner.snapshot(),
            "record": asdict(self.record),
            "seconds": {**self.clock.spent, "total": self.clock.total},
            "config": self.identity,
        }
        checkpoint.save(self.path, tree)
        self.saved = time.monotonic()

    def load(self) -> tuple[int, int]:
        """Take up the checkpoint, if there is one; gives task and step to go on from."""
        if self.path is None:
            raise ValueError("resume needs the folder that the run was written to: out=...")
        tree = checkpoint.load(self.path) if self.path.exists() else None
        at = None if tree is None else (tree["task"], tree["step"], tree["learner"]["params"])
        fix = f"{self.path.parent} has to be a folder that all of them see"
        self.learner.world.check_same("the checkpoints", at, fix)
        if tree is None:
            return 0, -1
        if differing := differences(tree["config"], self.identity):
            raise ValueError(f"{self.path} is of another run: {differing}")
        task, step = tree["task"], tree["step"]
        self.record = Record(**tree["record"])
        total = tree["seconds"].pop("total")
        self.clock = Clock(tree["seconds"], before=total)
        steps = self.order.steps(len(self.data(task))) if step >= 0 else 0
        told = self.stream.boundaries
        current = self.stream[task] if step >= 0 and told else None
        self.learner.restore(tree["learner"], list(self.stream)[: task if told else 0], current, steps)
        return task, step

    def result(self, accuracy: list[list[float]]) -> Result:
        """The finished record with its accuracy matrix, written to `out`."""
        learner, record = self.learner, self.record
        result = Result(
            stream=self.stream.config,
            method=describe(learner.method),
            seed=learner.seed,
            tasks=[t.name for t in self.stream],
            accuracy=accuracy,
            curve=record.as_curve(),
            seconds=self.clock.seconds(),
            state_bytes=learner.state_bytes,
            examples_stored=learner.method.examples_stored(learner.state),
            config=self.config,
            versions=versions(),
            boundaries=record.boundaries,
            diagnostics={"records": record.shown} if record.shown else {},
            extras={"confusions": record.confusions} if record.confusions else {},
        )
        if self.out is not None and self.leads:
            result.save(Path(self.out) / "result.json")
        return result


def differences(was: dict[str, Any], now: dict[str, Any]) -> str:
    """In which entries two configurations differ, in words; empty: in none."""
    keys = [k for k in {**was, **now} if was.get(k) != now.get(k)]
    return ", ".join(f"{k} = {was.get(k)!r}, now {now.get(k)!r}" for k in keys)


def default_config(
    stream: Stream, learner: Learner, order: Order, evaluate: str, record: str | None = None
) -> dict[str, Any]:
    """What a result carries where nobody gave a fuller configuration."""
    return {
        "stream": stream.config,
        "method": describe(learner.method),
        "model": type(learner.model).__name__,
        **{f.name: getattr(order, f.name) for f in fields(order)},
        "seed": learner.seed,
        **({} if evaluate == "all" else {"evaluate": evaluate}),
        **({} if record is None else {"record": record}),
    }


def versions() -> dict[str, str]:
    """Of this package and what its numbers depend on."""
    try:
        own = version("retain")
    except PackageNotFoundError:
        own = "not installed"
    return {
        "retain": own,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
