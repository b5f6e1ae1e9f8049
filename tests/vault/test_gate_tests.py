"""The gate's tests of statistics against slow and obvious twins, and their size by counting every table."""

from __future__ import annotations

import itertools
import math
import time
from functools import cache

import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln, xlogy

from retain.vault import noninferiority as ni

ALPHA = 0.05


@cache
def tables(n: int) -> np.ndarray:
    """Every (b, c) of n, [K, 2]."""
    return np.array([(b, c) for b in range(n + 1) for c in range(n + 1 - b)])


def chances(n: int, p_b: np.ndarray | float, p_c: np.ndarray | float) -> np.ndarray:
    """Of every table [K], for each pair of probabilities [G]: [G, K]."""
    p_b, p_c = np.atleast_1d(p_b)[:, None], np.atleast_1d(p_c)[:, None]
    b, c = tables(n).T
    log = gammaln(n + 1) - gammaln(b + 1) - gammaln(c + 1) - gammaln(n - b - c + 1)
    return np.asarray(
        np.exp(log + xlogy(b, p_b) + xlogy(c, p_c) + xlogy(n - b - c, np.clip(1 - p_b - p_c, 0, 1)))
    )


def likeliest_score(b: int, c: int, n: int, margin: float) -> float:
    """The score with its p_c found on a grid, finer and finer, rather than by a formula."""

    def likelihood(p_c: np.ndarray) -> np.ndarray:
        p_b = p_c + margin
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = [np.where(k > 0, k * np.log(np.maximum(p, 0)), 0) for k, p in
                     ((b, p_b), (c, p_c), (n - b - c, 1 - p_b - p_c))]  # fmt: skip
        return np.asarray(np.sum(parts, 0))

    low, high = max(0.0, -margin), (1 - margin) / 2
    for _ in range(12):
        grid = np.linspace(low, high, 101)
        best = int(np.argmax(likelihood(grid)))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 100)]
    p_c = (low + high) / 2
    return (b - c - n * margin) / math.sqrt(n * (2 * p_c + margin - margin**2))


def slow_p(b: int, c: int, n: int, margin: float) -> float:
    """Every table, and a dense grid of q in its interval."""
    t = b + c
    low = 0.0 if t == 0 else stats.beta.ppf(ni.GAMMA / 2, t, n - t + 1)
    high = 1.0 if t == n else stats.beta.ppf(1 - ni.GAMMA / 2, t + 1, n - t)
    if max(low, abs(margin)) > high:
        return ni.GAMMA
    B, C = tables(n).T.astype(float)
    scores = ni.score(B, C, n, margin)
    in_region = scores <= scores[(b == B) & (c == C)] + ni.TIE
    found, ends = 0.0, (max(low, abs(margin)), high)
    for _ in range(3):
        grid = np.linspace(*ends, 401)
        values = chances(n, (grid + margin) / 2, (grid - margin) / 2)[:, in_region].sum(1)
        best = int(np.argmax(values))
        found = max(found, float(values[best]))
        ends = grid[max(best - 1, 0)], grid[min(best + 1, 400)]
    return min(found + ni.GAMMA, 1.0)


@pytest.mark.parametrize("margin", [0.02, 0.15, 0.4, -0.1])
def test_the_score_uses_the_likeliest_nuisance(margin: float) -> None:
    for b, c in tables(7):
        ours = float(ni.score(np.array([float(b)]), np.array([float(c)]), 7, margin)[0])
        assert ours == pytest.approx(likeliest_score(b, c, 7, margin), abs=1e-4), (b, c)


@pytest.mark.parametrize(("n", "margin"), [(1, 0.3), (6, 0.1), (13, 0.05), (13, -0.1), (20, 0.25), (30, 0.1)])
def test_p_values_are_those_of_every_table_counted(n: int, margin: float) -> None:
    rng = np.random.default_rng(n)
    for b, c in rng.permutation(tables(n))[:6]:
        assert ni.loss_p(int(b), int(c), n, margin) == pytest.approx(slow_p(b, c, n, margin), abs=1e-9), (
            b,
            c,
        )


