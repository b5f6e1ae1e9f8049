"""The lecture with few samples: computed once in a process."""

from __future__ import annotations

from functools import cache

from retain.lecture import Lecture, Setting, compute

SMALL = Setting(
    samples=600, test_samples=200, grid=5, lams=(0.0, 100.0), l2_lams=(0.03, 0.1), margins=(0.0, 0.5),
    generated=200, digits=2,
)  # fmt: skip


@cache
def lecture() -> Lecture:
    return compute(SMALL)
