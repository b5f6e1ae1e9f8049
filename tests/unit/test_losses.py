"""Losses other than the cross-entropy of one class, and class weights: through the same hooks and the same bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as nnf

import retain
from retain.methods import discover
from retain.models import MLP
from retain.types import Loss

METHODS = sorted(n for n, kind in discover().items() if "squared" in kind().needs.losses)
HIDDEN = 16


def numbers(loss: Loss, task: int, n: int = 256) -> retain.Task:
    """Two outputs that depend on five inputs, in another way in each task's part of the space."""
    rng = torch.Generator().manual_seed(task)
    x = torch.randn(n, 5, generator=rng)
    y = torch.stack([x[:, 0] * x[:, 1], x[:, 2]], 1)
    y = (y > 0).float() if loss == "binary" else y
    return retain.Task(task, f"part {task}", retain.Examples(x, y), None, None, ())


def learner(method: retain.Method[Any], loss: Loss, **more: Any) -> retain.Learner:
    torch.manual_seed(0)
    return retain.Learner(
        MLP((5,), 2, (HIDDEN,)),
        method,
        retain.Optim("sgd", 0.2),
        seed=0,
        scenario="domain",
        loss=loss,
        **more,
    )


def learn(made: retain.Learner, loss: Loss, tasks: int = 2, epochs: int = 20) -> retain.Learner:
    for t in range(tasks):
        task = numbers(loss, t)
        made.begin_task(task)
        for x, y in retain.batches(task.train, retain.Order(epochs, None, 32), 0, t):
            made.observe(x, y)
        made.end_task()
    return made


def error(made: retain.Learner, loss: Loss) -> float:
    x, y = numbers(loss, 0).train.batch(torch.arange(256))
    out = made.predict(x)
    assert out.isfinite().all()
    if loss == "binary":
        return float(nnf.binary_cross_entropy_with_logits(out, y))
    return float(0.5 * (out - y).square().mean())


def test_these_methods_learn_every_loss() -> None:
    assert METHODS == ["joint", "l2", "naive", "replay", "si"]


@pytest.mark.parametrize("loss", ["binary", "squared"])
@pytest.mark.parametrize("name", [m for m in METHODS if m != "joint"])
def test_learns_and_repeats_bit_for_bit(name: str, loss: Loss) -> None:
    before = error(_started(name, loss), loss)
    made, again = (learn(learner(discover()[name](), loss), loss) for _ in range(2))
    assert error(made, loss) < 0.75 * before
    assert all(torch.equal(made.params[k], p) for k, p in again.params.items())


def _started(name: str, loss: Loss) -> retain.Learner:
    made = learner(discover()[name](), loss)
    made.start(numbers(loss, 0).train)
    return made


@pytest.mark.parametrize("loss", ["binary", "squared"])
def test_a_step_is_that_of_a_plain_loop(loss: Loss) -> None:
    made, x, y = learner(retain.Naive(), loss), *numbers(loss, 0).train.batch(torch.arange(32))
    torch.manual_seed(0)
    net = MLP((5,), 2, (HIDDEN,))
    optimizer = torch.optim.SGD(net.parameters(), 0.2)
    made.begin_task(numbers(loss, 0))
    for _ in range(5):
        made.observe(x, y)
        optimizer.zero_grad()
        plain = (
            nnf.binary_cross_entropy_with_logits
            if loss == "binary"
            else lambda o, t: 0.5 * nnf.mse_loss(o, t)
        )
        plain(net(x), y).backward()
        optimizer.step()
    for k, p in net.named_parameters():
        torch.testing.assert_close(made.params[k], p, rtol=1e-6, atol=1e-7)


def test_the_own_loop_is_the_trainer() -> None:
    made, own = (learner(retain.Replay(memory=50), "squared") for _ in range(2))
    task = numbers("squared", 0)
    for one in (made, own):
        one.begin_task(task)
    for x, y in retain.batches(task.train, retain.Order(2, None, 32)):
        made.observe(x, y)
        own.loss(own.batch(x, y)).backward()
        own.step()
    assert all(torch.equal(made.params[k], p) for k, p in own.params.items())


def test_class_weights_are_those_of_torch() -> None:
    weights = torch.tensor([1.0, 5.0, 0.5])
    x, y = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3
    torch.manual_seed(0)
    net = MLP((5,), 3, (HIDDEN,))
    made = retain.Learner(net, retain.Naive(), retain.Optim("sgd", 0.1), class_weights=weights)
    expected = nnf.cross_entropy(net(x), y, weight=weights).item()
    made.begin_task(retain.Task(0, "a", retain.Examples(x, y), None, None, (0, 1, 2)))
    assert made.observe(x, y).item() == pytest.approx(expected, rel=1e-6)


def test_what_a_method_does_not_learn_it_refuses() -> None:
    with pytest.raises(ValueError, match=r"LwF does not learn loss squared; these do: joint, l2"):
        learner(retain.LwF(), "squared")
    with pytest.raises(ValueError, match="Replay does not learn loss binary"):
        learner(retain.Replay(select="balanced"), "binary")
    with pytest.raises(ValueError, match="loss must be one of"):
        learner(retain.Naive(), "absolute")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="class_weights are for classes"):
        learner(retain.Naive(), "squared", class_weights=torch.ones(2))
    with pytest.raises(ValueError, match="loss of its own"):
        learner(retain.LwF(), "cross-entropy", class_weights=torch.ones(2))