@pytest.mark.parametrize(("n", "margin"), [(8, 0.1), (15, 0.2), (25, 0.05), (30, 0.1), (20, -0.05)])
def test_the_size_is_at_most_alpha_wherever_h0_holds(n: int, margin: float) -> None:
    p = np.array([ni.loss_p(int(b), int(c), n, margin) for b, c in tables(n)])
    largest = dict.fromkeys((0.01, 0.05, 0.2), 0.0)
    on_it = np.linspace(max(0, -margin), (1 - margin) / 2, 201)  # the boundary of H0, then all of it
    anywhere = [
        (b, c)
        for b, c in itertools.product(np.linspace(0, 1, 31), repeat=2)
        if b - c >= margin and b + c <= 1
    ]
    losses, gains = np.r_[np.stack([on_it + margin, on_it], 1), np.array(anywhere)].T
    probabilities = chances(n, losses, gains)
    for alpha in largest:
        largest[alpha] = float(probabilities[:, p <= alpha].sum(1).max())
    assert all(size <= alpha + 1e-9 for alpha, size in largest.items()), largest
    assert largest[0.2] > 0.05  # and it is no test that never rejects


@pytest.mark.parametrize("n", [12, 40])
@pytest.mark.parametrize("margin", [0.02, 0.1, -0.05])
def test_more_losses_or_fewer_gains_are_never_more_convincing(n: int, margin: float) -> None:
    scores = {
        (b, c): float(ni.score(np.array([float(b)]), np.array([float(c)]), n, margin)[0])
        for b, c in tables(n)
    }
    for (b, c), z in scores.items():
        assert scores.get((b + 1, c), z) >= z - ni.TIE
        assert scores.get((b, c + 1), z) <= z + ni.TIE


def test_with_only_losses_possible_it_is_the_binomial_test() -> None:
    # The greatest chance of no loss is where nothing can be gained either, as long as n is small.
    for n in (10, 29):
        assert ni.loss_p(0, 0, n, 0.1) - ni.GAMMA == pytest.approx(0.9**n, rel=1e-9)


def test_a_p_value_is_quick() -> None:
    for n, margin, limit in ((1000, 0.03, 0.01), (5000, 0.01, 0.05)):
        took = []
        for b in range(n // 50, n // 50 + 7):
            began = time.perf_counter()
            ni.loss_p(b, n // 50, n, margin)
            took.append(time.perf_counter() - began)
        assert min(took) < 2 * limit, (n, min(took))  # twice: a machine may be busy


@pytest.mark.parametrize(
    ("b", "c", "n", "margin"), [(-1, 0, 5, 0.1), (3, 3, 5, 0.1), (0, 0, 0, 0.1), (1, 1, 5, 1.0)]
)
def test_no_such_table(b: int, c: int, n: int, margin: float) -> None:
    with pytest.raises(ValueError, match="must"):
        ni.loss_p(b, c, n, margin)


# Bounds


@pytest.mark.parametrize(
    ("b", "c", "n"), [(0, 0, 1), (0, 0, 30), (3, 1, 50), (0, 9, 60), (20, 20, 1000), (9, 0, 9), (0, 5, 5)]
)
def test_a_bound_is_the_least_margin_that_passes(b: int, c: int, n: int) -> None:
    bound = ni.loss_bound(b, c, n, ALPHA)
    assert bound >= (b - c) / n
    if bound < 1:
        assert ni.loss_p(b, c, n, bound) <= ALPHA < ni.loss_p(b, c, n, bound - ni.FINE)


def test_bounds_cover() -> None:
    rng, n = np.random.default_rng(0), 60
    for p_b, p_c in ((0.1, 0.02), (0.05, 0.05), (0.02, 0.1)):
        counts = rng.multinomial(n, [p_b, p_c, 1 - p_b - p_c], size=200)
        kinds, times = np.unique(counts[:, :2], axis=0, return_counts=True)
        covered = sum(k for (b, c), k in zip(kinds.tolist(), times, strict=True)
                      if ni.loss_bound(b, c, n, ALPHA) >= p_b - p_c)  # fmt: skip
        assert covered / 200 >= 0.95 - 0.031  # two standard errors


def test_sign_and_binomial_tests_are_scipys() -> None:
    for k, n in ((0, 1), (3, 10), (10, 10), (40, 120)):
        assert ni.better_p(k, n - k) == pytest.approx(stats.binomtest(k, n, 0.5, "greater").pvalue)
        test = stats.binomtest(k, n, 0.1, "less")
        assert ni.share_p(k, n, 0.1) == pytest.approx(test.pvalue)
        assert ni.share_bound(k, n, 0.05) == pytest.approx(test.proportion_ci(0.95, "exact").high)
    assert ni.better_p(0, 0) == 1.0


# Losses as numbers


def slow_rise(served: np.ndarray, candidate: np.ndarray, margin: float) -> float:
    """Every pattern of signs, one after the other."""
    d = candidate - (1 + margin) * served
    sums = [np.dot(signs, d) for signs in itertools.product((1, -1), repeat=len(d))]
    return float(np.mean([s <= d.sum() + 1e-12 for s in sums]))


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 12])
def test_few_losses_are_tested_by_every_pattern_of_signs(n: int) -> None:
    rng = np.random.default_rng(n)
    served, candidate = rng.exponential(size=(2, n))
    for margin in (0.0, 0.1, 1.5):
        assert ni.rise(served, candidate, margin, ALPHA)[0] == pytest.approx(
            slow_rise(served, candidate, margin)
        )


