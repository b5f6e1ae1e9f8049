"""A training run over two tasks of which every stop is kept, as a path through the space of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from retain import tree
from retain.lecture.setting import Setting, loss, some
from retain.method import Method
from retain.order import batches
from retain.types import Batch, Params, Problem

EXAMPLES = 500  # of each task, over which losses are the mean
STOPS = 24  # points kept of each task


@dataclass(frozen=True, eq=False)
class Walk:
    """Where the weights were, and what is needed to run the network there again."""

    thetas: Tensor  # [n, P]: the first is theta_0
    learned: int  # the row of `thetas` that is the network after task 1
    model: nn.Module
    problem: Problem
    params: Params  # the network's own after the last task
    tasks: tuple[Batch, ...]  # the first EXAMPLES training examples of each task

    def at(self, theta: Tensor) -> Params:
        """The params with weights [P] in their place."""
        theta = theta.to(self.problem.spec.dtype)
        return {**self.params, **tree.unflatten(theta, self.params, self.problem.spec.names)}

    def losses(self, theta: Tensor) -> list[float]:
        """The mean loss of each task at weights [P]."""
        return [loss(self.problem, self.at(theta), batch) for batch in self.tasks]


def walk(setting: Setting, method: Method[Any]) -> Walk:
    """Learn two tasks and keep where the weights were."""
    e = setting.permuted(method, tasks=2)
    stream = e.build_stream()
    learner = e.build_learner(stream)
    learner.follow(stream)
    problem = learner.start(stream[0].train)
    seen: list[Tensor] = []

    def note() -> None:
        seen.append(tree.flatten(learner.params, problem.spec.names).detach().clone())

    note()
    ends = []
    for task in stream:
        steps = e.settings.order.steps(len(task.train))
        every = max(1, steps // STOPS)
        learner.begin_task(task, steps)
        for i, (x, y) in enumerate(batches(task.train, e.settings.order, setting.seed, task.index), 1):
            learner.observe(x, y)
            if i % every == 0 and i + every <= steps:
                note()
        learner.end_task()
        note()
        ends.append(len(seen) - 1)
    tasks = tuple(some(t, EXAMPLES) for t in stream)
    return Walk(torch.stack(seen), ends[0], learner.model, problem, learner.params, tasks)
