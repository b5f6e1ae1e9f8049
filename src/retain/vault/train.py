"""The training of one update: the same steps as `retain.run`, with a stop where held-out rows gain no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from retain import checkpoint, tree
from retain.examples import Examples
from retain.learner import Learner
from retain.order import batches
from retain.run import Interrupted
from retain.seeds import generator
from retain.types import HIDDEN, Batch, Task
from retain.vault.contents import Progress, packed, restore, unpacked
from retain.vault.plan import Plan

VALIDATION = 0.1  # share of an update's examples that says when to stop, where it may stop early
EVERY = 64  # steps between two words of progress


def train(
    learner: Learner, task: Task, past: list[Task], plan: Plan, progress: Progress, stop: Callable[[], bool],
    work: Work | None = None,
) -> int:  # fmt: skip
    """Teach the learner one update; gives the passes that it has in it.

    Raises:
        Interrupted: `stop` said so; with `work` the next call with the same one goes on from here.
        Diverged: the loss became infinite.
    """
    examples, held = _validation(task, plan)
    order = plan.order(len(examples))
    if learner.method.traits.closed_form:
        order = replace(order, epochs=1)
    whole = Task(task.index, task.name, examples, None, None, task.classes)
    per_epoch, steps = order.per_epoch(len(examples)), order.steps(len(examples))
    best = _Best(plan.patience if held is not None else None)
    start = 0 if work is None else work.resume(learner, past, whole, steps, best)
    if start == 0:
        learner.begin_task(whole, steps)
    done = start
    for x, y in batches(examples, order, plan.seed, task.index, start):
        if done % EVERY == 0:
            progress("training", done, steps)
        if stop():
            if work is not None:
                work.save(learner, done, best)
            raise Interrupted(f"stopped in step {done} of {steps}")
        learner.observe(x, y)
        done += 1
        if done % per_epoch == 0 and held is not None:
            epoch = done // per_epoch
            if best.over(epoch, _loss(learner, held, task), learner):
                break
        if work is not None and done < steps:
            work.save_if_due(learner, done, best)
    epochs = best.back(learner, past, whole, steps) or done // per_epoch
    progress("consolidating", done, steps)
    learner.end_task()
    return epochs


def trained_on(n: int, plan: Plan) -> int:
    """How many of an update's n examples move the weights; the others say when to stop."""
    if plan.patience is None or plan.epochs == 1 or n < 2:
        return n
    return n - max(1, round(VALIDATION * n))


def _validation(task: Task, plan: Plan) -> tuple[Examples, Examples | None]:
    """The examples to train on, and those that say when to stop."""
    train = task.train
    assert isinstance(train, Examples)
    n = len(train)
    held = n - trained_on(n, plan)
    if held == 0:
        return train, None
    order = torch.randperm(n, generator=generator(plan.seed, "validation", task.index))
    return train.subset(order[held:].sort().values), train.subset(order[:held].sort().values)


@torch.no_grad()
def _loss(learner: Learner, held: Examples, task: Task) -> float:
    """The mean loss of the held-out rows, as the network stands."""
    total = 0.0
    problem = learner.start(held)
    index = task.index if learner.in_play.scenario == "task" else HIDDEN
    for rows in torch.arange(len(held)).split(2000):
        x, y = held.batch(rows)
        batch = Batch(x, y, torch.full((len(x),), index))
        total += float(problem.losses(learner.params, batch, train=False).sum())
    return total / len(held)


class _Best:
    """The pass after which the held-out rows were predicted best, and the learner then."""

    def __init__(self, patience: int | None):
        self.patience = patience
        self.epoch, self.loss = 0, float("inf")
        self.snapshot: Any = None

    def over(self, epoch: int, loss: float, learner: Learner) -> bool:
        """Note the loss after a pass; whether there has been no progress for too long."""
        assert self.patience is not None
        if loss < self.loss:
            self.epoch, self.loss = epoch, loss
            self.snapshot = _copied(learner.snapshot())
        return epoch - self.epoch >= self.patience

    def back(self, learner: Learner, past: list[Task], task: Task, steps: int) -> int:
        """Make the learner what it was then; gives that pass, or 0 where none was noted."""
        if self.snapshot is not None:
            learner.restore(self.snapshot, past, task, steps)
        return self.epoch

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"epoch": self.epoch, "loss": self.loss, "snapshot": self.snapshot}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self.epoch, self.loss, self.snapshot = state["epoch"], state["loss"], state["snapshot"]


def _copied(state: Any) -> Any:
    return tree.alike(lambda leaf: leaf[0].clone() if isinstance(leaf[0], torch.Tensor) else leaf[0], state)


class Work:
    """Where a long update saves how far it is: one file, which names the update that it is of.

    Args:
        path: the file.
        identity: of what is trained, on what, with what: another one begins anew.
        every: seconds between saves.
        clock: gives seconds.
    """

    def __init__(self, path: Path, identity: str, every: float, clock: Callable[[], float]):
        self.path, self.identity, self.every, self.clock = path, identity, every, clock
        self.saved = clock()

    def resume(self, learner: Learner, past: list[Task], task: Task, steps: int, best: _Best) -> int:
        """Make the learner what was saved; gives the steps that it has done, 0 where nothing fits."""
        try:
            found = unpacked(checkpoint.load(self.path))
        except (FileNotFoundError, checkpoint.BadCheckpoint):
            return 0
        if not isinstance(found, dict) or found.get("identity") != self.identity:
            return 0
        restore(learner, found["snapshot"], past, task, steps)
        best.load(found["best"])
        done: int = found["done"]
        return done

    def save(self, learner: Learner, done: int, best: _Best) -> None:
        """Write where the training is."""
        state = {
            "identity": self.identity,
            "done": done,
            "snapshot": learner.snapshot(),
            "best": best.state(),
        }
        checkpoint.save(self.path, packed(state))
        self.saved = self.clock()

    def save_if_due(self, learner: Learner, done: int, best: _Best) -> None:
        """Write it if the last time is long ago."""
        if self.clock() - self.saved >= self.every:
            self.save(learner, done, best)

    def clear(self) -> None:
        """The update is over."""
        self.path.unlink(missing_ok=True)
