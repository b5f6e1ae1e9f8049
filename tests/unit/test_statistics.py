"""Intervals, tests and sentences against SciPy, against slow definitions, and by simulation."""

from __future__ import annotations

import math
from itertools import pairwise
from math import nan
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from retain.statistics import (
    Difference,
    Interval,
    bootstrap_interval,
    compare,
    difference,
    doubts,
    holm,
    sentence,
    t_interval,
)

several = st.lists(st.floats(0, 1).map(lambda v: round(v, 4)), min_size=2, max_size=12)
ps = st.lists(st.floats(0, 1), min_size=1, max_size=8)


# Intervals


@given(several, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_t_intervals_are_scipys(values: list[float], level: float) -> None:
    ours = t_interval(values, level)
    assert ours.mean == pytest.approx(np.mean(values)) and ours.n == len(values)
    error = stats.sem(values)
    if error < 1e-9:
        assert (ours.low, ours.high) == (ours.mean, ours.mean)
    else:
        theirs = stats.t.interval(level, len(values) - 1, np.mean(values), error)
        assert (ours.low, ours.high) == pytest.approx(theirs, abs=1e-9)


@given(several, st.randoms())
@settings(max_examples=30)
def test_intervals_do_not_depend_on_the_order_of_the_seeds(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for interval in (t_interval, lambda v: bootstrap_interval(v, draws=200)):
        a, b = interval(values), interval(shuffled)
        assert (a.mean, a.low, a.high) == pytest.approx((b.mean, b.low, b.high), abs=1e-12)


@given(several, st.floats(-1, 1), st.floats(0.1, 10))
def test_intervals_move_and_stretch_with_the_values(values: list[float], by: float, times: float) -> None:
    a, b = t_interval(values), t_interval([by + times * v for v in values])
    assert a.low is not None and a.high is not None
    assert (b.low, b.high) == pytest.approx((by + times * a.low, by + times * a.high), abs=1e-8)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_t_intervals_cover_the_mean_as_often_as_they_say(n: int) -> None:
    rng = np.random.default_rng(n)
    samples = rng.normal(0.9, 0.01, (4000, n))
    found = [t_interval(row.tolist()) for row in samples]
    covered = np.mean([i.low <= 0.9 <= i.high for i in found if i.low is not None and i.high is not None])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


def slow_bca(x: list[float], draws: int) -> tuple[float, float]:
    """Efron 1987, eq. 2.3 and 6.6, with loops and the standard library."""
    rng, normal, n = np.random.default_rng(1), NormalDist(), len(x)
    means = sorted(float(np.mean([x[int(i)] for i in rng.integers(0, n, n)])) for _ in range(draws))
    mean = sum(x) / n
    below = sum(m < mean for m in means) + 0.5 * sum(m == mean for m in means)
    z0 = normal.inv_cdf(below / draws)
    without = [(sum(x) - v) / (n - 1) for v in x]
    d = [sum(without) / n - w for w in without]
    a = sum(v**3 for v in d) / (6 * sum(v**2 for v in d) ** 1.5)
    ends = [normal.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in (-1.959964, 1.959964)]
    return means[int(ends[0] * draws)], means[int(ends[1] * draws)]


@pytest.mark.parametrize("x", [[0.9, 0.91, 0.93, 0.97, 0.92, 0.9], [0.1, 0.5, 0.2, 0.21, 0.19, 0.3, 0.25]])
def test_the_bootstrap_interval_is_bca(x: list[float]) -> None:
    ours, slow = bootstrap_interval(x), slow_bca(x, 4000)
    width = slow[1] - slow[0]
    assert (ours.low, ours.high) == pytest.approx(slow, abs=0.06 * width)
    assert ours == bootstrap_interval(x)  # seeded
    assert ours != bootstrap_interval(x, seed=1)


@pytest.mark.parametrize("interval", [t_interval, bootstrap_interval])
def test_degenerate_values_have_degenerate_intervals(interval: object) -> None:
    assert interval([0.7]) == Interval(0.7, None, None, 1)  # type: ignore[operator]
    assert interval([0.7]).half is None  # type: ignore[operator]
    same = interval([0.7] * 3)  # type: ignore[operator]
    assert same.low == same.mean == same.high == pytest.approx(0.7)
    for wrong in ([], [float("nan"), 0.1], [0.1, float("inf")]):
        with pytest.raises(ValueError, match="at least one finite number"):
            interval(wrong)  # type: ignore[operator]
    with pytest.raises(ValueError, match="level must lie"):
        interval([0.1, 0.2], level=95)  # type: ignore[operator]


# Differences


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=9))
def test_paired_p_values_are_scipys_on_equal_seeds(pairs: list[tuple[float, float]]) -> None:
    a, b = ({s: p[k] for s, p in enumerate(pairs)} for k in (0, 1))
    d = difference("a", "b", {**a, 100: 0.5}, {**b, 200: 0.5})  # seeds that only one has play no part
    assert d.interval.n == len(pairs)
    assert d.interval.mean >= 0
    if np.ptp([x - y for x, y in pairs]) > 1e-6:
        theirs = stats.ttest_rel(list(a.values()), list(b.values()))
        assert d.p == pytest.approx(theirs.pvalue, abs=1e-9)
        low, high = theirs.confidence_interval()
        ends = (low, high) if d.a == "a" else (-high, -low)
        assert (d.interval.low, d.interval.high) == pytest.approx(ends, abs=1e-9)


