"""GEM's solver against brute force over active sets, against quadprog, and against its own promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import quadprog
import torch
from torch import Tensor

from retain.projection import _nonnegative, project, solve_dual

PROBLEMS = 1000
MARGINS = (0.0, 0.5, 3.0, -0.7)


def problem(seed: int, wide: bool = False) -> tuple[Tensor, Tensor]:
    """g [P] and G [k, P], k up to 8, P from 1 to 12; half of them with degenerate rows among G's."""
    rng = np.random.default_rng(seed)
    k, P = int(rng.integers(1, 9)), int(rng.integers(1, 13))
    G = rng.normal(size=(k, P)) + rng.choice([0.0, 2.0]) * rng.normal(size=P)
    g = rng.normal(size=P)
    if rng.random() < 0.3:
        g = g - 2 * G.sum(0)  # against most of the past: many constraints bind
    for i in range(1, k):
        kind, other = rng.integers(10), int(rng.integers(i))
        if kind == 0:
            G[i] = G[other]
        elif kind == 1:
            G[i] = -G[other]
        elif kind == 2:
            G[i] = rng.uniform(0.1, 10) * G[other]
        elif kind == 3:
            G[i] = 0
        elif kind == 4:
            G[i] = rng.normal() * G[other] + rng.normal() * G[int(rng.integers(i))]
    if rng.random() < 0.1:
        g = -G[0].copy()
    if wide:
        G *= 10 ** rng.uniform(-6, 3, size=(k, 1))
        g *= 10 ** rng.uniform(-6, 3)
    return torch.from_numpy(g), torch.from_numpy(G)


def brute_force(g: Tensor, G: Tensor, margin: float) -> Tensor:
    """g~ by trying every set of constraints that may bind, each solved with a pseudo-inverse.

    Of all sets whose multipliers u are >= 0, the one that breaks no constraint g~.g_k >= 0 is the
    solution (the Karush-Kuhn-Tucker conditions; among dependent gradients some independent set has
    u >= 0, by Caratheodory).
    """
    A, h = G.numpy(), (g + margin * G.sum(0)).numpy()
    A = A / np.maximum(np.linalg.norm(A, axis=1, keepdims=True), 1e-300)
    sets = np.array(list(itertools.product([0.0, 1.0], repeat=len(A))))
    chosen = A.T[None] * sets[:, None, :]  # [2^k, P, k], columns outside the set nought
    u = -np.linalg.pinv(chosen, rcond=1e-11) @ h
    candidates = h + np.einsum("spk,sk->sp", chosen, u)
    broken = -(candidates @ A.T).min(1)
    broken[u.min(1) < -1e-11 * np.linalg.norm(h)] = np.inf
    return torch.from_numpy(candidates[broken.argmin()])


@pytest.mark.parametrize("wide", [False, True], ids=["norms about 1", "norms 1e-6 to 1e3"])
def test_equals_brute_force(wide: bool) -> None:
    for seed in range(PROBLEMS):
        g, G = problem(seed, wide)
        margin = MARGINS[seed % len(MARGINS)] if seed % 3 else 0.0
        size = g.norm()
        if wide:  # g + margin * G'1 itself is known to no more than this
            size = size + abs(margin) * G.norm(dim=1).sum()
        found, v = project(g, G, margin)
        assert (found - brute_force(g, G, margin)).norm() <= 1e-8 * size, seed
        assert (v >= margin).all(), seed


@pytest.mark.parametrize("wide", [False, True], ids=["norms about 1", "norms 1e-6 to 1e3"])
def test_without_margin_no_past_loss_rises(wide: bool) -> None:
    for seed in range(PROBLEMS):
        g, G = problem(seed, wide)
        found, _ = project(g, G)
        assert (G @ found >= -1e-9 * g.norm() * G.norm(dim=1)).all(), seed
        assert found.norm() <= g.norm() * (1 + 1e-12), seed


