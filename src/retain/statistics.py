"""Numbers over seeds: intervals, paired differences, and what can be told apart, in a plain sentence.

A run with another seed deals the tasks, the order and the initial weights anew, so methods are compared
seed by seed. Intervals and p values are Student's: with three to five seeds an exact sign-flip test can
never fall below 0.05 (its least p is 2 / 2^n), and an interval by percentiles is too narrow. Where many
pairs are compared, p values are corrected by Holm's method. Values are fractions, like accuracies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

LEVEL = 0.95
ENOUGH = 3  # seeds from which an interval or a test says something: with two it fills any figure
SAME = 1e-12  # spread, relative to the largest value, below which values are the same to the last digit

Values = Mapping[int, float]  # by seed


@dataclass(frozen=True)
class Interval:
    """A mean over n values, and where the true one lies; no bounds for a single value."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half(self) -> float | None:
        """Half its width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """mean +- t_(n-1, level) sd / sqrt(n), with the sample sd (n - 1): Student 1908.

    >>> t = t_interval([0.90, 0.92, 0.94])
    >>> round(t.mean, 4), round(t.low, 4), round(t.high, 4)
    (0.92, 0.8703, 0.9697)

    Raises:
        ValueError: no values, one that is not finite, or a level outside (0, 1).
    """
    x = _finite(values, level)
    mean, n = float(x.mean()), len(x)
    if n == 1:
        return Interval(mean, None, None, 1)
    if _same(x):
        return Interval(mean, mean, mean, n)
    half = t_factor(n, level) * float(x.std(ddof=1))
    return Interval(mean, mean - half, mean + half, n)


def t_factor(n: int, level: float = LEVEL) -> float:
    """By which the sample sd of n >= 2 values is half of the interval of their mean: t_(n-1, level) / sqrt(n).

    >>> round(t_factor(5), 4)
    1.2417
    """
    return float(special.stdtrit(n - 1, (1 + level) / 2) / n**0.5)


def bootstrap_interval(
    values: Sequence[float], level: float = LEVEL, draws: int = 9999, seed: int = 0
) -> Interval:
    """Of the mean, by the bias-corrected and accelerated bootstrap (BCa: Efron 1987), no normality assumed.

    Too narrow for few values: prefer `t_interval` below about ten. The same values in another order
    give the same interval.

    Raises:
        ValueError: as `t_interval`.
    """
    from scipy.stats import bootstrap  # slow to import, and needed only here

    x = np.sort(_finite(values, level))
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, None, None, 1)
    if _same(x):
        return Interval(mean, mean, mean, len(x))
    rng = np.random.default_rng(seed)
    found = bootstrap((x,), np.mean, confidence_level=level, n_resamples=draws, method="BCa", rng=rng)
    low, high = found.confidence_interval
    return Interval(mean, float(low), float(high), len(x))


@dataclass(frozen=True)
class Difference:
    """a - b over the seeds that both have; `a` has the larger mean over them."""

    a: str
    b: str
    interval: Interval
    p: float | None  # two-sided, paired t test; None: fewer than two common seeds
    adjusted: float | None = None  # for the number of comparisons, by Holm's method
    comparisons: int = 1

    @property
    def told_apart(self) -> bool:
        """Whether a is above b by more than seeds explain, at 5% over all comparisons made."""
        return self.adjusted is not None and self.adjusted < 1 - LEVEL

    @property
    def unsure(self) -> bool:
        """Whether the interval by itself lies above 0, and only the correction leaves it open."""
        return not self.told_apart and self.interval.low is not None and self.interval.low > 0


def difference(a: str, b: str, of_a: Values, of_b: Values) -> Difference:
    """Two methods compared on equal seeds.

    >>> d = difference("ewc", "l2", {0: 0.95, 1: 0.93}, {0: 0.90, 1: 0.89, 2: 0.5})
    >>> d.a, round(d.interval.mean, 4), d.interval.n, round(d.p, 4)
    ('ewc', 0.045, 2, 0.0704)

    Raises:
        ValueError: no common seed, or a value that is not finite.
    """
    seeds = sorted(set(of_a) & set(of_b))
    if not seeds:
        raise ValueError(f"{a} and {b} have no seed in common: {sorted(of_a)} and {sorted(of_b)}")
    d = np.array([of_a[s] - of_b[s] for s in seeds])
    if d.mean() < 0:
        a, b, d = b, a, -d
    interval = t_interval(d.tolist())
    p = _paired_t(d) if len(d) > 1 else None
    return Difference(a, b, interval, p, p)


def _paired_t(d: NDArray[np.float64]) -> float:
    """P(|T| >= |t|) for t = mean / (sd / sqrt(n)), n - 1 degrees of freedom."""
    if _same(d):
        return 1.0 if abs(d.mean()) <= SAME else 0.0
    t = abs(d.mean()) / (d.std(ddof=1) / len(d) ** 0.5)
    return float(2 * special.stdtr(len(d) - 1, -t))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values, in the order given: the probability of any false claim stays at the level.

    (Holm 1979.) The k-th smallest of m is multiplied by m - k + 1; none falls below a smaller one's.

    >>> [round(x, 3) for x in holm([0.04, 0.01, 0.03])]
    [0.06, 0.03, 0.06]
    """
    out, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        out[i] = largest
    return out


