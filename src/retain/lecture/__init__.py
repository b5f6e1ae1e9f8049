"""The pictures of Hung-yi Lee's lecture on lifelong learning, as numbers from small, real runs.

One module a picture, each a function from a `Setting` to a frozen record; nothing here draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from retain.lecture.cells import Cells, cells
from retain.lecture.curves import Guarded, Orders, Three, orders, three
from retain.lecture.dreams import Dreams, dreams
from retain.lecture.gem import Moment, Turned, Turns, turns
from retain.lecture.parameter import Moved, TwoParameters, two_parameters
from retain.lecture.setting import Setting
from retain.lecture.surface import Path, Plane, Surface, surface
from retain.lecture.toy import Toy

__all__ = [
    "PARTS", "Cells", "Dreams", "Guarded", "Lecture", "Moment", "Moved", "Orders", "Path", "Plane", "Setting",
    "Surface", "Three", "Toy", "Turned", "Turns", "TwoParameters", "cells", "compute", "dreams", "orders", "surface",
    "three", "turns", "two_parameters",
]  # fmt: skip

PARTS = ("orders", "surface", "parameters", "three", "gem", "dreams")
"""What `compute` computes, in its order."""


@dataclass(frozen=True, eq=False)
class Lecture:
    """All pictures of one setting."""

    setting: Setting
    orders: Orders
    surface: Surface  # (a)
    parameters: TwoParameters  # (b)
    three: Three  # (c)
    gem: Turns  # (d)
    dreams: Dreams  # (e)
    matrices: dict[str, Cells]  # (f), by method: sgd, l2, ewc
    toy: Toy


def compute(setting: Setting, tell: Callable[[str], None] = lambda part: None) -> Lecture:
    """Run everything; `tell` is given the part that is under way, now and then.

    Takes about a minute on one core with the default setting.
    """

    def of(part: str) -> Callable[[], None]:
        tell(part)
        return lambda: tell(part)

    first = orders(setting, of("orders"))
    plane = surface(setting, of("surface"))
    tell("parameters")
    parameters = two_parameters(setting)
    curves = three(setting, of("three"))
    gem = turns(setting, of("gem"))
    generated = dreams(setting, of("dreams"))
    shown = {
        "sgd": curves.sgd,
        "l2": curves.l2.at(setting.l2_lam),
        "ewc": curves.ewc.at(setting.lam),
    }
    matrices = {name: cells(r) for name, r in shown.items()}
    return Lecture(setting, first, plane, parameters, curves, gem, generated, matrices, Toy())
