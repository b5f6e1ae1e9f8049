"""Networks that must not change what they say of earlier tasks."""

from __future__ import annotations

import torch
from tests.laws.toy import ORDER
from torch import Tensor

from retain import Learner, Optim, batches
from retain.types import Task

OPTIMS = [Optim(lr=0.1), Optim("sgd", lr=0.05, momentum=0.9, weight_decay=1e-2), Optim("adam", lr=1e-2)]


def learn(one: Learner, task: Task) -> None:
    """All of a task, but for its end."""
    one.begin_task(task)
    for x, y in batches(task.train, ORDER, 0, task.index):
        one.observe(x, y)


def outputs(one: Learner, task: Task) -> Tensor:
    """All logits of a task's inputs, those out of play too."""
    x, y = task.train.batch(torch.arange(30))
    with torch.no_grad():
        return one.method.predict(one._bound, one.params, one.state, x, torch.full_like(y, task.index))