def compare(values: Mapping[str, Values], against: Literal["all", "best"] = "all") -> list[Difference]:
    """Every pair of methods, or the best by its mean and every other; p values corrected by Holm's method.

    Pairs without a common seed are left out. Against the best the correction counts only those pairs:
    that the best was picked from the same numbers makes its lead look a little larger than it is.
    """
    names = list(values)
    pairs = list(combinations(names, 2))
    if against == "best" and names:
        best = max(names, key=lambda m: float(np.mean(list(values[m].values()))))
        pairs = [(best, m) for m in names if m != best]
    return corrected([
        difference(a, b, values[a], values[b]) for a, b in pairs if set(values[a]) & set(values[b])
    ])  # fmt: skip


def corrected(found: Sequence[Difference]) -> list[Difference]:
    """The same differences as one family, their p values corrected by Holm's method."""
    found = list(found)
    tested = [i for i, d in enumerate(found) if d.p is not None]
    adjusted = holm([p for d in found if (p := d.p) is not None])
    for i, p in zip(tested, adjusted, strict=True):
        found[i] = replace(found[i], adjusted=p, comparisons=len(tested))
    return found


def point(points: float, signed: bool = False) -> str:
    """Percent or points with one digit, never "−0.0".

    >>> point(-0.04), point(2.34, signed=True)
    ('0.0', '+2.3')
    """
    rounded = round(points, 1) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.1f}".replace("-", "−")


def span(i: Interval) -> str:
    """The interval in points and the seeds, for the eye.

    >>> span(Interval(0.023, 0.018, 0.029, 5))
    '95% interval 1.8 to 2.9, 5 seeds'
    """
    if i.low is None or i.high is None:
        return "one seed, so no interval"
    if i.low == i.high:
        return f"the same on all {i.n} seeds"
    return f"95% interval {point(100 * i.low)} to {point(100 * i.high)}, {i.n} seeds"


def sentence(d: Difference) -> str:
    """What can be said of two methods, and no more.

    >>> sentence(Difference("EWC", "L2", Interval(0.023, 0.018, 0.029, 5), 0.001, 0.001))
    'EWC is above L2 by 2.3 points, 95% interval 1.8 to 2.9, 5 seeds'
    >>> sentence(Difference("EWC", "L2", Interval(0.004, -0.003, 0.011, 5), 0.2, 0.6))
    'EWC cannot be told apart from L2: above by 0.4 points, 95% interval −0.3 to 1.1, 5 seeds'

    Where only the correction for many comparisons leaves it open, it says so, with p.
    """
    by = f"by {point(100 * d.interval.mean)} points, {span(d.interval)}"
    if d.told_apart or d.p is None:
        return f"{d.a} is above {d.b} {by}"
    if d.unsure:
        correction = f"p = {d.adjusted:.2g} after Holm's correction for {d.comparisons} comparisons"
        return f"{d.a} is above {d.b} {by}, but not surely: {correction}; more seeds would tell"
    if abs(d.interval.mean) <= SAME and d.interval.half == 0:
        return f"{d.a} and {d.b} are the same to the last digit on all {d.interval.n} seeds"
    return f"{d.a} cannot be told apart from {d.b}: above {by}"


