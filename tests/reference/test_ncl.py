"""Natural continual learning against dense matrices, and where its steps lead."""

from __future__ import annotations

import pytest
import torch
from tests.laws.toy import ORDER, go, mlp, stream
from tests.reference.test_kronecker import parts, psd
from torch import Tensor

from retain import Learner, Optim, batches
from retain.curvature import Kronecker, Precision, kfac
from retain.curvature.kronecker import Factors, joined
from retain.methods.ncl import NCL
from retain.types import HIDDEN, Params

F64 = torch.float64


def prior() -> tuple[Precision, Params]:
    """After two tasks of a conv layer, a linear layer without bias and a BatchNorm scale."""
    (one, _), (two, anchor) = parts(2)
    return Precision.flat(1e-2, one, anchor).plus(2.0, one, anchor).plus(2.0, two, anchor), anchor


def flat(params: Params, layer: str, columns: int) -> Tensor:
    return joined(params, layer, columns).flatten()


def test_a_step_is_the_gradient_times_the_dense_inverse_and_the_way_back() -> None:
    p, anchor = prior()
    params, grads = ({k: torch.randn_like(t) for k, t in anchor.items()} for _ in range(2))
    given, before = dict(grads), {k: g.clone() for k, g in grads.items()}
    found = p.natural(0.3, params, grads)
    for k, A in p.A.items():
        g, theta, mu, ours = (flat(t, k, len(A)) for t in (before, params, anchor, found))
        expected = 0.3 * (torch.linalg.solve(torch.kron(p.G[k], A), g) + theta - mu)
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    expected = 0.3 * (before["n.weight"] / p.rest["n.weight"] + params["n.weight"] - anchor["n.weight"])
    torch.testing.assert_close(found["n.weight"], expected)
    assert all(found[k] is given[k] for k in found), "in place"


def test_the_flat_prior_is_delta_times_the_identity() -> None:
    (one, anchor), _ = parts(2)
    p = Precision.flat(1e-2, one, anchor)
    g = {k: torch.randn_like(t) for k, t in anchor.items()}
    before = {k: v.clone() for k, v in g.items()}
    for k, v in p.natural(1e-2, anchor, g).items():
        torch.testing.assert_close(v, before[k], msg=k)


def test_the_sum_is_exact_where_it_is_a_product() -> None:
    rng = torch.Generator().manual_seed(0)
    A, G, H = psd(5, rng), psd(4, rng), psd(4, rng, 2)
    anchor = {"l.weight": torch.zeros(4, 5, dtype=F64)}
    one = Precision({"l": A}, {"l": G}, {}, {}, {}, anchor)
    two = one.plus(3.0, Factors({"l": A}, {"l": H}, {}), anchor)
    torch.testing.assert_close(torch.kron(two.G["l"], two.A["l"]), torch.kron(G + 3 * H, A))
    unit = two.inverse_A["l"] @ two.A["l"]
    torch.testing.assert_close(unit, torch.eye(5, dtype=F64), rtol=0, atol=1e-9)


def test_linear_gaussian_tasks_one_after_another_equal_joint_training() -> None:
    """Squared loss, G = I, inputs of the same second moment: then no sum of products is approximated."""
    rng = torch.Generator().manual_seed(0)
    delta, shape = 1.0, (3, 6)
    X = torch.randn(12, 6, generator=rng, dtype=F64)
    mu = {"l.weight": torch.zeros(shape, dtype=F64)}
    F = Factors({"l": X.T @ X}, {"l": torch.eye(3, dtype=F64)}, {})
    p = Precision.flat(delta, F, mu)
    targets = []
    for _ in range(3):
        Y = torch.randn(12, 3, generator=rng, dtype=F64)
        targets.append(Y)
        params = {k: v.clone() for k, v in mu.items()}
        scale = float(p.G["l"][0, 0])
        step = 1.0 / (1.0 + float(torch.linalg.eigvals(p.inverse_A["l"] @ X.T @ X).real.max()) / scale)
        for _ in range(1000):
            g = {"l.weight": params["l.weight"] @ X.T @ X - Y.T @ X}
            params["l.weight"] -= step * p.natural(1.0, params, g)["l.weight"]
        p, mu = p.plus(1.0, F, params), params
    joint = torch.linalg.solve(3 * X.T @ X + delta * torch.eye(6, dtype=F64), X.T @ sum(targets))
    assert float((mu["l.weight"] - joint.T).abs().max()) < 1e-8


def test_its_steps_come_to_rest_where_the_laplace_posterior_is_greatest() -> None:
    """Lambda^-1 g + theta - mu is 0 exactly where g + Lambda (theta - mu) is."""
    p, anchor = prior()
    theta = {k: torch.randn_like(t) for k, t in anchor.items()}
    penalty = Kronecker.around(Factors(p.A, p.G, p.rest), anchor)
    zero = {k: torch.zeros_like(t) for k, t in theta.items()}
    g = {k: -v for k, v in penalty.pull(1.0, theta, zero).items()}
    rest = p.natural(1.0, theta, g)
    assert max(float(v.abs().max()) for v in rest.values()) < 1e-8


def test_it_moves_what_the_past_depends_on_least() -> None:
    """The way of one task in the metric of the past's Fisher, beside plain SGD's, at equal lr."""
    moved = []
    for method in (NCL(delta=1e-3, examples=None), NCL(lam=0.0)):  # without lam there is no past
        one = Learner(mlp(), method, Optim(lr=0.1))
        first, second = stream("domain")[:2]
        torch.manual_seed(0)
        for task in (first, second):
            one.begin_task(task)
            if task is second:
                F = kfac(one._bound, one.params, first.train, HIDDEN, torch.Generator())
                penalty = Kronecker.around(F, one.params)
            for x, y in batches(task.train, ORDER, 0, task.index):
                one.observe(x, y)
            if task is first:
                one.end_task()
        moved.append(penalty.value(one.params))
    assert moved[0] < moved[1] / 5


def test_the_state_is_one_gaussian_around_the_latest_weights() -> None:
    one, _ = go(NCL(lam=2.0, delta=1e-2, examples=None))
    state = one.state.prior
    assert all(torch.equal(state.anchor[k], p) for k, p in one.model.named_parameters())
    for k, A in state.A.items():
        unit = state.inverse_A[k] @ A
        torch.testing.assert_close(unit, torch.eye(len(A)), rtol=0, atol=1e-2)
        assert float(torch.linalg.eigvalsh(A.double())[0]) > 0


@pytest.mark.parametrize("delta", [0.0, -1.0])
def test_a_prior_without_width_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match=r"NCL.delta must be a number > 0"):
        NCL(delta=delta)
