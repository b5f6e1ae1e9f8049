"""The gate: a candidate is served if it is better on the new data and no guard loses more than its margin.

Each guard has its own test of non-inferiority, and all must pass. No correction is needed for their number
(an intersection-union test: Berger 1982, Technometrics 24): a candidate that is worse by the margin on
any one guard passes with probability alpha at most, whatever it does on the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from scipy.special import bdtrik, ndtri
from torch import Tensor

from retain.vault import noninferiority as ni
from retain.vault.agreement import Agreement
from retain.vault.errors import VaultError

LEAST = 0.01  # no default margin is smaller
COARSE = 0.05  # default margins above are pointed out
LIKENESS = 0.9  # correlation of two equal versions' losses, for planning where losses are compared

What = Literal["guard", "class", "to new classes", "new data"]


@dataclass(frozen=True)
class Gate:
    """Settings. Margins are shares of the examples, or of the served version's mean loss where losses are compared.

    A guard's default margin is the larger of LEAST and what the guard can resolve: the least margin at which
    candidates that are as good pass all gated tests with probability `power`, each of k tests with
    power ** (1 / k). So the larger a guard, the less it may lose.

    Raises:
        VaultError: a setting outside its range; names it.
    """

    alpha: float = 0.05  # size of each test, in (0, 0.5)
    margin: float | None = None  # that every guard may lose, in (0, 1); None: the default, guard by guard
    new_margin: float = (
        0.10  # of an old guard that may go to new classes, in (0, 1); more where it holds too few
    )
    fewest: int = 500  # examples of a class in a guard from which on the class has a test that decides
    discordance: float = 0.04  # share of the predictions that retraining changes, for planning
    power: float = 0.80  # of all gated tests together, for a candidate that is as good, for planning

    def __post_init__(self) -> None:
        for name, most in (
            ("alpha", 0.5),
            ("margin", 1),
            ("new_margin", 1),
            ("discordance", 1),
            ("power", 1),
        ):
            value = getattr(self, name)
            if not (value is None and name == "margin") and not 0 < value < most:
                raise VaultError(f"{name} must lie between 0 and {most}, got {value}")
        if self.fewest < 1:
            raise VaultError(f"fewest must be >= 1, got {self.fewest}")


@dataclass(frozen=True, eq=False)
class Compared:
    """The served version and the candidate on one set, example by example."""

    name: str  # of the guard
    served: Tensor  # bool [N]: right; or float [N]: loss, >= 0
    candidate: Tensor  # the same; an old guard is judged among the classes that the served version knew
    classes: Tensor | None = None  # int64 [N], for tests class by class
    to_new: Tensor | None = (
        None  # bool [N]: served right, candidate says a class that the served version did not know
    )

    @property
    def binary(self) -> bool:
        """Whether right and wrong are compared, not losses."""
        return self.served.dtype == torch.bool


@dataclass(frozen=True)
class Test:
    """One test of the gate, JSON-able by `dataclasses.asdict`."""

    __test__: ClassVar[bool] = False  # no test of pytest's

    name: str  # of the guard; "guard/class" where one class of it is tested
    what: What
    n: int
    served: float  # share right, or mean loss
    candidate: (
        float  # to new classes: what is left of the served version's share when these are taken from it
    )
    losses: int  # examples that were right and are now wrong, or whose loss rose
    gains: int
    margin: float | None  # None: the new data, which must be better
    p: float
    bound: (
        float | None
    )  # upper 1 - alpha bound of what is lost, in the margin's units; None: none, or not gated
    gated: bool  # whether it decides
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """What the gate says."""

    passed: bool
    tests: tuple[Test, ...]  # guards, classes, to new classes, and the new data last
    margin: float  # the largest of the guards'; LEAST where there are none
    reason: str  # one line


def judge(
    old: Sequence[Compared], new: Compared | None, gate: Gate, names: Sequence[str] = (),
    labels: Agreement | None = None,
) -> Verdict:  # fmt: skip
    """Test the candidate on every old guard and on the new data, and the labels that it learned from.

    Args:
        old: guards of earlier updates.
        new: the held-out part of the new data; None: it has no say.
        gate: settings.
        names: of the classes; where none are given a class is called by its number.
        labels: of the new data, compared with the served version's answers; None: they have no say.

    >>> right = torch.arange(1000) % 10 > 0  # 90 %
    >>> worse = right & (torch.arange(1000) % 20 != 1)  # 85 %
    >>> print(judge([Compared("january", right, worse)], None, Gate()).reason)
    refused: guard 'january' loses 5.0 points (served 90.0 %, candidate 85.0 %; margin 1.7, p 1)

    Raises:
        VaultError: a set without examples, two guards of one name, or losses that no test can compare.
    """
    binary = _check([*old, *([] if new is None else [new])])
    parts = [(c, _by_class(c, names)) for c in old]
    k = len(old) + sum(len(part.served) >= gate.fewest for _, classes in parts for part in classes)
    guards, classes = [], []
    for c, by_class in parts:
        guards.append(_lost(c, "guard", _margin(c, gate, k), gate, gated=True))
        for part in by_class:
            gated = len(part.served) >= gate.fewest
            classes.append(_lost(part, "class", _margin(part if gated else c, gate, k), gate, gated))
    moved = [c for c in old if c.to_new is not None]
    to_new = [_to_new(c, gate, len(moved)) for c in moved]
    tests = [*guards, *classes, *to_new, *([] if new is None else [_better(new)])]
    failed = [t for t in tests if t.gated and not t.passed]
    if wrong := labels is not None and labels.contradiction:
        reason = f"refused: {wrong}; look whether they slipped: if they mean something else now, serve it all the same"
    elif failed:
        reason = _refusal(failed, gate, binary)
    else:
        reason = _approval(tests, gate, binary)
    margin = max((t.margin for t in guards if t.margin is not None), default=LEAST)
    return Verdict(not (failed or wrong), tuple(tests), margin, reason)


def _check(sets: Sequence[Compared]) -> bool:
    """Whether they hold right and wrong, not losses."""
    names = [c.name for c in sets]
    for c in sets:
        n = len(c.served)
        if n == 0:
            raise VaultError(
                f"guard {c.name!r} holds no example, so nothing can be judged by it: give it some"
            )
        if names.count(c.name) > 1:
            raise VaultError(f"two guards are called {c.name!r}: give each update a name of its own")
        if any(t is not None and t.shape != (n,) for t in (c.candidate, c.classes, c.to_new)):
            raise VaultError(f"guard {c.name!r}: the candidate must be compared on the same {n} examples")
        if c.binary != sets[0].binary or c.candidate.dtype.is_floating_point == c.binary:
            raise VaultError(f"guard {c.name!r}: right and wrong cannot be compared with losses")
        both = torch.cat([c.served, c.candidate])
        if not c.binary and not bool((both.isfinite() & (both >= 0)).all()):
            raise VaultError(
                f"guard {c.name!r}: losses must be finite and >= 0, got {both.min():g} to {both.max():g}"
            )
    return not sets or sets[0].binary


def _by_class(c: Compared, names: Sequence[str]) -> list[Compared]:
    """Each class of a guard that has several, as a set of its own."""
    if c.classes is None or len(found := c.classes.unique().tolist()) < 2:
        return []
    rows = {k: c.classes == k for k in found}
    called = {k: names[k] if names else str(k) for k in found}
    return [Compared(f"{c.name}/{called[k]}", c.served[r], c.candidate[r]) for k, r in rows.items()]


def _margin(c: Compared, gate: Gate, k: int) -> float:
    """That one of k gated sets may lose; known before the candidate is."""
    if gate.margin is not None:
        return gate.margin
    n, power = len(c.served), gate.power ** (1 / k)
    if c.binary:
        return max(LEAST, ni.resolvable((n,), gate.alpha, power, gate.discordance))
    mean, sd = _mean(c.served), float(c.served.double().std(correction=0)) * math.sqrt(2 * (1 - LIKENESS))
    t_test = (ndtri(power) - ndtri(gate.alpha)) * sd / (math.sqrt(n) * mean) if mean else 0.0
    return max(LEAST, _up(t_test))


def _lost(c: Compared, what: What, margin: float, gate: Gate, gated: bool) -> Test:
    """Whether a set lost less than its margin; the bound is costly, so only where the test decides."""
    losses, gains = _changes(c)
    n = len(c.served)
    if c.binary:
        p = ni.loss_p(losses, gains, n, margin)
        bound = ni.loss_bound(losses, gains, n, gate.alpha) if gated else math.inf
    else:
        p, bound = ni.rise(c.served.double().numpy(), c.candidate.double().numpy(), margin, gate.alpha)
    shown = bound if gated and math.isfinite(bound) else None
    served, candidate = _mean(c.served), _mean(c.candidate)
    return Test(c.name, what, n, served, candidate, losses, gains, margin, p, shown, gated, p <= gate.alpha)


def _to_new(c: Compared, gate: Gate, k: int) -> Test:
    """Whether few enough of what was right goes to new classes.

    The margin is the larger of the setting and what one of k such guards can resolve: the least at which
    a true share of half the setting passes with probability power ** (1 / k).
    """
    assert c.to_new is not None
    n, lost = len(c.to_new), int(c.to_new.sum())
    usual = math.ceil(max(float(bdtrik(gate.power ** (1 / k), n, gate.new_margin / 2)), 0.0))
    margin = max(gate.new_margin, min(_up(ni.share_bound(usual, n, gate.alpha)), 0.999))
    p, bound = ni.share_p(lost, n, margin), ni.share_bound(lost, n, gate.alpha)
    served, passed = _mean(c.served), p <= gate.alpha
    return Test(
        c.name, "to new classes", n, served, served - lost / n, lost, 0, margin, p, bound, True, passed
    )


def _better(c: Compared) -> Test:
    """Whether more of the new data are right, or their mean loss is smaller."""
    losses, gains = _changes(c)
    served, candidate = _mean(c.served), _mean(c.candidate)
    if c.binary:
        p, passed = ni.better_p(gains, losses), gains > losses
    else:
        p, _ = ni.rise(c.served.double().numpy(), c.candidate.double().numpy(), 0.0, 0.05)
        passed = candidate < served
    return Test(
        c.name, "new data", len(c.served), served, candidate, losses, gains, None, p, None, True, passed
    )


def _changes(c: Compared) -> tuple[int, int]:
    """How many examples got worse, and how many better."""
    worse = c.served.to(torch.float64) - c.candidate.to(torch.float64)
    worse = worse if c.binary else -worse
    return int((worse > 0).sum()), int((worse < 0).sum())


def _mean(t: Tensor) -> float:
    return float(t.double().mean())


def _up(margin: float) -> float:
    """In steps of 0.1 points, so that what is printed is what is used."""
    return math.ceil(1000 * margin - 1e-9) / 1000


# What is said


def _approval(tests: Sequence[Test], gate: Gate, binary: bool) -> str:
    said = [f"better on the new data ({_change(t, binary)}), and" for t in tests if t.what == "new data"]
    guards = [t for t in tests if t.what == "guard"]
    said.append("no guard loses more than its margin" if guards else "there is no guard yet")
    widest = max(guards, key=lambda t: t.margin or 0, default=None)
    if gate.margin is None and widest is not None and (widest.margin or 0) > COARSE:
        size = _amount(widest.margin or 0, binary)
        said.append(f"(but guard {widest.name!r}, n = {widest.n}, resolves no less than {size})")
    return " ".join(said)


def _refusal(failed: Sequence[Test], gate: Gate, binary: bool) -> str:
    """The worst failure, in words, and which there are besides."""
    order = ("guard", "class", "to new classes", "new data")
    worst = min(failed, key=lambda t: (order.index(t.what), (t.margin or 0) - _lost_by(t, binary)))
    others = [f"{t.name!r} ({t.what})" for t in failed if t is not worst]
    more = (
        f"; {len(others)} more failed: {', '.join(others[:3])}{', ...' if others[3:] else ''}"
        if others
        else ""
    )
    return f"refused: {_failure(worst, gate, binary)}{more}"


def _failure(t: Test, gate: Gate, binary: bool) -> str:
    if t.margin is None:
        return f"no better on the new data ({_change(t, binary)})"
    if t.what == "to new classes":
        by = _lost_by(t, binary)
        lost = f"guard {t.name!r} loses {_amount(by, True)} to new classes"
        of = f"{t.losses} of {t.n} examples"
        if by >= t.margin:
            return f"{lost} ({of}; margin {100 * t.margin:.1f}, p {t.p:.2g})"
        unsure = f"{t.n} examples cannot show that it is less than the margin of {_amount(t.margin, True)}"
        return f"{lost} ({of}; p {t.p:.2g}), and {unsure}: larger guards or a wider margin would tell"
    unit = "" if binary else " %"
    detail = f"{_change(t, binary)}; margin {100 * t.margin:.1f}{unit}, p {t.p:.2g}"
    if fix := _too_few(t, gate, binary):
        return f"{t.what} {t.name!r} holds {t.n} examples, too few to show anything ({detail}): {fix}"
    by = _lost_by(t, binary)
    if by >= t.margin:
        return f"{t.what} {t.name!r} loses {_amount(by, binary)} ({detail})"
    upto = "any amount" if t.bound is None else _amount(t.bound, binary)
    return f"{t.what} {t.name!r} may lose up to {upto} ({detail}): larger guards or a wider margin would tell"


def _too_few(t: Test, gate: Gate, binary: bool) -> str:
    """What to do where a candidate that changes nothing would not pass either; empty where it would."""
    assert t.margin is not None
    if not binary:
        least = math.ceil(-math.log2(gate.alpha))
        return "" if t.n >= least else f"give it {least} or more"
    if ni.loss_p(0, 0, t.n, t.margin) <= gate.alpha:
        return ""
    wider = _amount(_up(ni.loss_bound(0, 0, t.n, gate.alpha)), binary)
    return f"give it {ni.fewest(t.margin, gate.alpha)} or more, or a margin of {wider}"


def _lost_by(t: Test, binary: bool) -> float:
    """What was lost, in the margin's units."""
    if t.what == "to new classes":
        return t.losses / t.n
    if binary:
        return t.served - t.candidate
    if t.served > 0:
        return t.candidate / t.served - 1
    return math.inf if t.candidate > 0 else 0.0


def _amount(share: float, binary: bool) -> str:
    return f"{100 * share:.1f} {'points' if binary else '% of its mean loss'}"


def _change(t: Test, binary: bool) -> str:
    served, candidate = (f"{100 * v:.1f}" if binary else f"{v:.4g}" for v in (t.served, t.candidate))
    unit = " %" if binary else ""
    if t.what == "new data":
        return f"{'' if binary else 'mean loss '}{served} -> {candidate}{unit}"
    return f"served {served}{unit}, candidate {candidate}{unit}"
