"""SI against a loop that is written as the paper has it, and its path integral against the loss."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from tests.laws.toy import images, mlp
from torch import Tensor

from retain import Learner, Optim
from retain.examples import Examples
from retain.methods.si import SI
from retain.types import Params, Task

ALL = torch.arange(60)


@cache
def tasks() -> list[Task]:
    """Three tasks of permuted pixels, in float64."""
    found = []
    for t in range(3):
        x, y = images([0, 1, 2, 3], 60, t, torch.randperm(64, generator=torch.Generator().manual_seed(t)))
        found.append(Task(t, str(t), Examples(x.double() / 255, y), None, None, (0, 1, 2, 3)))
    return found


def learner(method: SI, optim: Optim, clip: float | None = None) -> Learner:
    torch.manual_seed(0)
    return Learner(mlp().double(), method, optim, scenario="domain", clip=clip)


def data(task: Task, index: Tensor = ALL) -> tuple[Tensor, Tensor]:
    return task.train.batch(index)


@torch.no_grad()
def loss_of(one: Learner, task: Task) -> float:
    x, y = data(task)
    return float(torch.nn.functional.cross_entropy(one.model(x), y))


def path_integral(lr: float, steps: int, method: SI) -> tuple[float, float]:
    """The sum of all omega, and the decrease of the task's own loss, in the second of two tasks."""
    one = learner(method, Optim(lr=lr))
    for task in tasks()[:2]:
        one.begin_task(task)
        first = loss_of(one, task)
        for _ in range(steps):
            one.observe(*data(task))
        last = loss_of(one, task)
        total = float(sum(w.sum() for w in one.state.path.omega.values()))
        if task is not tasks()[1]:
            one.end_task()
    return total, first - last


@pytest.mark.parametrize("c", [0.0, 5.0])
def test_the_path_integral_is_the_decrease_of_the_tasks_own_loss_under_small_steps(c: float) -> None:
    """Also where a penalty bends the way: its gradient is no part of the integral."""
    for lr, steps, error in ((0.04, 50, 4e-3), (0.01, 200, 1e-3)):
        total, decrease = path_integral(lr, steps, SI(c=c))
        assert decrease > 0.05
        assert abs(total / decrease - 1) < error


def test_trap_11_what_the_weights_were_is_no_view_of_what_they_are() -> None:
    one = learner(SI(), Optim(lr=0.1))
    task = tasks()[0]
    one.begin_task(task)
    held = {p.data_ptr() for p in one.params.values()}
    assert not held & {p.data_ptr() for p in one.state.start.values()}
    one.observe(*data(task))
    assert all(not torch.equal(one.state.start[k], one.params[k]) for k in ("1.weight", "3.weight"))
    one.end_task()
    weight = one.state.penalty.weight
    assert all(float(weight[k].max()) > 0 for k in weight)
    assert not held & {t.data_ptr() for t in one.state.penalty.moment.values()}


def by_hand(optim: Optim, c: float, xi: float, clip: float | None) -> tuple[Params, Params]:
    """Two losses, two backward passes a step: the task's alone for omega, with the surrogate to learn."""
    torch.manual_seed(0)
    net = mlp().double()
    p = dict(net.named_parameters())
    optimizer = optim.build(list(p.values()))
    Omega = {k: torch.zeros_like(v) for k, v in p.items()}
    old: Params = {}
    for task in tasks():
        omega: Any = dict.fromkeys(p, 0.0)
        start = {k: v.detach().clone() for k, v in p.items()}
        for index in ALL.split(20):
            x, y = data(task, index)
            loss = torch.nn.functional.cross_entropy(net(x), y)
            g = torch.autograd.grad(loss, list(p.values()), retain_graph=True)
            if old:
                loss = loss + c * sum((Omega[k] * (old[k] - v) ** 2).sum() for k, v in p.items())
            optimizer.zero_grad()
            loss.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(list(p.values()), clip)
            before = {k: v.detach().clone() for k, v in p.items()}
            optimizer.step()
            for (k, v), g_k in zip(p.items(), g, strict=True):
                omega[k] = omega[k] - g_k * (v.detach() - before[k])
        for k, v in p.items():
            Omega[k] = (Omega[k] + omega[k] / ((v.detach() - start[k]) ** 2 + xi)).clamp(min=0)
            old[k] = v.detach().clone()
    return old, Omega


@pytest.mark.parametrize(
    ("optim", "clip"),
    [(Optim(lr=0.2), None), (Optim("adam", lr=1e-2), None), (Optim(lr=0.2, momentum=0.9), 0.1)],
)
def test_si_is_the_algorithm_written_by_hand(optim: Optim, clip: float | None) -> None:
    one = learner(SI(c=3.0, xi=0.05), optim, clip)
    for task in tasks():
        one.begin_task(task)
        for index in ALL.split(20):
            one.observe(*data(task, index))
        one.end_task()
    params, Omega = by_hand(optim, 3.0, 0.05, clip)
    for k, p in params.items():
        torch.testing.assert_close(one.params[k].detach(), p, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(one.state.penalty.weight[k], Omega[k], rtol=1e-9, atol=1e-11)
