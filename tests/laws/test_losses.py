"""Laws of losses: what a method says it can learn, it learns, repeats, resumes, and does in any loop."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as nnf
from tests.laws.toy import METHODS, clone, differing, home, kept
from torch import Tensor, nn

import retain
from retain import GradientMethod, Learner, Method, Optim, Order, batches, checkpoint
from retain.seeds import derive
from retain.types import Loss

OUTPUTS = 3
OTHERS: tuple[Loss, ...] = ("binary", "squared")
PAIRS = [(n, loss) for n, m in METHODS.items() for loss in OTHERS if loss in m.needs.losses]
REFUSED = [(n, loss) for n, m in METHODS.items() for loss in OTHERS if loss not in m.needs.losses]
each_pair = pytest.mark.parametrize(("name", "loss"), PAIRS)
ORDER = Order(epochs=25, batch_size=12)


@cache
def tasks(loss: Loss) -> tuple[retain.Task, ...]:
    """Two parts of the input space, with the same three functions of eight inputs to learn in both."""
    found = []
    W = torch.randn(8, OUTPUTS, generator=torch.Generator().manual_seed(0))
    for t in range(2):
        x = torch.randn(60, 8, generator=torch.Generator().manual_seed(t + 1)) + (2 * t - 1) * 0.5
        y = (x @ W) / 2
        examples = retain.Examples(x, (y > 0).float() if loss == "binary" else y)
        found.append(retain.Task(t, f"part {t}", examples, examples, None, ()))
    return tuple(found)


def learner(method: Method[Any], loss: Loss, seed: int = 0, lr: float = 0.5) -> Learner:
    torch.manual_seed(derive(seed, "model"))
    net = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, OUTPUTS))
    optim = Optim("sgd", lr)
    return Learner(net, method, optim, seed=seed, scenario=home(method), loss=loss)


def go(one: Learner, loss: Loss, order: Order = ORDER, own: bool = False) -> Learner:
    for task in tasks(loss):
        one.begin_task(task)
        for x, y in batches(task.train, order, 0, task.index):
            if own:
                one.loss(one.batch(x, y)).backward()
                one.step()
            else:
                one.observe(x, y)
        one.end_task()
    return one


def error(one: Learner, loss: Loss, task: retain.Task) -> float:
    x, y = task.train.batch(torch.arange(60))
    out = one.predict(x, task)
    assert out.shape == (60, OUTPUTS) and bool(out.isfinite().all()), "no output is ever out of play"
    if loss == "binary":
        return float(nnf.binary_cross_entropy_with_logits(out, y))
    return float(0.5 * nnf.mse_loss(out, y))


def chance(loss: Loss, y: Tensor) -> float:
    """The smallest mean loss of answers that are the same for every example."""
    mean = y.mean(0)
    return float(
        nnf.binary_cross_entropy(mean.expand_as(y), y)
        if loss == "binary"
        else 0.5 * nnf.mse_loss(mean.expand_as(y), y)
    )


@each_pair
def test_learns_better_than_chance(name: str, loss: Loss) -> None:
    one, first = learner(METHODS[name], loss), tasks(loss)[0]
    one.begin_task(first)
    for x, y in batches(first.train, ORDER, 0, 0):
        one.observe(x, y)
    one.end_task()
    assert error(one, loss, first) < 0.8 * chance(loss, first.train.labels())


def steps(name: str) -> bool:
    """Whether it can be put in a loop of one's own."""
    return isinstance(METHODS[name], GradientMethod) and METHODS[name].data == "task"


@each_pair
def test_same_seed_same_bits_in_any_loop(name: str, loss: Loss) -> None:
    short = Order(epochs=2, batch_size=12)
    one, two = (
        go(learner(METHODS[name], loss, lr=0.05), loss, short, own and steps(name)) for own in (False, True)
    )
    assert differing(kept(one), kept(two)) == []


@each_pair
def test_resumed_in_the_midst_of_a_task_it_ends_in_the_same_bits(
    name: str, loss: Loss, tmp_path: Path
) -> None:
    first, second = tasks(loss)
    data = list(batches(second.train, Order(epochs=2, batch_size=12), 0, 1))
    whole = learner(METHODS[name], loss, lr=0.05)
    whole.begin_task(first)
    for x, y in batches(first.train, Order(batch_size=12), 0, 0):
        whole.observe(x, y)
    whole.end_task()
    whole.begin_task(second)
    for x, y in data[:4]:
        whole.observe(x, y)
    checkpoint.save(tmp_path / "c", clone(whole.snapshot()))
    again = learner(METHODS[name], loss, seed=0, lr=0.05)
    again.start(first.train)
    again.restore(checkpoint.load(tmp_path / "c"), [first], second, len(data))
    for one in (whole, again):
        torch.manual_seed(1)
        for x, y in data[4:]:
            one.observe(x, y)
        one.end_task()
    assert differing(kept(whole), kept(again)) == []


@pytest.mark.parametrize(("name", "loss"), REFUSED)
def test_what_it_cannot_learn_it_refuses_and_names_what_can(name: str, loss: Loss) -> None:
    kind = type(METHODS[name]).__name__
    with pytest.raises(ValueError, match=rf"{kind} does not learn loss {loss}; these do: .*ewc.*, replay"):
        learner(METHODS[name], loss)


def test_every_loss_is_learned_by_most_of_the_methods() -> None:
    refuse = {n for n, _ in REFUSED}
    assert refuse == {
        "bir", "bir-internal", "er-ace", "gdumb", "generative-classifier", "generative-replay",
        "generative-replay-conv", "generative-replay-soft", "icarl", "ncm", "ncm-network", "randumb", "randumb-conv",
        "ranpac", "ranpac-network", "replay-herding", "replay-through-feedback", "slda", "slda-first", "vcl",
        "vcl-coreset",
    }  # fmt: skip
    assert get_args(Loss)[1:] == OTHERS and math.isfinite(
        chance("squared", tasks("squared")[0].train.labels())
    )
