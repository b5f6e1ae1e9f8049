"""(f) Which cells of the accuracy matrix ACC, BWT and FWT are read from, and how much each counts."""

from __future__ import annotations

from dataclasses import dataclass

from retain import metrics
from retain.result import Result

Weights = dict[tuple[int, int], float]


@dataclass(frozen=True)
class Measure:
    """A measure as a sum over cells R[i, j] of the matrix, i from 0 (untrained), j from 0."""

    name: str
    value: float
    weights: Weights  # of the cells that it uses


@dataclass(frozen=True)
class Cells:
    """An accuracy matrix [T + 1, T], its first row the untrained network, and what is read from it."""

    tasks: tuple[str, ...]
    accuracy: tuple[tuple[float, ...], ...]
    measures: tuple[Measure, ...]  # ACC, BWT, FWT


def cells(result: Result) -> Cells:
    """The matrix of a run of two tasks or more.

    Raises:
        ValueError: a single task, which has neither BWT nor FWT.
    """
    T = len(result.tasks)
    if T < 2:
        raise ValueError(f"BWT and FWT need two tasks or more, this run has {T}")
    acc = {(T, j): 1 / T for j in range(T)}
    bwt = {(T, j): 1 / (T - 1) for j in range(T - 1)} | {(j + 1, j): -1 / (T - 1) for j in range(T - 1)}
    fwt = {(j, j): 1 / (T - 1) for j in range(1, T)} | {(0, j): -1 / (T - 1) for j in range(1, T)}
    R = result.accuracy
    back, forward = metrics.bwt(R), metrics.fwt(R)
    assert back is not None and forward is not None  # of two tasks or more, all measured
    measures = (
        Measure("ACC", metrics.acc(R), acc), Measure("BWT", back, bwt), Measure("FWT", forward, fwt)
    )  # fmt: skip
    return Cells(tuple(result.tasks), tuple(map(tuple, R)), measures)