@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("by", ["gradients", "gram"])
def test_v_equals_quadprog(margin: float, by: str) -> None:
    ridge = 1e-3
    for seed in range(PROBLEMS):
        g, G = problem(seed)
        gram, dots, k = (G @ G.T).numpy(), (G @ g).numpy(), len(G)
        expected = quadprog.solve_qp(gram + ridge * np.eye(k), -dots, np.eye(k), np.full(k, margin))[0]
        v = (
            project(g, G, margin, ridge)[1]
            if by == "gradients"
            else solve_dual(G @ G.T, G @ g, margin, ridge)
        )
        assert np.abs(v.numpy() - expected).max() <= 1e-8 * max(1, np.abs(expected).max()), seed


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_wide_norms_with_a_ridge_meet_the_optimality_conditions(margin: float) -> None:
    ridge = 1e-3
    for seed in range(PROBLEMS):
        g, G = problem(seed, wide=True)
        found, v = project(g, G, margin, ridge)
        slope = G @ found + ridge * v  # of the dual; >= 0, and 0 where v > margin
        size = (G.square().sum(1) + ridge).sqrt()  # of a row of [G, sqrt(ridge) I]
        noise = 1e-11 * size * (g.norm() + size @ v.abs())
        assert (v >= margin).all(), seed
        assert (slope >= -noise).all(), seed
        assert (slope.abs() <= noise)[v > margin].all(), seed


@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("by", ["gradients", "gram"])
@pytest.mark.parametrize(("k", "P"), [(60, 40), (60, 200), (200, 300)])
def test_many_past_tasks_meet_the_optimality_conditions(k: int, P: int, by: str, margin: float) -> None:
    ridge = 1e-3
    for seed in range(5):
        rng = np.random.default_rng(seed)
        G = torch.from_numpy(rng.normal(size=(k, P)) + rng.normal(size=(k, 3)) @ rng.normal(size=(3, P)))
        g = torch.from_numpy(rng.normal(size=P)) - 0.1 * G.sum(0)
        v = (
            project(g, G, margin, ridge)[1]
            if by == "gradients"
            else solve_dual(G @ G.T, G @ g, margin, ridge)
        )
        slope = G @ (g + G.T @ v) + ridge * v  # >= 0, and 0 where v > margin
        noise = 1e-8 * G.norm(dim=1) * (g.norm() + G.norm(dim=1) @ v.abs())
        assert (v >= margin).all() and (v > margin).any(), seed
        assert (slope >= -noise).all(), seed
        assert (slope.abs() <= noise)[v > margin].all(), seed


def test_sets_are_few_however_many_tasks() -> None:
    rng, tried = np.random.default_rng(0), 0
    G = rng.normal(size=(300, 500))
    Q, c = G @ G.T / 500, G @ (rng.normal(size=500) - 0.1 * G.sum(0)) / 500

    def minimiser(chosen: np.ndarray) -> np.ndarray:
        nonlocal tried
        tried += 1
        return np.linalg.solve(Q[np.ix_(chosen, chosen)], -c[chosen])

    u = _nonnegative(300, minimiser, lambda u: -(c + Q @ u), float(np.abs(c).max()))
    assert (u > 0).sum() > 30 and tried < 15


@pytest.mark.parametrize("wide", [False, True], ids=["norms about 1", "norms 1e-6 to 1e3"])
def test_dual_from_products_agrees_with_brute_force(wide: bool) -> None:
    for seed in range(PROBLEMS):
        g, G = problem(seed, wide)
        v = solve_dual(G @ G.T, G @ g, 0.0, 0.0)
        assert (g + G.T @ v - brute_force(g, G, 0.0)).norm() <= 1e-7 * g.norm(), seed


def test_float32_is_as_exact_as_its_products() -> None:
    worst = 0.0
    for seed in range(PROBLEMS):
        g, G = problem(seed)
        found, v = project(g.float(), G.float())
        assert found.dtype == torch.float32
        assert v.dtype == torch.float64
        breach = -(G.float() @ found) / (g.norm() * G.norm(dim=1)).clamp_min(1e-30)
        worst = max(worst, float(breach.max()))
    assert worst < 1e-3