Matrices = Mapping[str, Mapping[int, Sequence[Sequence[float]]]]  # by method and seed: R [T + 1, T]


def doubts(runs: Matrices) -> list[str]:
    """What is suspicious about accuracy matrices, each in a sentence; none: an empty list.

    A matrix with missing rows, or with NaN in the last one (elsewhere NaN is a cell that was not measured,
    and what is compared are the cells that both of two matrices have); a method with one seed, or the same
    on every seed; two methods that agree to the last digit; a forward transfer that is the same for every
    method.
    """
    said = [
        f"{name}, seed {seed}: {what}"
        for name, by_seed in runs.items()
        for seed, R in by_seed.items()
        if (what := _broken(R))
    ]
    whole = {m: {s: np.array(R) for s, R in by.items() if not _broken(R)} for m, by in runs.items()}
    whole = {m: by for m, by in whole.items() if by}
    if single := [name for name, by in whole.items() if len(by) == 1]:
        said.append(f"one seed only, so no interval: {', '.join(single)}")
    for name, by in whole.items():
        if len(by) > 1 and _all_equal(list(by.values())):
            said.append(f"{name}: the same to the last digit on all {len(by)} seeds; is the seed used?")
    for a, b in combinations(whole, 2):
        common = set(whole[a]) & set(whole[b])
        if common and all(_all_equal([whole[a][s], whole[b][s]]) for s in common):
            said.append(f"{a} and {b} agree to the last digit on every seed; does {b} do anything?")
    return said + _fwt_equal(whole)


def _fwt_equal(whole: Mapping[str, Mapping[int, NDArray[np.float64]]]) -> list[str]:
    """A measure that is the same for all methods on each common seed says nothing of them."""
    common = set.intersection(*(set(by) for by in whole.values())) if len(whole) > 1 else set()
    several = {s for s in common if min(by[s].shape[1] for by in whole.values()) > 1}
    if not several:
        return []
    values = [[(np.diag(by[s])[1:] - by[s][0, 1:]).mean() for by in whole.values()] for s in several]
    if any(not np.ptp(row) <= SAME for row in values):  # NaN: not measured, so nothing is known
        return []
    return ["FWT is the same for every method, so it says nothing of them"]


def _broken(R: Sequence[Sequence[float]]) -> str | None:
    """What is wrong with the shape or the numbers of R."""
    widths = {len(row) for row in R}
    T = max(widths, default=0)
    if T == 0:
        return "an empty accuracy matrix"
    if len(widths) > 1 or len(R) != T + 1:
        rows = sum(len(row) == T for row in R)
        return f"its accuracy matrix has {rows} whole rows, and {T} tasks need {T + 1}"
    if not np.isfinite(R[-1]).all():
        return "the last row of its accuracy matrix holds NaN"
    return None


def _all_equal(matrices: Sequence[NDArray[np.float64]]) -> bool:
    return all(m.shape == matrices[0].shape and _agree(m, matrices[0]) for m in matrices[1:])


def _agree(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Whether all cells that both have are the same."""
    return bool(((a == b) | np.isnan(a) | np.isnan(b)).all())


def _same(x: NDArray[np.float64]) -> bool:
    return bool(np.ptp(x) <= SAME * max(1.0, float(np.abs(x).max())))


def _finite(values: Sequence[float], level: float) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"an interval needs at least one finite number, got {list(values)!r}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    return x
