"""Are new data like those that the served version knows? Asked before it learns from them.

Features are compared by the maximum mean discrepancy with a Gaussian kernel, its width the median distance,
and a permutation test (Gretton et al. 2012, JMLR 13, eq. 5). New classes always look different,
so features are compared within each class that both have, and the classes' shares among these; p-values are
corrected by Holm's method over all tests, so that a false alarm has probability alpha at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.seeds import derive, generator
from retain.statistics import holm
from retain.vault.errors import VaultError

MOST = 500  # examples a side of one test
TOGETHER = 5000  # examples a side of all tests together, but FEWEST for each
FEWEST = 20  # examples a side that are worth a test
CLASSES = 50  # classes compared, those with the most examples
PERMUTATIONS = 999  # of one test, more where there are many
AT_ONCE = 250  # permutations that are held in memory


@dataclass(frozen=True)
class Drift:
    """What was found."""

    drifted: bool  # some test says so; findings by themselves do not
    findings: tuple[str, ...]  # in words: the caller's, then what the tests say
    tests: tuple[dict[str, Any], ...]  # {"name", "p" (not corrected), "statistic"}

    def to_json(self) -> dict[str, Any]:
        """As an update's record has it."""
        return {"drifted": self.drifted, "findings": list(self.findings), "tests": list(self.tests)}


def compare(
    known: Tensor, new: Tensor, labels: tuple[Tensor, Tensor] | None, names: Sequence[str], findings: Sequence[str],
    alpha: float = 0.05, seed: int = 0,
) -> Drift:  # fmt: skip
    """Compare features of what was learned and of new data.

    Args:
        known: features of examples of every earlier update, [M, D].
        new: features of the new data, [N, D].
        labels: of both: classes, int64 [M] and [N]; or numbers, or labels of 0 and 1, [M, K] and [N, K]. None: the
            new data have none.
        names: of the classes; not used where numbers are predicted.
        findings: what is known already in words, such as categories that were never seen.
        alpha: probability of a false alarm, over all tests.
        seed: of subsamples and permutations.

    >>> x = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    >>> compare(x[:150], x[150:] + 1, None, (), ()).findings
    ('the features differ (p = 0.001)',)

    Raises:
        VaultError: features that are not finite, or of two widths.
    """
    if known.shape[1:] != new.shape[1:] or known.dim() != 2:
        raise VaultError(
            f"features must be [M, D] and [N, D], got {tuple(known.shape)} and {tuple(new.shape)}"
        )
    if not (known.isfinite().all() and new.isfinite().all()):
        raise VaultError("features must be finite: the served version gives NaN or infinity on these data")
    said = list(findings)
    if labels is not None and labels[0].dim() == 1:
        tests, notes = _class_tests(known, new, labels, names, alpha, seed)
        said += notes
    else:
        tests = _number_tests(known, new, labels, alpha, seed)
    if not tests:
        said.append(_nothing(labels))
    drifted = False
    for t, p in zip(tests, holm([t["p"] for t in tests]), strict=True):
        if p <= alpha:
            drifted = True
            corrected = f" after Holm's correction for {len(tests)} tests" if len(tests) > 1 else ""
            said.append(f"{t['name']} differ (p = {p:.2g}{corrected})")
    return Drift(drifted, tuple(said), tuple(tests))


def _nothing(labels: tuple[Tensor, Tensor] | None) -> str:
    if labels is not None and labels[0].dim() == 1 and not _shared(*labels) and min(map(len, labels)):
        return "nothing to compare: all classes are new"
    return f"nothing to compare: fewer than {FEWEST} examples on one side"


def _shared(known: Tensor, new: Tensor) -> list[int]:
    return sorted(set(known.tolist()) & set(new.tolist()))


