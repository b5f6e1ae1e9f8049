"""The measures against plain loops that spell their definitions out, and the traps of published code."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain import metrics

Rows = list[list[float]]

# Two tasks: untrained at chance, the first falls from 0.9 to 0.7 while the second is learned.
TWO = [[0.1, 0.1], [0.9, 0.2], [0.7, 0.8]]


@st.composite
def matrices(draw: st.DrawFn, least: int = 1) -> Rows:
    tasks = draw(st.integers(least, 6))
    row = st.lists(st.floats(0, 1), min_size=tasks, max_size=tasks)
    return draw(st.lists(row, min_size=tasks + 1, max_size=tasks + 1))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


# Each twin writes R[i][j] with i tasks learned and task j counted from 1, as the papers do.


def slow_bwt(R: Rows) -> float:
    T = len(R[0])
    return mean([R[T][j - 1] - R[j][j - 1] for j in range(1, T)])


def slow_fwt(R: Rows) -> float:
    T = len(R[0])
    return mean([R[j - 1][j - 1] - R[0][j - 1] for j in range(2, T + 1)])


def slow_all_pairs(R: Rows) -> float:
    T = len(R[0])
    return mean([R[i][j - 1] - R[j][j - 1] for i in range(2, T + 1) for j in range(1, i)])


def slow_forgetting(R: Rows) -> float:
    T = len(R[0])
    return mean([max(R[i][j - 1] for i in range(j, T)) - R[T][j - 1] for j in range(1, T)])


def slow_incremental(R: Rows) -> float:
    T = len(R[0])
    return mean([mean([R[i][j - 1] for j in range(1, i + 1)]) for i in range(1, T + 1)])


PAIRS: list[tuple[Callable[[Rows], float | None], Callable[[Rows], float]]] = [
    (metrics.bwt, slow_bwt),
    (metrics.fwt, slow_fwt),
    (metrics.bwt_all_pairs, slow_all_pairs),
    (metrics.forgetting_max, slow_forgetting),
]


@given(matrices(least=2))
def test_transfer_and_forgetting_equal_their_definitions(R: Rows) -> None:
    for fast, slow in PAIRS:
        assert fast(R) == pytest.approx(slow(R), abs=1e-12), fast.__name__


@given(matrices())
def test_means_equal_their_definitions(R: Rows) -> None:
    T = len(R[0])
    assert metrics.acc(R) == pytest.approx(mean(R[-1]), abs=1e-12)
    assert metrics.learning_accuracy(R) == pytest.approx(
        mean([R[j][j - 1] for j in range(1, T + 1)]), abs=1e-12
    )
    assert metrics.average_incremental_accuracy(R) == pytest.approx(slow_incremental(R), abs=1e-12)
    assert metrics.intransigence(R, R) == 0


@given(matrices(least=2))
def test_relations_between_measures(R: Rows) -> None:
    T = len(R[0])
    bwt, forgetting = metrics.bwt(R), metrics.forgetting_max(R)
    assert bwt is not None
    assert forgetting is not None
    learned = metrics.learning_accuracy(R)
    assert learned is not None
    assert forgetting >= -bwt - 1e-12  # the best so far is at least what was learned
    assert metrics.bwt_gem_released_code(R) == pytest.approx(bwt * (T - 1) / T, abs=1e-12)
    assert metrics.acc(R) == pytest.approx(learned + bwt * (T - 1) / T, abs=1e-12)


def test_one_task_has_no_transfer() -> None:
    R = [[0.1], [0.9]]
    assert metrics.bwt(R) is metrics.fwt(R) is metrics.forgetting_max(R) is metrics.bwt_all_pairs(R) is None
    assert metrics.acc(R) == metrics.learning_accuracy(R) == 0.9


def test_trap_3_means_are_over_t_minus_1_and_the_other_convention_has_its_own_name() -> None:
    assert metrics.bwt(TWO) == pytest.approx(-0.2)
    assert metrics.bwt_gem_released_code(TWO) == pytest.approx(-0.1)
    assert metrics.fwt(TWO) == pytest.approx(0.1)


@pytest.mark.parametrize("as_array", [False, True])
def test_trap_4_no_measure_changes_its_input(as_array: bool) -> None:
    R = np.array(TWO) if as_array else TWO
    kept = copy.deepcopy(R)
    for measure in (
        metrics.acc,
        metrics.bwt,
        metrics.fwt,
        metrics.forgetting_max,
        metrics.learning_accuracy,
        metrics.average_incremental_accuracy,
        metrics.bwt_all_pairs,
        metrics.bwt_gem_released_code,
    ):
        measure(R)
    metrics.intransigence(R, R)
    assert np.array_equal(np.array(R), np.array(kept))


def test_trap_5_the_baseline_of_fwt_is_the_untrained_network() -> None:
    """Helped by 0.3 before it was learned; a baseline taken after training would say otherwise."""
    R = [[0.1, 0.1], [0.9, 0.4], [0.9, 0.95]]
    assert metrics.fwt(R) == pytest.approx(0.3)
    for untrained in (0.0, 0.2, 0.4):
        R[0][1] = untrained
        assert metrics.fwt(R) == pytest.approx(0.4 - untrained)


def test_intransigence_is_what_joint_training_has_over_the_diagonal() -> None:
    joint = [[0.1, 0.1], [0.95, 0.2], [0.9, 0.9]]
    assert metrics.intransigence(TWO, joint) == pytest.approx((0.05 + 0.1) / 2)
    with pytest.raises(ValueError, match="different streams"):
        metrics.intransigence(TWO, [[0.1], [0.9]])


@pytest.mark.parametrize(
    "R",
    [
        [],
        [[]],
        [0.1, 0.2],
        [[0.1, 0.2], [0.3, 0.4]],  # no untrained row
        [[0.1], [0.2], [0.3]],
        [[0.1, 0.2], [0.3], [0.4, 0.5]],
        [[0.1], [float("nan")]],
        [[0.1], [1.1]],
        [[-0.1], [0.5]],
        [[10.0], [90.0]],  # percent
        [[0.1], [float("inf")]],
    ],
)
def test_what_is_no_accuracy_matrix_is_refused(R: Rows) -> None:
    with pytest.raises(ValueError, match=r"accurac|array"):
        metrics.acc(R)
