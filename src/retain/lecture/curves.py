"""(c) SGD, L2 and EWC learn A, then B, then C; and the lecture's noisy and clean digits in either order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from retain.experiment import Experiment
from retain.lecture.setting import Setting
from retain.method import Method
from retain.methods.ewc import EWC
from retain.methods.l2 import L2
from retain.methods.naive import Naive
from retain.result import Result
from retain.run import run

EXAMPLES = 500  # over which EWC's Fisher is taken


@dataclass(frozen=True, eq=False)
class Guarded:
    """One method's runs over A, B, C, by the strength of its guard, ascending."""

    lams: tuple[float, ...]
    runs: tuple[Result, ...]  # one a strength

    def at(self, lam: float) -> Result:
        """The run with this strength."""
        return self.runs[self.lams.index(lam)]


@dataclass(frozen=True, eq=False)
class Three:
    """Plain training, and two guards: one alike for all parameters, one by their second derivatives."""

    sgd: Result
    l2: Guarded
    ewc: Guarded


@dataclass(frozen=True, eq=False)
class Orders:
    """Plain training on two tasks in the two orders."""

    noisy_first: Result
    clean_first: Result


def three(setting: Setting, tell: Callable[[], None] = lambda: None) -> Three:
    """Run all of them; `tell` is called after each."""

    def result(method: Method[Any]) -> Result:
        found = setting.permuted(method, tasks=3).run()
        tell()
        return found

    sgd = result(Naive())
    l2 = tuple(result(L2(lam=v)) for v in setting.l2_lams)
    ewc = tuple(result(EWC(lam=v, examples=EXAMPLES, proximal=True)) if v > 0 else sgd for v in setting.lams)
    return Three(sgd, Guarded(setting.l2_lams, l2), Guarded(setting.lams, ewc))


def orders(setting: Setting, tell: Callable[[], None] = lambda: None) -> Orders:
    """Noisy digits before clean ones, and after them."""
    e = setting.noisy(Naive())
    found = []
    for order in ((0, 1), (1, 0)):
        found.append(_in_order(e, order))
        tell()
    return Orders(*found)


def _in_order(e: Experiment, order: tuple[int, ...]) -> Result:
    stream = e.build_stream().select(order)
    s = e.settings
    return run(
        stream, e.build_learner(stream), s.order, curve_every=s.curve_every, curve_samples=s.curve_samples
    )
