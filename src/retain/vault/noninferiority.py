"""Is a candidate worse than what is served, by no more than a margin? Exact paired tests, as pure functions.

Right and wrong: of n examples, b were right and are now wrong (losses), c were wrong and are now right
(gains). With probabilities p_b and p_c the loss is p_b - p_c, and H0 says p_b - p_c >= margin. The test is
exact and unconditional. Tables (b, c) are ordered by the score statistic with the variance that H0 allows
(Nam 1997, Biometrics 53; Tango 1998, Statistics in Medicine 17); the p-value is the greatest
probability, over all that H0 leaves open, of a table at least as extreme as this one. The statistic rises
with b and falls with c, so the greatest lies where p_b - p_c is the margin; what is left open there is
q = p_b + p_c, which is searched in its confidence interval of level 1 - GAMMA, and GAMMA is added (Berger and
Boos 1994, JASA 89): the test keeps its size exactly, and a q that the data rule out costs no power.

Losses as numbers: `rise`, by flipping signs. Shares: `share_p`, binomial.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc, betainc, betaincinv, gammaln, ndtri, xlog1py, xlogy

GAMMA = 1e-6  # of the interval in which q is searched; also the least p-value
TINY = 1e-16  # probabilities below are left out of a sum
A_STEP = 4  # values of q that are tried in a standard deviation of it
NEAR = 0.9  # local maxima over q that reach so much of the highest are searched to the end
DEGREE = 8  # of the polynomial that is laid through the neighbourhood of a maximum
TIE = 1e-9  # scores nearer than this are equal
FINE = 1e-4  # to which a bound is found
BYTES = 2  # groups of eight examples up to which every pattern of signs is tried: 16 examples
DRAWS = 20_000  # patterns of signs that are drawn where there are more

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def score(b: Floats, c: Floats, n: int, margin: float) -> Floats:
    """(b - c - n margin) / sd, with the sd that is likeliest under p_b - p_c = margin (Tango 1998)."""
    k = b + c - margin * (2 * n - b + c)
    p_c = (k + np.sqrt(np.maximum(k * k + 8 * n * c * margin * (1 - margin), 0))) / (4 * n)
    variance = n * (2 * p_c + margin * (1 - margin))
    away = b - c - n * margin
    return np.divide(away, np.sqrt(np.maximum(variance, 0)), out=np.zeros_like(away), where=variance > 0)


@lru_cache(maxsize=16384)
def loss_p(b: int, c: int, n: int, margin: float) -> float:
    """The p-value of H0: p_b - p_c >= margin, in (0, 1]; small means that less than the margin was lost.

    Args:
        b: examples that were right and are now wrong.
        c: examples that were wrong and are now right.
        n: examples in all.
        margin: in (-1, 1), a share of the examples.

    >>> loss_p(20, 20, 1000, 0.03) < 0.001, round(loss_p(50, 20, 1000, 0.03), 2)
    (True, 0.54)

    Raises:
        ValueError: no such table, or a margin outside (-1, 1).
    """
    if min(b, c) < 0 or b + c > n or n < 1:
        raise ValueError(f"{b} losses and {c} gains must be >= 0 and at most the {n} examples together")
    if not -1 < margin < 1:
        raise ValueError(f"margin must lie between -1 and 1, got {margin}")
    z = float(score(np.array([float(b)]), np.array([float(c)]), n, margin)[0])
    return min(_greatest(z, n, margin, *_interval(b + c, n)) + GAMMA, 1.0)


def _interval(t: int, n: int) -> tuple[float, float]:
    """Of q, at level 1 - GAMMA, where t of n examples changed (Clopper and Pearson 1934)."""
    low = 0.0 if t == 0 else float(betaincinv(t, n - t + 1, GAMMA / 2))
    high = 1.0 if t == n else float(betaincinv(t + 1, n - t, 1 - GAMMA / 2))
    return low, high


def _greatest(z: float, n: int, margin: float, low: float, high: float, polish: bool = True) -> float:
    """The greatest probability of a score <= z where p_b - p_c = margin, over q in [low, high]."""
    low = max(low, abs(margin))
    if low > high:
        return 0.0
    t = _likely(n, low, high)
    most = _most_losses(z, t, n, margin)
    first, last = np.arcsin(np.sqrt([low, high]))  # on this scale the sd of q is about the same everywhere
    steps = 2 + math.ceil(2 * math.sqrt(n) * A_STEP * (last - first))
    q = np.sin(np.linspace(first, last, steps)) ** 2
    q[0], q[-1] = low, high
    p = _probabilities(most, t, n, q, margin)
    inner = np.r_[-np.inf, p, -np.inf]
    maxima = np.flatnonzero((p >= inner[:-2]) & (p >= inner[2:]))
    found = float(p.max())
    for i in maxima[p[maxima] >= NEAR * found] if polish else ():
        ends = [q[max(i - 1, 0)], q[min(i + 1, steps - 1)]]
        if ends[0] < ends[1]:  # half an sd of q: a polynomial is as good as the function
            near = Chebyshev.interpolate(lambda at: _probabilities(most, t, n, at, margin), DEGREE, ends)
            flat = near.deriv().roots()
            flat = flat.real[(abs(flat.imag) < 1e-9) & (flat.real > ends[0]) & (flat.real < ends[1])]
            found = max([found, *_probabilities(most, t, n, flat, margin).tolist()])
    return found


def _likely(n: int, low: float, high: float) -> Ints:
    """The numbers t of changed examples that have a chance worth counting for some q in [low, high]."""
    reach = 9.0  # standard deviations, and as many examples for where the distribution is skewed
    least = n * low - reach * math.sqrt(n * low * (1 - low)) - reach**2
    most = n * high + reach * math.sqrt(n * high * (1 - high)) + reach**2
    return np.arange(max(math.floor(least), 0), min(math.ceil(most), n) + 1)


def _most_losses(z: float, t: Ints, n: int, margin: float) -> Ints:
    """For each number t of changed examples the most losses with a score of at most z; -1 where there are none."""
    low, high = np.full(len(t), -1.0), t + 1.0
    while (todo := high - low > 1).any():
        middle = np.floor((low + high) / 2)
        within = score(np.maximum(middle, 0), t - middle, n, margin) <= z + TIE
        low, high = np.where(todo & within, middle, low), np.where(todo & ~within, middle, high)
    return low.astype(np.int64)


def _probabilities(most: Ints, t: Ints, n: int, q: Floats, margin: float) -> Floats:
    """For each q: the chance of at most most[t] losses among t changed examples, t being binomial (n, q)."""
    q = q[:, None]
    log = gammaln(n + 1) - gammaln(t + 1) - gammaln(n - t + 1)
    weight = np.exp(log + xlogy(t, q) + xlog1py(n - t, -q))
    gain = np.clip((1 - margin / q) / 2, 0, 1)  # the share of gains among the changed
    weight[:, most < 0] = 0
    row, col = np.nonzero((weight > TINY) & (most < t))
    out = np.where(most >= t, weight, 0).sum(1)
    under = betainc(t[col] - most[col], most[col] + 1, gain[row, 0])
    return out + np.bincount(row, weight[row, col] * under, len(q))  # type: ignore[no-any-return]


@lru_cache(maxsize=16384)
def loss_bound(b: int, c: int, n: int, alpha: float) -> float:
    """The upper bound of p_b - p_c at confidence 1 - alpha, in (-1, 1]: the least margin that `loss_p` lets pass.

    Rounded up by FINE at most.

    >>> round(loss_bound(20, 20, 1000, 0.05), 3)
    0.011
    """

    def passes(margin: float) -> bool:
        return loss_p(b, c, n, margin) <= alpha

    if not passes(1 - FINE):
        return 1.0
    low = high = min(max(_score_bound(b, c, n, alpha), FINE - 1), 1 - FINE)
    step = 4 * FINE
    if passes(high):
        while passes(low := max(low - step, FINE - 1)):
            high, step = low, 2 * step
    else:
        while not passes(high := min(high + step, 1 - FINE)):
            low, step = high, 2 * step
    while high - low > FINE:
        middle = (low + high) / 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _score_bound(b: int, c: int, n: int, alpha: float) -> float:
    """The margin whose score is the normal quantile: near the exact bound."""
    low, high, goal = (b - c) / n, 1.0, float(ndtri(alpha))
    for _ in range(20):
        middle = (low + high) / 2
        over = score(np.array([float(b)]), np.array([float(c)]), n, middle)[0] > goal
        low, high = (middle, high) if over else (low, middle)
    return high


def fewest(margin: float, alpha: float) -> int:
    """The fewest examples with which a candidate that changes nothing passes `loss_p` at alpha.

    >>> fewest(0.1, 0.05), loss_p(0, 0, 29, 0.1) <= 0.05 < loss_p(0, 0, 28, 0.1)
    (29, True)
    """
    high = 1
    while loss_p(0, 0, high, margin) > alpha:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if loss_p(0, 0, middle, margin) <= alpha else (middle, high)
    return high


def better_p(gains: int, losses: int) -> float:
    """The one-sided sign test of H0: an example that changed is as likely a loss as a gain (McNemar 1947, exact).

    >>> better_p(5, 0)
    0.03125
    """
    return float(bdtrc(gains - 1, gains + losses, 0.5)) if gains else 1.0


def share_p(k: int, n: int, margin: float) -> float:
    """The exact binomial test of H0: a share is at least `margin` in (0, 1); k of n were seen.

    >>> round(share_p(0, 29, 0.1), 3), round(share_p(5, 100, 0.1), 3)
    (0.047, 0.058)
    """
    return float(bdtr(k, n, margin))


def share_bound(k: int, n: int, alpha: float) -> float:
    """The upper bound of a share at confidence 1 - alpha (Clopper and Pearson 1934).

    >>> round(share_bound(0, 29, 0.05), 3)
    0.098
    """
    return 1.0 if k >= n else float(betaincinv(k + 1, n - k, 1 - alpha))


def _patterns(n: int, values: Floats, seed: int) -> Floats:
    """Sums [P, V] of values [n, V] over P subsets of the n rows: all, or the empty one and DRAWS at random.

    A byte picks among eight rows, so that a subset costs a look-up for each eight.
    """
    groups = max(1, math.ceil(n / 8))
    padded = np.zeros((groups * 8, values.shape[1]))
    padded[:n] = values
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64)
    table = bits @ padded.reshape(groups, 8, -1)  # [groups, 256, V]
    if groups <= BYTES:
        both = table[0] if groups == 1 else table[0][:, None] + table[1][None]
        return both.reshape(-1, values.shape[1])  # type: ignore[no-any-return]
    picks = np.random.default_rng(seed).integers(0, 256, (groups, DRAWS), dtype=np.uint8)
    sums = np.zeros((1 + DRAWS, values.shape[1]))
    for of_group, pick in zip(table, picks, strict=True):
        sums[1:] += of_group[pick]
    return sums


def rise(
    served: Floats, candidate: Floats, margin: float, alpha: float, seed: int = 0
) -> tuple[float, float]:
    """Whether the mean of losses rose by less than a share `margin` of what it was: p-value, and upper bound.

    H0: mean(candidate) >= (1 + margin) mean(served). The paired differences d = candidate - (1 + margin) served
    have their signs flipped, all patterns of up to 16 examples, else DRAWS seeded ones with the observed
    one counted among them (Phipson and Smyth 2010). Exact where d is symmetric about its mean, and
    elsewhere about as exact as Student's t: at alpha 0.05, log-normal losses (sigma 1.5) that rose by the
    margin pass in 8 % of the cases with 50 or 200 examples, in 6 % with 1000. The bound is the least
    margin that passes at alpha, infinite where none does.

    Args:
        served: losses of the examples, [N], >= 0.
        candidate: the same examples' losses.
        margin: a share of the served mean loss; 0 asks whether the loss fell.
        alpha: size of the test, 1 - confidence of the bound.
        seed: of the patterns drawn.

    >>> p, bound = rise(np.ones(10), np.full(10, 1.02), 0.05, 0.05)
    >>> round(p, 4), round(bound, 2)
    (0.001, 0.02)
    """
    was, now = _patterns(len(served), np.stack([served, candidate], 1), seed).T
    # Flipping the signs of a subset lowers the sum of d by twice its sum over the subset.
    with np.errstate(divide="ignore", invalid="ignore"):
        by = np.where(was > 0, now / was - 1, np.inf)  # the margin up to which the subset speaks for H0
    p = float((by >= margin - 1e-12).mean())
    return p, float(np.sort(by)[::-1][math.floor(alpha * len(by))])


@lru_cache(maxsize=4096)
def resolvable(sizes: tuple[int, ...], alpha: float, joint: float, discordance: float) -> float:
    """The least margin, in steps of 0.1 points, at which an equal candidate passes on all of these sets.

    Each set is to pass with probability joint ** (1 / number of sets), so that independent ones pass
    together with probability `joint`. The power is summed exactly over the tables, with the critical value
    of the score that keeps the size for every q in the interval around `discordance` that `loss_p` would use.

    Args:
        sizes: examples in each set.
        alpha: size of each test.
        joint: in (0, 1), probability that all pass.
        discordance: in (0, 1), share of the examples on which the two versions differ, half of them losses.

    Returns:
        The margin in (0, 0.999]; that end where no smaller one resolves.

    >>> resolvable((1000,) * 4, 0.05, 0.8, 0.04), resolvable((5000,) * 4, 0.05, 0.8, 0.04)
    (0.022, 0.01)
    """
    return max(_resolvable(n, alpha, joint ** (1 / len(sizes)), discordance) for n in set(sizes))


@lru_cache(maxsize=4096)
def _resolvable(n: int, alpha: float, power: float, discordance: float) -> float:
    low, high = 0, 999  # tenths of a point
    while high - low > 1:
        middle = (low + high) // 2
        enough = power_of(n, middle / 1000, alpha, discordance) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high / 1000


def power_of(n: int, margin: float, alpha: float, discordance: float, worse: float = 0.0) -> float:
    """The chance that a candidate passes `loss_p` which is worse by so much in truth: 0, as good; the margin, H0.

    `discordance` is the share of n examples that changes.

    Exact for the score's critical value at that discordance; `loss_p` finds it anew for each table.

    >>> round(power_of(1000, 0.02, 0.05, 0.04), 2)
    0.92
    """
    low, high = _interval(round(n * discordance), n)
    below, above = 4 * float(ndtri(alpha)), 0.0
    for _ in range(12):
        middle = (below + above) / 2
        keeps = _greatest(middle, n, margin, low, high, polish=False) + GAMMA <= alpha
        below, above = (middle, above) if keeps else (below, middle)
    t = _likely(n, discordance, discordance)
    most = _most_losses(below, t, n, margin)
    return min(float(_probabilities(most, t, n, np.array([discordance]), worse)[0]), 1.0)
