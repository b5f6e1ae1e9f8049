"""Pure functions of the accuracy matrix R.

`R[i, j]`, in [0, 1], is the test accuracy on task j (from 1) after learning i tasks; row 0 is the
untrained network, so R has T + 1 rows and T columns. A cell that was not measured is NaN; the last
row must be measured whole. Several definitions of each measure are in use; each function here is one
of them and says which. It gives None where there is no such cell or one was not measured: never a
mean over fewer. None changes its input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = Sequence[Sequence[float]] | NDArray[np.float64]


def _matrix(R: Matrix) -> NDArray[np.float64]:
    a = np.array(R, dtype=np.float64)
    if a.ndim != 2 or a.shape[0] != a.shape[1] + 1 or a.shape[1] == 0:
        raise ValueError(
            "an accuracy matrix has T + 1 rows (the first is the untrained network) of T columns, "
            f"got shape {a.shape}"
        )
    if not ((a >= 0) & (a <= 1) | np.isnan(a)).all():
        raise ValueError("accuracies lie in [0, 1]: the matrix holds a value outside")
    if np.isnan(a[-1]).any():
        raise ValueError("the last row of an accuracy matrix must be measured whole: it holds NaN")
    return a


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    """None for no values, or where one needs a cell that was not measured."""
    mean = float(np.mean(values)) if len(values) else math.nan
    return None if math.isnan(mean) else mean


def acc(R: Matrix) -> float:
    """ACC, the mean of the last row (Lopez-Paz & Ranzato 2017, eq. 2).

    >>> acc([[0.1, 0.1], [0.9, 0.2], [0.8, 0.95]])
    0.875
    """
    return float(_matrix(R)[-1].mean())


def bwt(R: Matrix) -> float | None:
    """BWT: mean over j < T of R[T, j] - R[j, j] (ib., eq. 3, divided by T - 1). None for one task.

    >>> round(bwt([[0.1, 0.1], [0.9, 0.2], [0.8, 0.95]]), 3)
    -0.1
    """
    a = _matrix(R)
    return _mean((a[-1] - np.diag(a[1:]))[:-1])


def fwt(R: Matrix) -> float | None:
    """FWT: mean over j >= 2 of R[j-1, j] - R[0, j], the untrained network (ib., eq. 4).

    >>> round(fwt([[0.1, 0.1], [0.9, 0.2], [0.8, 0.95]]), 3)
    0.1
    """
    a = _matrix(R)
    return _mean(np.diag(a)[1:] - a[0, 1:])


def bwt_gem_released_code(R: Matrix) -> float | None:
    """BWT as GEM's released code prints it: divided by T, so (T - 1) / T of `bwt`."""
    a = _matrix(R)
    return _mean(a[-1] - np.diag(a[1:]))


def bwt_all_pairs(R: Matrix) -> float | None:
    """Mean over all pairs i > j of R[i, j] - R[j, j] (Diaz-Rodriguez et al. 2018). None for one task."""
    a = _matrix(R)[1:]
    T = a.shape[1]
    return _mean([a[i, j] - a[j, j] for i in range(T) for j in range(i)])


def forgetting_max(R: Matrix) -> float | None:
    """Mean over j < T of max over j <= i < T of R[i, j], less R[T, j] (Chaudhry et al. 2018, eq. 3).

    >>> round(forgetting_max([[0.1, 0.1], [0.9, 0.2], [0.8, 0.95]]), 3)
    0.1
    """
    a = _matrix(R)[1:]
    T = a.shape[1]
    return _mean([a[j : T - 1, j].max() - a[-1, j] for j in range(T - 1)])


def learning_accuracy(R: Matrix) -> float | None:
    """The mean of the diagonal: how well each task is known right after it was learned.

    (Riemer et al. 2019.)
    """
    return _mean(np.diag(_matrix(R)[1:]))


def average_incremental_accuracy(R: Matrix) -> float | None:
    """Mean over i of the mean accuracy on the tasks seen by then (Rebuffi et al. 2017)."""
    a = _matrix(R)[1:]
    return _mean([a[i, : i + 1].mean() for i in range(a.shape[1])])


def intransigence(R: Matrix, joint: Matrix) -> float | None:
    """Mean over j of what joint training reaches on j after j tasks, less R[j, j].

    (Chaudhry et al. 2018, eq. 4, averaged over tasks.) `joint` is the matrix of joint training on
    the same stream.
    """
    a, b = _matrix(R), _matrix(joint)
    if a.shape != b.shape:
        raise ValueError(f"matrices of different streams: {a.shape} and {b.shape}")
    return _mean(np.diag(b[1:]) - np.diag(a[1:]))
