"""LwF against its loss written with slices of the logits, in every scenario, in float64."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from tests.laws.toy import mlp, stream
from torch import Tensor, nn

from retain import Learner, Optim
from retain.examples import Examples
from retain.methods.lwf import LwF
from retain.types import Task

ALL = torch.arange(60)


def doubles(scenario: Any) -> list[Task]:
    """The toy's tasks in float64."""
    found = []
    for task in stream(scenario):
        x, y = task.train.batch(ALL)
        found.append(dataclasses.replace(task, train=Examples(x.double(), y)))
    return found


def distilled(old: Tensor, new: Tensor, T: float) -> Tensor:
    """Li & Hoiem's eq. 3 with the factor T^2; where the new network has more classes, targets of 0."""
    p = nnf.pad((old / T).softmax(1), (0, new.shape[1] - old.shape[1]))
    return -(T**2) * (p * (new / T).log_softmax(1)).sum(1).mean()


def loss_of(
    net: nn.Module, old: nn.Module | None, tasks: list[Task], x: Tensor, y: Tensor, how: str, method: LwF
) -> Tensor:
    """The loss in the last of these tasks."""
    k, T, new = len(tasks), method.temperature, net(x)
    before = sorted({c for t in tasks[:-1] for c in t.classes})
    seen = before + [c for c in tasks[-1].classes if c not in before]
    classes = {"task": list(tasks[-1].classes), "seen": seen, "all": [0, 1, 2, 3], "domain": [0, 1, 2, 3]}[
        how
    ]
    L_new = nnf.cross_entropy(new[:, classes], torch.tensor([classes.index(c) for c in y.tolist()]))
    if old is None:
        return L_new
    answers = old(x).detach()
    if how == "task":
        each = [distilled(answers[:, t.classes], new[:, t.classes], T) for t in tasks[:-1]]
        L_old = torch.stack(each).mean()
    elif how == "seen":
        L_old = distilled(answers[:, before], new[:, seen], T)
    else:
        L_old = distilled(answers, new, T)
    return L_new / k + (1 - 1 / k) * L_old if method.lam is None else L_new + method.lam * L_old


@pytest.mark.parametrize("method", [LwF(), LwF(temperature=3.0, lam=0.7)])
@pytest.mark.parametrize("how", ["task", "seen", "all", "domain"])
def test_lwf_is_the_algorithm_written_by_hand(how: str, method: LwF) -> None:
    scenario: Any = "class" if how in ("seen", "all") else how
    classes: Any = how if scenario == "class" else None
    torch.manual_seed(0)
    net = mlp().double()
    one = Learner(copy.deepcopy(net), method, Optim(lr=0.2), scenario=scenario, classes=classes)
    optimizer, old = torch.optim.SGD(net.parameters(), lr=0.2), None
    tasks = doubles(scenario)
    for k, task in enumerate(tasks, 1):
        one.begin_task(task)
        for i in ALL.split(20):
            x, y = task.train.batch(i)
            one.observe(x, y)
            optimizer.zero_grad()
            loss_of(net, old, tasks[:k], x, y, how, method).backward()
            optimizer.step()
        one.end_task()
        old = copy.deepcopy(net)
    for p, q in zip(one.model.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)
    assert one.state.previous is not None
    held = {t.data_ptr() for t in one.params.values()}
    assert not held & {t.data_ptr() for t in one.state.previous.values()}


def test_the_old_networks_answers_draw_no_gradient_and_move_no_running_statistic() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 4))
    one = Learner(net, LwF(), Optim(lr=0.1))
    for task in stream("domain")[:2]:
        one.begin_task(task)
        for i in ALL.split(20):
            one.observe(*task.train.batch(i))
        if one.tasks == 1:
            one.end_task()
            before = {k: v.clone() for k, v in one.state.previous.items()}
    assert all(torch.equal(before[k], v) and not v.requires_grad for k, v in one.state.previous.items())
    assert int(one.params["1.num_batches_tracked"]) == 6
