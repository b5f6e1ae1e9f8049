"""Do the labels of new data agree with what is served, where the data look like what it knows?

Labels that slipped by a row or a column are learned as willingly as right ones, and where guards are small their
tests cannot tell. So the served version is asked, before anything is learned: of the new examples that lie as near to
a guard's example as its class's examples usually lie to others, it should know about as many as it knows of the
guards. Labels that have nothing to do with the examples agree as often as chance has it; the new ones contradict what
is served where they agree less than halfway between chance and what is expected, which is where Cohen's kappa (1960,
Educational and Psychological Measurement 20) is half of the guards'. Examples that look new are not counted, nor are
those with the label of a new class: there it is no judge, and what it does not know is what an update is for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.special import bdtr
from torch import Tensor

from retain.seeds import generator

MOST = 2000  # examples a side
NUMBERS = 2**24  # that the examples of a side may hold together; but LEAST examples
LEAST = 200
AT_ONCE = 4096  # numbers of an example that are compared at a time
FEWEST = 20  # examples of guards that are worth comparing with
NEAR = 0.5  # quantile of a class's distances to the nearest other guard up to which an example looks known
SIZE = 0.01  # of the test: an update that is refused in vain costs somebody a look


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled examples, and the served version's view of them."""

    x: Tensor  # stored inputs [N, ...]
    features: Tensor  # [N, D]
    y: Tensor  # int64 [N]
    answers: Tensor  # int64 [N], the served version's

    def part(self, rows: Tensor) -> Rows:
        """Some of them."""
        return Rows(self.x[rows], self.features[rows], self.y[rows], self.answers[rows])


@dataclass(frozen=True)
class Agreement:
    """What was found, JSON-able by `dataclasses.asdict`."""

    n: int  # new examples that look like known ones
    agree: int  # of them those whose label is the served version's answer
    expected: float  # share of such, were they like the guards' examples of the same classes
    chance: float  # share of such, had the labels nothing to do with the examples
    p: float  # of the hypothesis that at least as many agree as halfway between the two; 1: it cannot be asked
    passed: bool  # whether that may be

    @property
    def contradiction(self) -> str | None:
        """What is wrong, in words; None: nothing."""
        if self.passed:
            return None
        return (
            f"the labels contradict what is served: of {self.n} new examples that look like known ones {self.agree} "
            f"bear the label that it gives them, and {round(self.n * self.expected)} should"
        )


def chosen(y: Tensor, among: Tensor, width: int, seed: int) -> Tensor:
    """Rows of labels [N] to compare: those whose label is `among` these, of many some.

    Args:
        y: int64 [N].
        among: int64, the labels of the guards.
        width: numbers that an example holds.
        seed: of the choice.
    """
    rows = torch.isin(y, among).nonzero()[:, 0]
    most = min(MOST, max(LEAST, NUMBERS // width))
    return rows[torch.randperm(len(rows), generator=generator(seed, "agreement", len(rows)))[:most]]


def agreement(known: Rows, new: Rows, shares: dict[int, float]) -> Agreement | None:
    """Compare the labels of new examples with the served version's answers.

    Args:
        known: examples of the guards.
        new: new examples, of classes that the guards hold.
        shares: of the guards' examples of each class, how many the served version has right, in [0, 1].

    Returns:
        None where there are fewer than FEWEST guards' examples, or no new one.

    >>> x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    >>> y = (x[:, 0] > 0).long()
    >>> known = Rows(x[:200], x[:200], y[:200], y[:200])
    >>> agreement(known, Rows(x[200:], x[200:], y[200:], y[200:]), {0: 1.0, 1: 1.0}).passed
    True
    >>> agreement(known, Rows(x[200:], x[200:], y[200:].roll(1), y[200:]), {0: 1.0, 1: 1.0}).passed
    False
    """
    if len(known.y) < FEWEST or len(new.y) == 0:
        return None
    as_they_are = _near(known.x.flatten(1), new.x.flatten(1), known.y)
    alike = new.part(as_they_are & _near(known.features, new.features, known.y))
    n, agree = len(alike.y), int((alike.answers == alike.y).sum())
    if n == 0:
        return Agreement(0, 0, 0.0, 0.0, 1.0, True)
    expected = sum(shares[c] for c in alike.y.tolist()) / n
    classes = int(torch.cat([alike.y, alike.answers]).max()) + 1
    counts = [torch.bincount(t, minlength=classes).double() / n for t in (alike.y, alike.answers)]
    chance = float(counts[0] @ counts[1])
    p = float(bdtr(agree, n, (chance + expected) / 2)) if expected > chance else 1.0
    return Agreement(n, agree, expected, chance, p, p > SIZE)


def _near(known: Tensor, new: Tensor, y: Tensor) -> Tensor:
    """Which of new [N, D] are as near to one of known [M, D] as examples of its class y [M] are to others: bool [N]."""
    apart = _squares(known, known).fill_diagonal_(torch.inf).min(1).values
    usual = torch.empty_like(apart)
    for c in y.unique().tolist():
        usual[y == c] = apart[y == c].quantile(NEAR)
    distance, nearest = _squares(new, known).min(1)
    # Copies have no distance, whatever rounding makes of it; whole numbers, as of images, are not rounded.
    rounding = 1e-12 * torch.linalg.vector_norm(known, dim=1).max() ** 2 if known.is_floating_point() else 0.0
    return distance <= usual[nearest] + rounding


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances [M, N] of [M, D] and [N, D], in double; never a whole copy, as large images need it."""
    out = torch.zeros(len(a), len(b), dtype=torch.float64)
    for u, v in zip(a.split(AT_ONCE, 1), b.split(AT_ONCE, 1), strict=True):
        u, v = u.double(), v.double()
        out += u.square().sum(1)[:, None] + v.square().sum(1) - 2 * u @ v.T
    return out.clamp_(min=0)