def test_pairing_sees_what_the_spread_over_seeds_hides() -> None:
    a = {0: 0.80, 1: 0.90, 2: 0.70, 3: 0.85}
    b = {s: v - 0.01 - 0.001 * s for s, v in a.items()}
    assert difference("a", "b", a, b).told_apart
    assert not difference("a", "b", a, dict(zip(a, reversed(b.values()), strict=True))).told_apart


def steps_down(p: list[float], level: float) -> list[bool]:
    """Holm 1979 as he writes it: from the smallest on, until one exceeds level / (m - k + 1)."""
    rejected = [False] * len(p)
    for k, i in enumerate(sorted(range(len(p)), key=lambda i: p[i]), 1):
        if p[i] > level / (len(p) - k + 1):
            break
        rejected[i] = True
    return rejected


@given(ps)
def test_holms_adjusted_p_is_the_level_at_which_he_begins_to_reject(p: list[float]) -> None:
    adjusted = holm(p)
    for i, level in enumerate(adjusted):
        if level < 1:
            assert steps_down(p, level * (1 + 1e-9) + 1e-300)[i]
        if level > 1e-9:
            assert not steps_down(p, level * (1 - 1e-9))[i]
    order = sorted(range(len(p)), key=lambda i: p[i])
    assert all(adjusted[a] <= adjusted[b] for a, b in pairwise(order))
    assert all(0 <= x <= 1 and x >= y for x, y in zip(adjusted, p, strict=True))