def test_many_losses_are_tested_by_draws() -> None:
    rng = np.random.default_rng(1)
    served, noise = rng.exponential(size=(2, 500))
    candidate = served + 0.2 * (noise - 1)
    p, bound = ni.rise(served, candidate, 0.01, ALPHA)
    again = stats.permutation_test(
        (candidate - 1.01 * served,), np.mean, permutation_type="samples", alternative="less", n_resamples=4000, rng=0
    ).pvalue  # fmt: skip
    assert p == pytest.approx(again, abs=0.03)
    assert ni.rise(served, candidate, 0.01, ALPHA) == (p, bound)  # seeded
    assert ni.rise(served, served, 0.01, ALPHA)[0] == 1 / (1 + ni.DRAWS)
    assert ni.rise(served, 1.5 * served, 0.01, ALPHA)[0] > 0.99


def test_the_bound_of_a_rise_is_the_least_margin_that_passes() -> None:
    rng = np.random.default_rng(2)
    for n in (6, 14, 200):
        served, candidate = rng.exponential(size=(2, n))
        _, bound = ni.rise(served, candidate, 0.0, ALPHA)
        assert ni.rise(served, candidate, bound + 1e-6, ALPHA)[0] <= ALPHA
        assert ni.rise(served, candidate, bound - 1e-6, ALPHA)[0] > ALPHA
    assert ni.rise(np.ones(3), np.ones(3), 0.5, ALPHA) == (1 / 8, math.inf)  # too few to ever pass


def test_a_rise_of_the_margin_passes_in_alpha_of_the_cases() -> None:
    rng, passed = np.random.default_rng(3), 0
    for i in range(150):
        served = rng.gamma(2.0, size=100)
        candidate = 1.1 * served * rng.gamma(20.0, 1 / 20, size=100)
        passed += ni.rise(served, candidate, 0.1, ALPHA, seed=i)[0] <= ALPHA
    assert 0.01 <= passed / 150 <= 0.1


# Planning


@pytest.mark.parametrize("n", [30, 100])
def test_the_power_planned_is_that_of_every_table_counted(n: int) -> None:
    for margin in (0.06, 0.12):
        p = np.array([ni.loss_p(int(b), int(c), n, margin) if b + c < 15 else 1.0 for b, c in tables(n)])
        exact = chances(n, 0.02, 0.02)[:, p <= ALPHA].sum()
        assert ni.power_of(n, margin, ALPHA, 0.04) == pytest.approx(exact, abs=1e-4), margin
    assert ni.power_of(1000, 0.03, ALPHA, 0.04, worse=0.03) == pytest.approx(ALPHA, abs=0.01)


def test_what_is_resolvable_is_so_and_no_more() -> None:
    for sizes in ((100,) * 4, (400, 1000)):
        margin = ni.resolvable(sizes, ALPHA, 0.8, 0.04)
        each = 0.8 ** (1 / len(sizes))
        assert all(ni.power_of(n, margin, ALPHA, 0.04) >= each for n in sizes)
        assert min(ni.power_of(n, margin - 0.001, ALPHA, 0.04) for n in sizes) < each
        rng = np.random.default_rng(len(sizes))
        draws = [rng.multinomial(n, [0.02, 0.02, 0.96], size=400)[:, :2].tolist() for n in sizes]
        p = np.array(
            [[ni.loss_p(b, c, n, margin) for b, c in drawn] for n, drawn in zip(sizes, draws, strict=True)]
        )
        assert (p <= ALPHA).all(0).mean() >= 0.8 - 0.06  # three standard errors


def test_what_cannot_be_resolved_ends_at_the_largest_margin() -> None:
    assert ni.resolvable((1,), 0.01, 0.999, 0.5) == 0.999
    # Below 0.139 a candidate that changes nothing would not pass.
    assert ni.resolvable((20,), ALPHA, 0.8, 0.04) >= 0.139