def _class_tests(
    known: Tensor, new: Tensor, labels: tuple[Tensor, Tensor], names: Sequence[str], alpha: float, seed: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Within each class that both have, and of its share; what was left out, in words."""
    shared = _shared(*labels)
    counts = np.array([[int((y == c).sum()) for c in shared] for y in labels]).reshape(2, -1)
    if len(shared) == 0 or counts.sum(1).min() < FEWEST:
        return [], []
    fit = [i for i in range(len(shared)) if counts[:, i].min() >= FEWEST]
    largest = sorted(sorted(fit, key=lambda i: -counts[:, i].min())[:CLASSES])
    notes = (
        [f"features were compared within the {CLASSES} largest of {len(fit)} classes"]
        if len(fit) > CLASSES
        else []
    )
    number = len(largest) + 1  # of tests
    tests = [
        _mmd(f"the features of {names[c]}", known[labels[0] == c], new[labels[1] == c], number, alpha, seed)
        for c in (shared[i] for i in largest)
    ]
    if not largest:  # classes too small one by one
        among = [torch.isin(y, torch.tensor(shared)) for y in labels]
        tests.append(
            _mmd("the features of the known classes", known[among[0]], new[among[1]], number, alpha, seed)
        )
    if len(shared) > 1:
        tests.append(_shares(counts, number, alpha, seed))
    return tests, notes


def _number_tests(
    known: Tensor, new: Tensor, labels: tuple[Tensor, Tensor] | None, alpha: float, seed: int
) -> list[dict[str, Any]]:
    """All features, and each number to predict."""
    if min(len(known), len(new)) < FEWEST:
        return []
    columns = 0 if labels is None else labels[0].shape[1]
    tests = [_mmd("the features", known, new, 1 + columns, alpha, seed)]
    for k in range(columns):
        assert labels is not None
        a, b = (y[:, k].double() for y in labels)
        name = f"the targets of output {k + 1}"
        if bool(((a == 0) | (a == 1)).all() and ((b == 0) | (b == 1)).all()):
            counts = np.array([[int((t == v).sum()) for v in (0, 1)] for t in (a, b)])
            tests.append(_shares(counts, 1 + columns, alpha, seed) | {"name": name})
        else:  # Kolmogorov and Smirnov's
            from scipy.stats import ks_2samp  # slow to import, and needed only here

            d, p = ks_2samp(a.numpy(), b.numpy())
            tests.append({"name": name, "p": float(p), "statistic": float(d)})
    return tests


def _permutations(tests: int, alpha: float) -> int:
    """Enough that the least p-value, 1 / (1 + permutations), is found even after correction."""
    return max(PERMUTATIONS, math.ceil(2 * tests / alpha))


def _mmd(name: str, a: Tensor, b: Tensor, tests: int, alpha: float, seed: int) -> dict[str, Any]:
    """The squared discrepancy of [M, D] and [N, D], and how often one as large comes from mixing both."""
    rng = generator(seed, "drift", name)
    most = max(FEWEST, min(MOST, TOGETHER // tests))
    a, b = (t[torch.randperm(len(t), generator=rng)[:most]].double() for t in (a, b))
    x = torch.cat([a, b])
    square = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square()
    apart = square[square > 0]
    kernel = (-square / (2 * apart.median())).exp() if len(apart) else torch.ones_like(square)
    w = torch.cat([torch.full((len(a),), 1 / len(a)), torch.full((len(b),), -1 / len(b))]).double()
    statistic, times, above = float(w @ kernel @ w), _permutations(tests, alpha), 0
    for start in range(0, times, AT_ONCE):
        orders = torch.rand(min(AT_ONCE, times - start), len(w), generator=rng, dtype=torch.float64).argsort(
            1
        )
        mixed = w[orders]
        above += int((((mixed @ kernel) * mixed).sum(1) >= statistic - 1e-12).sum())
    return {"name": name, "p": (above + 1) / (times + 1), "statistic": statistic}


def _shares(counts: NDArray[np.int64], tests: int, alpha: float, seed: int) -> dict[str, Any]:
    """The G statistic of counts [2, C], and how often one as large comes from dealing the same labels anew.

    (The likelihood-ratio test of homogeneity, conditional on both margins: exact also where classes are rare.)
    """
    times, total = _permutations(tests, alpha), counts.sum(0)
    rng = np.random.default_rng(derive(seed, "drift", "shares"))
    dealt = rng.multivariate_hypergeometric(total, int(counts[0].sum()), size=times, method="marginals")
    statistic = float(_g(counts[:1], total)[0])
    above = int((_g(dealt, total) >= statistic - 1e-9).sum())
    return {"name": "the shares of the classes", "p": (above + 1) / (times + 1), "statistic": statistic}


def _g(first: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.float64]:
    """2 sum observed log(observed / expected), of tables whose first rows [T, C] and column sums [C] are given."""
    found = np.zeros(len(first))
    for rows in (first, total - first):
        expected = rows[0].sum() * total / total.sum()
        ratio = np.where(rows > 0, rows / np.maximum(expected, 1e-300), 1.0)
        found += 2 * (rows * np.log(ratio)).sum(1)
    return found
