"""A merged quadratic against the sum of separate penalties, and EWC against autograd of that sum."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from tests.laws.toy import cnn, double, kept, mlp, stream
from torch import Tensor, nn

from retain import EWC, L2, Learner, Optim, Stream
from retain.curvature import Quadratic, fisher
from retain.types import HIDDEN, Batch, Params

F64 = torch.float64
weights = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))
places = st.floats(-100, 100)
penalties = st.lists(
    st.tuples(st.tuples(weights, weights), st.tuples(places, places)), min_size=1, max_size=6
)


def two(values: tuple[float, float]) -> Params:
    """Two entries of one value each."""
    return {"a": torch.tensor([values[0]], dtype=F64), "b": torch.tensor(values[1], dtype=F64)}


def merged(parts: list[tuple[Params, Params]]) -> Quadratic:
    q = Quadratic.around(*parts[0])
    for F, anchor in parts[1:]:
        q = q.plus(Quadratic.around(F, anchor))
    return q


def separate(parts: list[tuple[Params, Params]], p: Params) -> Tensor:
    """sum_k F_k (p - a_k)^2, as it is written."""
    return torch.stack([(F[k] * (p[k] - a[k]) ** 2).sum() for F, a in parts for k in F]).sum()


@given(penalties, st.tuples(places, places), st.floats(0, 1e3))
def test_a_merged_penalty_is_the_sum_of_the_separate_ones(
    values: Any, at: tuple[float, float], lam: float
) -> None:
    parts = [(two(F), two(a)) for F, a in values]
    p = {k: v.requires_grad_() for k, v in two(at).items()}
    truth = separate(parts, p)
    q = merged(parts)
    size = 1 + sum(
        float((F[k] * (1 + a[k].abs() + p[k].detach().abs()) ** 2).sum()) for F, a in parts for k in F
    )
    assert abs(q.value(p) - float(truth.detach())) <= 1e-12 * size
    assert q.constant >= 0
    expected = torch.autograd.grad(lam / 2 * truth, list(p.values()))
    g = {k: torch.full_like(v, 0.5, requires_grad=False) for k, v in p.items()}
    found = q.pull(lam, p, g)
    for k, e in zip(p, expected, strict=True):
        assert float((found[k] - 0.5 - e).abs()) <= 1e-12 * (1 + lam) * size
    assert all(bool(t.isfinite().all()) for t in (*q.weight.values(), *q.moment.values()))


def test_the_mean_over_a_layer_is_that_of_its_weight_and_bias_together() -> None:
    gen = torch.Generator().manual_seed(0)
    shapes = {"net.0.weight": (5, 3), "net.0.bias": (5,), "net.2.weight": (2, 5), "scale": ()}
    W = {k: torch.rand(s, generator=gen) for k, s in shapes.items()}
    found = Quadratic.around(W, W).by_layer()
    whole = torch.cat([W["net.0.weight"].flatten(), W["net.0.bias"]])
    assert found == pytest.approx(
        {"net.0": float(whole.mean()), "net.2": float(W["net.2.weight"].mean()), "": float(W["scale"])},
        rel=1e-6,
    )


def test_entries_that_nothing_guards_stay_unguarded() -> None:
    zero, one = two((0.0, 0.0)), two((0.0, 2.0))
    q = merged([(zero, two((1.0, 1.0))), (zero, two((5.0, 5.0))), (one, two((7.0, 3.0)))])
    assert float(q.weight["a"]) == float(q.moment["a"]) == 0
    assert float(q.weight["b"]) == 2 and float(q.moment["b"]) == 6 and q.constant == 18
    assert q.value(two((99.0, 3.0))) == 0.0 and q.largest() == 2.0
    g = q.pull(1e9, two((99.0, 3.0)), two((0.25, 0.25)))
    assert float(g["a"]) == float(g["b"]) == 0.25
    moved = q.proximal_step(1e9, two((99.0, 4.0)), {"a": 0.1, "b": 0.1})
    assert float(moved["a"]) == 99.0 and abs(float(moved["b"]) - 3) < 1e-8


@given(st.floats(0, 1e4), places, places, st.floats(1e-4, 10), st.floats(0, 1e4))
@example(F=0.0, a=0.0, p=2.0, lr=1.0, lam=1.1125369292536007e-308)  # 1 / (lr lam) times p is no float64
def test_a_proximal_step_is_the_argmin(F: float, a: float, p: float, lr: float, lam: float) -> None:
    q = Quadratic.around({"a": torch.tensor([F], dtype=F64)}, {"a": torch.tensor([a], dtype=F64)})
    moved = float(q.proximal_step(lam, {"a": torch.tensor([p], dtype=F64)}, {"a": lr})["a"])

    def objective(z: float) -> float:
        return lam / 2 * F * (z - a) ** 2 + (z - p) ** 2 / (2 * lr)

    best = float(minimize_scalar(objective, bracket=(min(a, p) - 1, max(a, p) + 1)).x)
    assert abs(moved - best) <= 1e-5 * (1 + abs(a - p))
    assert objective(moved) <= objective(best) * (1 + 1e-9) + 1e-12


def test_a_proximal_step_with_its_own_rate_for_each_entry() -> None:
    q = Quadratic.around(two((2.0, 2.0)), two((0.0, 0.0)))
    moved = q.proximal_step(3.0, two((1.0, 1.0)), {"a": 0.1, "b": 0.5})
    assert float(moved["a"]) == pytest.approx(1 / 1.6) and float(moved["b"]) == pytest.approx(1 / 4)


@pytest.mark.parametrize("net", [mlp, cnn])
@pytest.mark.parametrize(
    "method", [EWC(lam=7, examples=None), L2(lam=0.3), EWC(lam=7, labels="true", examples=None)]
)
def test_the_gradient_hook_is_autograd_of_the_summed_penalties(method: EWC | L2, net: Any) -> None:
    """Three tasks on a real network: penalties kept apart here, merged there."""
    torch.manual_seed(0)
    model: nn.Module = net().double()
    one = Learner(model, method, Optim(lr=0.05))
    parts: list[tuple[Params, Params]] = []
    with double():
        for task in stream("domain"):
            one.begin_task(task)
            for index in torch.arange(60).split(12):
                one.observe(*task.train.batch(index))
            one.end_task()
            names = one._bound.spec.names
            here = {k: one.params[k].detach().clone() for k in names}
            ones = {k: torch.ones_like(v) for k, v in here.items()}
            if isinstance(method, EWC):
                rng = torch.Generator()
                ones = fisher(one._bound, one.params, task.train, HIDDEN, rng, method.labels)
            parts.append((ones, here))
        x, y = stream("domain")[0].train.batch(torch.arange(20))
    with torch.no_grad():
        for k in names:  # away from the last anchor
            one.params[k].add_(0.1 * torch.randn(one.params[k].shape, dtype=F64))
    batch = Batch(x, y, torch.full_like(y, HIDDEN))
    leaves = [one.params[k] for k in names]
    loss = one._bound.loss(one.params, batch, train=False)
    plain = dict(zip(names, torch.autograd.grad(loss, leaves, retain_graph=True), strict=True))
    total = loss + method.lam / 2 * separate(parts, one.params)
    expected = torch.autograd.grad(total, leaves)
    before = kept(one)["state"]
    found = method.gradient(one._bound, one.params, one.state, batch, plain)
    for k, e in zip(names, expected, strict=True):
        torch.testing.assert_close(found[k], e, rtol=1e-10, atol=1e-12)
    assert one.state.penalty.value(one.params) == pytest.approx(
        float(separate(parts, one.params).detach()), rel=1e-10
    )
    assert before.penalty.constant == one.state.penalty.constant > 0


def test_online_ewc_is_one_penalty_around_the_latest_weights() -> None:
    torch.manual_seed(0)
    method = EWC(lam=1, online=True, gamma=0.5, examples=None)
    one = Learner(mlp(), method, Optim(lr=0.05))
    expected: Params = {}
    for task in stream("domain"):
        one.begin_task(task)
        one.observe(*task.train.batch(torch.arange(60)))
        one.end_task()
        F = fisher(one._bound, one.params, task.train, HIDDEN, torch.Generator())
        expected = {k: 0.5 * expected[k] + F[k] if expected else F[k] for k in F}
        for k in F:
            torch.testing.assert_close(one.state.penalty.weight[k], expected[k])
            anchored = one.state.penalty.weight[k] * one.params[k]
            assert torch.equal(one.state.penalty.moment[k], anchored)


def test_ewc_on_the_validation_split() -> None:
    x, y = stream("domain")[0].train.parts[0].x, stream("domain")[0].train.parts[0].y
    held = Stream.from_arrays([(x, y, x, y)], validation=10)
    one = Learner(mlp(), EWC(split="validation", examples=None), Optim(lr=0.05))
    one.begin_task(held[0])
    one.observe(*held[0].train.batch(torch.arange(50)))
    one.end_task()
    data = held[0].validation
    assert data is not None and len(data) == 10
    F = fisher(one._bound, one.params, data, HIDDEN, torch.Generator())
    assert all(torch.equal(one.state.penalty.weight[k], F[k]) for k in F)
    without = Learner(mlp(), EWC(split="validation"), Optim(lr=0.05))
    without.begin_task(stream("domain")[0])
    with pytest.raises(ValueError, match="--validation"):
        without.end_task()
