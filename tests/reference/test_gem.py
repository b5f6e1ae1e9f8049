"""What GEM tells of its steps, against the step written out with plain autograd."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from tests.laws.toy import mlp, stream
from torch import Tensor, nn

from retain import GEM, Learner, Optim
from retain.examples import Examples

LR = 0.05


def gradient(one: Learner, x: Tensor, y: Tensor) -> Tensor:
    loss = nn.functional.cross_entropy(one.model(x), y)
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(one.model.parameters()))])


def weights(one: Learner) -> Tensor:
    return torch.cat([p.detach().reshape(-1).clone() for p in one.model.parameters()])


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_the_step_is_g_and_the_multipliers_it_tells_times_each_past_gradient(margin: float) -> None:
    torch.manual_seed(0)
    one = Learner(mlp().double(), GEM(memory_per_task=20, margin=margin), Optim(lr=LR), scenario="domain")
    seen: list[tuple[bool, Any]] = []
    for task in stream("domain"):
        images, labels = task.train.batch(torch.arange(60))
        data = Examples(images.double(), labels)
        one.begin_task(type(task)(task.index, task.name, data, None, None, task.classes))
        for k in range(5):
            held = cast(Any, one.state)
            xs, ys = (past.split(held.sizes) for past in held.past[:2]) if held.sizes else ((), ())
            before, batch = weights(one), data.batch(torch.arange(12 * k, 12 * k + 12))
            g = gradient(one, *batch)
            G = [gradient(one, x, y) for x, y in zip(xs, ys, strict=True)]
            one.observe(*batch)
            told = one.inspect(end=False)
            if not task.index:
                assert told == {}
                continue
            products = torch.stack([g @ g_k for g_k in G])
            turned, v = bool((products < 0).any()), told["multipliers"]
            seen.append((turned, v))
            assert len(v) == task.index and (turned or v == [0.0] * task.index)
            step = g + sum(m * g_k for m, g_k in zip(v, G, strict=True))
            torch.testing.assert_close(weights(one), before - LR * step, rtol=0, atol=1e-8)
            assert told["cosine"] == pytest.approx(
                [float(p / g.norm() / g_k.norm()) for p, g_k in zip(products, G, strict=True)], abs=1e-9
            )
        one.end_task()
    assert {turned for turned, _ in seen} == {True, False} or margin, "both kinds of step were made"
    assert any(sum(v) > 0 for _, v in seen)
