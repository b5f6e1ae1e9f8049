"""Do the labels of new data agree with what is served, where the data look like what it knows?

Labels that slipped by a row or a column are learned as willingly as right ones, and where guards are small their
tests cannot tell. So the served version is asked, before anything is learned: of the new examples that lie as near to
a guard's example as its class's examples usually lie to others, it should know about as many as it knows of the
guards. Where it knows less than half as many, the labels contradict it. Examples that look new are not counted, nor
are those with the label of a new class: there it is no judge, and what it does not know is what an update is for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.special import bdtr
from torch import Tensor

from retain.seeds import generator

MOST = 2000  # examples a side
NUMBERS = 2**24  # that the examples of a side may hold together, 128 MB; but LEAST examples
LEAST = 200
FEWEST = 20  # examples of guards that are worth comparing with
NEAR = 0.5  # quantile of a class's distances to the nearest other guard up to which an example looks known
HALF = 0.5  # share of the expected agreement below which labels contradict
SIZE = 0.01  # of the test: an update that is refused in vain costs somebody a look


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled examples, and the served version's view of them."""

    x: Tensor  # stored inputs [N, ...]
    features: Tensor  # [N, D]
    y: Tensor  # int64 [N]
    right: Tensor  # bool [N]: its answer is the label

    def part(self, rows: Tensor) -> Rows:
        """Some of them."""
        return Rows(self.x[rows], self.features[rows], self.y[rows], self.right[rows])


@dataclass(frozen=True)
class Agreement:
    """What was found, JSON-able by `dataclasses.asdict`."""

    n: int  # new examples that look like known ones
    agree: int  # of them those whose label is the served version's answer
    expected: float  # share of such, were they like the guards' examples of the same classes
    p: float  # of the hypothesis that half of the expected share or more agree; 1 where n is 0
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


def agreement(known: Rows, new: Rows, seed: int = 0) -> Agreement | None:
    """Compare the labels of new examples with the served version's answers.

    Args:
        known: examples of the guards.
        new: new examples; those whose class no guard holds are left out.
        seed: of the choice, where there are more than MOST, or than fit into NUMBERS.

    Returns:
        None where there are fewer than FEWEST guards' examples, or no new one of a class that they hold.

    >>> x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    >>> y = (x[:, 0] > 0).long()
    >>> known, yes = Rows(x[:200], x[:200], y[:200], y[:200] >= 0), torch.ones(200, dtype=torch.bool)
    >>> agreement(known, Rows(x[200:], x[200:], y[200:], yes)).passed
    True
    >>> agreement(known, Rows(x[200:], x[200:], 1 - y[200:], ~yes)).passed
    False
    """
    new = new.part(torch.isin(new.y, known.y))
    if len(known.y) < FEWEST or len(new.y) == 0:
        return None
    share = {c: float(known.right[known.y == c].double().mean()) for c in known.y.unique().tolist()}
    known, new = (_some(rows, generator(seed, "agreement", len(rows.y))) for rows in (known, new))
    as_they_are = _near(known.x.flatten(1), new.x.flatten(1), known.y)
    alike = new.part(as_they_are & _near(known.features, new.features, known.y))
    n, agree = len(alike.y), int(alike.right.sum())
    expected = sum(share[c] for c in alike.y.tolist()) / n if n else 0.0
    p = float(bdtr(agree, n, HALF * expected)) if n else 1.0
    return Agreement(n, agree, expected, p, p > SIZE)


def _some(rows: Rows, rng: torch.Generator) -> Rows:
    most = min(MOST, max(LEAST, NUMBERS // rows.x[0].numel()))
    return rows.part(torch.randperm(len(rows.y), generator=rng)[:most])


def _near(known: Tensor, new: Tensor, y: Tensor) -> Tensor:
    """Which of new [N, D] are as near to one of known [M, D] as examples of its class y [M] are to others: bool [N]."""
    known, new = known.double(), new.double()
    apart = torch.cdist(known, known).fill_diagonal_(torch.inf).min(1).values
    usual = torch.empty_like(apart)
    for c in y.unique().tolist():
        usual[y == c] = apart[y == c].quantile(NEAR)
    distance, nearest = torch.cdist(new, known).min(1)
    return distance <= usual[nearest]