@given(ps, st.randoms())
def test_holm_does_not_depend_on_the_order(p: list[float], random: object) -> None:
    order = list(range(len(p)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert holm([p[i] for i in order]) == [holm(p)[i] for i in order]


def test_methods_that_are_alike_are_seldom_told_apart() -> None:
    """The familywise error of all pairs is at most 5%."""
    rng, false = np.random.default_rng(0), 0
    for _ in range(600):
        values = {m: dict(enumerate(rng.normal(0.9, 0.01, 5))) for m in "abcd"}
        false += any(d.told_apart for d in compare(values))
    assert false / 600 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


def test_what_is_compared_with_what() -> None:
    values = {
        "l2": {0: 0.7, 1: 0.71, 2: 0.69},
        "ewc": {0: 0.9, 1: 0.91, 2: 0.92},
        "gem": {0: 0.8, 1: 0.82, 2: 0.8},
        "late": {7: 0.95},
    }
    assert {(d.a, d.b) for d in compare(values)} == {("ewc", "l2"), ("gem", "l2"), ("ewc", "gem")}
    del values["late"]
    best = compare(values, "best")
    assert [(d.a, d.b, d.comparisons) for d in best] == [("ewc", "l2", 2), ("ewc", "gem", 2)]
    assert [d.adjusted for d in best] == holm([d.p for d in best if d.p is not None])
    assert compare({}) == compare({}, "best") == []
    with pytest.raises(ValueError, match="no seed in common"):
        difference("a", "b", {0: 0.5}, {1: 0.5})


# Words


def test_sentences_say_what_can_be_said() -> None:
    one = difference("EWC", "L2", {0: 0.9}, {0: 0.877})
    assert one.p is None and not one.told_apart
    assert sentence(one) == "EWC is above L2 by 2.3 points, one seed, so no interval"
    same = difference("EWC", "L2", {0: 0.9, 1: 0.8}, {0: 0.9, 1: 0.8})
    assert sentence(same) == "EWC and L2 are the same to the last digit on all 2 seeds"
    fixed = difference("EWC", "L2", {0: 0.75, 1: 0.75}, {0: 0.5, 1: 0.5})
    assert sentence(fixed) == "EWC is above L2 by 25.0 points, the same on all 2 seeds"
    uncorrected = Difference("EWC", "L2", Interval(0.01, 0.001, 0.019, 5), 0.03, 0.3, comparisons=10)
    assert sentence(uncorrected) == (
        "EWC is above L2 by 1.0 points, 95% interval 0.1 to 1.9, 5 seeds, but not surely: "
        "p = 0.3 after Holm's correction for 10 comparisons; more seeds would tell"
    )


def test_a_difference_is_sure_or_only_the_correction_leaves_it_open_or_it_cannot_be_told() -> None:
    values = {"best": {0: 0.90, 1: 0.91, 2: 0.92}, "far": {0: 0.10, 1: 0.11, 2: 0.12}}
    values |= {"near": {0: 0.89, 1: 0.93, 2: 0.90}, "below": {0: 0.50, 1: 0.55, 2: 0.70}}
    found = {d.b: (d.told_apart, d.unsure) for d in compare(values, "best")}
    assert found == {"far": (True, False), "near": (False, False), "below": (False, True)}
    alone = difference("best", "below", values["best"], values["below"])
    assert alone.told_apart and not alone.unsure
    assert not difference("a", "b", {0: 0.9}, {0: 0.8}).unsure


def test_doubts_name_what_is_suspicious() -> None:
    R, S = [[0.1, 0.1], [0.9, 0.3], [0.8, 0.9]], [[0.1, 0.1], [0.9, 0.2], [0.7, 0.9]]
    other = [[0.2, 0.1], [0.9, 0.2], [0.75, 0.9]]
    assert doubts({"a": {0: R, 1: S}, "b": {0: S, 1: other}}) == []
    assert doubts({"a": {0: R, 1: R}}) == ["a: the same to the last digit on all 2 seeds; is the seed used?"]
    assert doubts({"a": {0: R}, "b": {0: S}}) == ["one seed only, so no interval: a, b"]
    assert doubts({"naive": {0: R, 1: S}, "si": {0: R, 1: S}}) == [
        "naive and si agree to the last digit on every seed; does si do anything?",
        "FWT is the same for every method, so it says nothing of them",
    ]
    broken = doubts({"a": {0: R[:2], 1: [[0.1, 0.1], [0.9, 0.3], [0.8, nan]], 2: [], 3: R, 4: S}})
    assert broken == [
        "a, seed 0: its accuracy matrix has 2 whole rows, and 2 tasks need 3",
        "a, seed 1: the last row of its accuracy matrix holds NaN",
        "a, seed 2: an empty accuracy matrix",
    ]
    assert doubts({}) == []


def test_cells_that_were_not_measured_are_no_evidence() -> None:
    part, other = [[0.1, 0.1], [0.9, nan], [0.8, 0.9]], [[0.1, 0.1], [0.9, nan], [0.7, 0.9]]
    assert doubts({"a": {0: part, 1: other}, "b": {0: other, 1: part}}) == []  # FWT is not the same: unknown
    assert doubts({"a": {0: part, 1: [[0.1, 0.1], [0.9, 0.3], [0.8, 0.9]]}}) == [
        "a: the same to the last digit on all 2 seeds; is the seed used?"
    ]
    assert doubts({"a": {0: part, 1: other}, "b": {0: part, 1: other}}) == [
        "a and b agree to the last digit on every seed; does b do anything?"
    ]