def test_nearly_collinear_and_nearly_opposite_gradients() -> None:
    rng = np.random.default_rng(0)
    for tiny in (1e-3, 1e-5, 1e-7, 1e-9, 1e-11, 1e-13, 1e-15):
        for _ in range(20):
            base, g = rng.normal(size=(2, 30))
            signs = rng.choice([-1.0, 1.0], size=(8, 1))
            G = torch.from_numpy(signs * base + tiny * rng.normal(size=(8, 30)))
            start = torch.from_numpy(g)
            found, v = project(start, G)
            assert torch.isfinite(v).all()
            assert (v >= 0).all()
            assert (G @ found >= -1e-5 * start.norm() * G.norm(dim=1)).all()
            assert found.norm() <= start.norm() * (1 + 1e-5)


def test_a_gradient_that_harms_nobody_is_left_alone() -> None:
    g, G = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    found, v = project(g, G)
    assert torch.equal(found, g)
    assert torch.equal(v, torch.zeros(2, dtype=torch.float64))


def test_no_past_tasks() -> None:
    for dtype in (torch.float32, torch.float64):
        g = torch.ones(3, dtype=dtype)
        found, v = project(g, torch.empty(0, 3, dtype=dtype), 0.5, 1e-3)
        assert torch.equal(found, g)
        assert found.dtype == dtype
        assert v.shape == (0,)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("where", ["g", "G"])
def test_nan_and_infinity_come_out_as_nan(bad: float, dtype: torch.dtype, where: str) -> None:
    g, G = torch.ones(5, dtype=dtype), torch.ones(3, 5, dtype=dtype)
    (g if where == "g" else G[1])[2] = bad
    found, v = project(g, G, 0.5, 1e-3)
    assert found.isnan().all()
    assert v.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-200, 1e-40, 1e-25, 1e-12, 1e12, 1e25, 1e200])
def test_extreme_sizes_neither_raise_nor_hang(dtype: torch.dtype, size: float) -> None:
    g, G = problem(5)
    for a, b in ((size, size), (1.0, size), (size, 1.0)):
        found, v = project((a * g).to(dtype), (b * G).to(dtype), 0.0, 0.0)
        assert found.shape == g.shape
        assert found.isnan().all() or (found.isfinite().all() and (v >= 0).all())


def test_inputs_are_left_as_they_were_and_gradients_not_followed() -> None:
    g, G = problem(3)
    g, G = g.requires_grad_(), G.requires_grad_()
    kept = g.detach().clone(), G.detach().clone()
    found, v = project(g, G, 0.5, 1e-3)
    assert not found.requires_grad
    assert not v.requires_grad
    assert torch.equal(g, kept[0])
    assert torch.equal(G, kept[1])


def test_wrong_use_is_refused() -> None:
    g, G = torch.ones(3), torch.ones(2, 3)
    with pytest.raises(ValueError, match="share a dtype"):
        project(g, G.double())
    with pytest.raises(ValueError, match=r"\[4\]"):
        project(torch.ones(4), G)
    with pytest.raises(ValueError, match="ridge must be finite and >= 0, got -1"):
        project(g, G, ridge=-1)
    with pytest.raises(ValueError, match="margin must be finite, got nan"):
        project(g, G, margin=float("nan"))
    with pytest.raises(ValueError, match=r"gram must be \[k, k\]"):
        solve_dual(torch.ones(2, 3), torch.ones(2), 0.0, 0.0)


def test_a_lying_slope_cannot_make_it_loop() -> None:
    """Whatever rounding does: here every entry always claims to help, and the minimum is always 0."""
    calls = 0

    def minimiser(chosen: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return np.full(int(chosen.sum()), -1.0 if chosen.sum() > 3 else 1.0)

    u = _nonnegative(6, minimiser, lambda u: np.ones(6), 1.0)
    assert (u >= 0).all()
    assert calls < 10_000
