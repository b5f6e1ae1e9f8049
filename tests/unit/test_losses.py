"""Losses other than the cross-entropy of one class, and class weights: through the same hooks and the same bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as nnf

import retain
from retain.models import MLP
from retain.types import Loss

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


def test_class_weights_are_those_of_torch() -> None:
    weights = torch.tensor([1.0, 5.0, 0.5])
    x, y = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3
    torch.manual_seed(0)
    net = MLP((5,), 3, (HIDDEN,))
    made = retain.Learner(net, retain.Naive(), retain.Optim("sgd", 0.1), class_weights=weights)
    expected = nnf.cross_entropy(net(x), y, weight=weights).item()
    made.begin_task(retain.Task(0, "a", retain.Examples(x, y), None, None, (0, 1, 2)))
    assert made.observe(x, y).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kept", ["loss", "own loop"])
def test_class_weights_count_what_is_replayed_too(kept: str) -> None:
    weights = torch.tensor([1.0, 5.0, 0.5])
    x, y = torch.randn(12, 5, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
    torch.manual_seed(0)
    net = MLP((5,), 3, (HIDDEN,))
    optim = retain.Optim("sgd", 1e-30)
    made = retain.Learner(net, retain.Replay(memory=12), optim, class_weights=weights)
    made.begin_task(retain.Task(0, "a", retain.Examples(x, y), None, None, (0, 1, 2)))
    made.observe(x, y)  # all are remembered, and replayed beside the first six
    expected = nnf.cross_entropy(net(torch.cat((x[:6], x))), torch.cat((y[:6], y)), weight=weights).item()
    whole = made.method = retain.Replay(memory=12, replay_batch=12)
    assert isinstance(whole, retain.Replay)
    found = made.observe(x[:6], y[:6]) if kept == "loss" else made.loss(made.batch(x[:6], y[:6]))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_class_weights_go_through_a_chain() -> None:
    weights = torch.tensor([1.0, 5.0, 0.5])
    learner(retain.chain(retain.Replay(), retain.EWC()), "cross-entropy", class_weights=weights)
    with pytest.raises(ValueError, match="Chain has a loss of its own"):
        learner(retain.chain(retain.Replay(), retain.LwF()), "cross-entropy", class_weights=weights)


@pytest.mark.parametrize("weights", [torch.ones(2), torch.tensor([1, 2, 3]), torch.tensor([1.0, -1.0, 1.0])])
def test_class_weights_that_are_none_are_refused(weights: torch.Tensor) -> None:
    made = retain.Learner(MLP((5,), 3, (HIDDEN,)), retain.Naive(), class_weights=weights)
    with pytest.raises(ValueError, match="class_weights must be 3 finite floats >= 0"):
        made.start(retain.Examples(torch.randn(4, 5), torch.arange(4) % 3))


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (torch.zeros(4), r"\[N, 2\].*got torch.float32 \[N\]"),
        (torch.zeros(4, 2, dtype=torch.int64), "got torch.int64"),
        (torch.zeros(4, 3), r"got torch.float32 \[N, 3\]"),
        (torch.tensor([[0.0, 1.0], [0.0, 2.0]]), "example 1 has 2.0 for output 1"),
        (torch.tensor([[0.0, torch.nan], [0.0, 1.0]]), "example 0 has nan for output 1"),
    ],
)
def test_targets_of_another_kind_are_refused(y: torch.Tensor, words: str) -> None:
    made, x = learner(retain.Naive(), "binary"), torch.randn(len(y), 5)
    with pytest.raises(ValueError, match=words):
        made.begin_task(retain.Task(0, "a", retain.Examples(x, y), None, None, ()))


def test_one_output_takes_a_column() -> None:
    made = retain.Learner(MLP((5,), 1, (HIDDEN,)), retain.Naive(), loss="squared")
    with pytest.raises(ValueError, match=r"give y\[:, None\]"):
        made.start(retain.Examples(torch.randn(4, 5), torch.zeros(4)))
    made.begin_task(
        retain.Task(0, "a", retain.Examples(torch.randn(4, 5), torch.zeros(4, 1)), None, None, ())
    )
    with pytest.raises(ValueError, match=r"give y\[:, None\]"):  # it would be broadcast to [4, 4]
        made.observe(torch.randn(4, 5), torch.zeros(4))


@pytest.mark.parametrize("scenario", ["task", "class"])
def test_every_output_is_in_play_in_every_scenario(scenario: retain.Scenario) -> None:
    made = retain.Learner(
        MLP((5,), 2, (HIDDEN,)), retain.Naive(), scenario=scenario, classes="seen", loss="squared"
    )
    task = numbers("squared", 0)
    made.begin_task(task)
    made.observe(*task.train.batch(torch.arange(8)))
    assert bool(made.predict(torch.randn(3, 5), task).isfinite().all())


def test_a_run_which_measures_accuracy_refuses_what_has_none() -> None:
    x, y = torch.randn(8, 5), torch.arange(8) % 2
    with pytest.raises(ValueError, match="which loss squared has not"):
        retain.run(retain.Stream.from_arrays([(x, y, x, y)]), learner(retain.Naive(), "squared"))


@pytest.mark.parametrize("loss", ["binary", "squared"])
def test_lwf_answers_as_the_old_network_did(loss: Loss) -> None:
    """At the old weights its gradient of L_old is 0, at every temperature; far from them it is not."""
    made = learner(retain.LwF(lam=1.0, temperature=3.0), loss)
    task = numbers(loss, 0, 16)
    made.begin_task(task)
    made.end_task()
    made.begin_task(task)
    batch = made.batch(*task.train.batch(torch.arange(16)))
    plain, own = (
        made._bound.batch_loss(batch, made._bound.logits(made.params, batch.x, batch.task)),
        made.loss(batch),
    )
    grads = torch.autograd.grad(own - plain, [made.params[k] for k in made._bound.spec.names])
    assert all(float(g.abs().max()) < 1e-6 for g in grads)
    old = made._bound.logits(made.params, batch.x, batch.task).detach()
    moved = old + 1
    method = made.method
    assert isinstance(method, retain.LwF)
    zero = torch.zeros(())
    added = method.loss(made._bound, made.params, made.state, batch, moved, zero)
    T = 3.0
    expected = (
        0.5 * nnf.mse_loss(moved, old)
        if loss == "squared"
        else T**2 * nnf.binary_cross_entropy_with_logits(moved / T, (old / T).sigmoid())
    )
    torch.testing.assert_close(added, expected)


def test_what_a_method_does_not_learn_it_refuses() -> None:
    with pytest.raises(ValueError, match=r"VCL does not learn loss squared; these do: agem, der"):
        learner(retain.VCL(), "squared")
    with pytest.raises(ValueError, match="EWC does not learn loss squared"):
        learner(retain.EWC(labels="argmax"), "squared")
    with pytest.raises(ValueError, match="Replay does not learn loss binary"):
        learner(retain.Replay(select="herding"), "binary")
    with pytest.raises(ValueError, match="loss must be one of"):
        learner(retain.Naive(), "absolute")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="class_weights are for classes"):
        learner(retain.Naive(), "squared", class_weights=torch.ones(2))
    with pytest.raises(ValueError, match="loss of its own"):
        learner(retain.LwF(), "cross-entropy", class_weights=torch.ones(2))
