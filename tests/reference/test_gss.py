"""GSS: products of gradients against autograd, and algorithm 2 as it is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy.stats import chisquare
from tests.laws.toy import CLASSES, cnn, images, learner, mlp, stream
from torch import Tensor, nn

from retain import Learner, Optim, Order, run
from retain.curvature import covered
from retain.curvature.products import gradient_products
from retain.examples import Examples
from retain.methods.gss import GSS, State, _drawn
from retain.types import HIDDEN, Batch


class Tied(nn.Module):
    """One layer used twice, which no single pass covers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 64, bias=False), nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(self.a(self.a(x.flatten(1)).relu()))
        return out


def batch(n: int, seed: int = 0) -> Batch:
    x, y = images([0, 1, 2, 3], n, seed)
    return Batch(x.double() / 255, y, torch.full_like(y, HIDDEN))


def bound(model: nn.Module, method: GSS) -> Learner:
    one = Learner(model.double(), method, Optim(lr=0.1), scenario="class", classes="seen")
    b = batch(12)
    one.start(Examples(b.x, b.y))
    one.in_play.see(torch.tensor([0, 1, 2]))
    return one


def one_by_one(one: Learner, b: Batch) -> Tensor:
    """Each example's gradient by autograd: [N, P]."""
    rows = []
    for i in range(len(b.y)):
        loss = one._bound.loss(
            one.params, Batch(b.x[i : i + 1], b.y[i : i + 1], b.task[i : i + 1]), train=False
        )
        grads = torch.autograd.grad(loss, [one.params[k] for k in one._bound.spec.names])
        rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows)


@pytest.mark.parametrize("model", [mlp, cnn, Tied])
def test_products_are_those_of_autograds_gradients(model: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    one, b = bound(model(), GSS()), batch(12)
    b = b._replace(y=b.y.clamp_max(2))
    layers = covered(one._bound, one.params, b.x, b.task)
    G = one_by_one(one, b)
    K = gradient_products(one._bound, one.params, b, layers)
    torch.testing.assert_close(K, G @ G.T, rtol=1e-9, atol=1e-12)


def literal(
    one: Learner, method: GSS, state: State, b: Batch, rng: torch.Generator
) -> tuple[Tensor, list[float]]:
    """Algorithm 2, one example after the other, all compared with the same few of the memory."""
    assert state.slots is not None and state.scores is not None
    x, C = state.slots.x.clone(), state.scores.tolist()
    few = state.slots.draw(min(method.compare, state.slots.filled), rng)
    G = one_by_one(one, few)
    u = torch.rand(len(b.y), 2, generator=rng, dtype=torch.float64)
    filled = state.slots.filled
    for r, g in enumerate(one_by_one(one, b)):
        c = float((G @ g / G.norm(dim=1) / g.norm()).max()) + 1
        if filled < method.memory:
            x[filled], C[filled] = b.x[r], c
            filled += 1
        elif c < 1:
            i = _drawn(torch.tensor(C, dtype=torch.float64), float(u[r, 0]))
            if float(u[r, 1]) < C[i] / (C[i] + c):
                x[i], C[i] = b.x[r], c
    return x, C


@pytest.mark.parametrize("memory", [10, 16, 30])
def test_the_memory_is_algorithm_2s(memory: int) -> None:
    torch.manual_seed(0)
    method = GSS(memory=memory, compare=4)
    one = bound(mlp(), method)
    rng = torch.Generator().manual_seed(5)
    _, state = method.batch(
        one._bound, one.params, one.state, batch(12)._replace(y=batch(12).y.clamp_max(2)), rng
    )
    replaced = 0
    for seed in range(1, 5):
        b = batch(12, seed)._replace(y=batch(12).y.clamp_max(2))
        slots, scores = state.slots, state.scores
        assert slots is not None and scores is not None
        held = State(slots._replace(x=slots.x.clone()), scores.clone(), state.layers)
        twin = torch.Generator()
        twin.set_state(rng.get_state())
        x, C = literal(one, method, held, b, twin)
        before = held.slots.x if held.slots else x
        state = method._offer(one._bound, one.params, state, b, rng)
        assert state.slots is not None and state.scores is not None
        assert torch.equal(state.slots.x, x)
        torch.testing.assert_close(state.scores, torch.tensor(C, dtype=torch.float64))
        replaced += (
            int((x != before).flatten(1).any(1).sum()) if held.slots and held.slots.filled == memory else 0
        )
    assert replaced > 0 or memory == 30


def test_draws_are_proportional_to_the_scores() -> None:
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0, 4.0], dtype=torch.float64)
    u = torch.rand(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    counts = torch.tensor([_drawn(weights, v) for v in [*u, 0.0, 1 - 1e-16]]).bincount(minlength=5).tolist()
    assert counts[0] == counts[3] == 0
    assert chisquare([counts[i] for i in (1, 2, 4)], [4002 / 8, 4002 * 3 / 8, 4002 / 2]).pvalue > 1e-3


def test_without_room_it_is_plain_and_with_it_the_past_is_held() -> None:
    one = learner(GSS(memory=0), scenario="class")
    run(stream("class"), one, Order(batch_size=12))
    assert one.method.examples_stored(one.state) == 0
    one = learner(GSS(memory=40), scenario="class")
    result = run(stream("class"), one, Order(epochs=10, batch_size=12))
    assert result.examples_stored == 40 and result.accuracy[-1][0] > 0.8


@pytest.mark.parametrize("given", [{"memory": -1}, {"compare": 0}, {"replay_batch": 0}])
def test_impossible_settings_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"GSS.{next(iter(given))}"):
        GSS(**given)
