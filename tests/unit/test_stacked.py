"""Runs stacked into one computation are the runs one by one."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from retain import EWC, Learner, Method, Optim, Result
from retain.experiment import Experiment, Settings
from retain.methods import discover
from retain.run import Course
from retain.stacked import CannotStack, run_together
from tests.laws import toy

MNIST = Settings(tasks=3, samples=400, test_samples=200, hidden=(40,), batch_size=32)


def apart(courses: Sequence[Course]) -> list[Result]:
    """One after the other."""
    return [c.run(resume=False, progress=None, stop=None) for c in courses]


def gap(a: Course, b: Course) -> float:
    """The largest difference between two runs' parameters or accuracies."""
    of_params = [(p - b.learner.params[k]).abs().max().item() for k, p in a.learner.params.items()]
    rows = zip(a.sitting.record.accuracy, b.sitting.record.accuracy, strict=True)
    return max(*of_params, *((torch.tensor(x) - torch.tensor(y)).abs().max().item() for x, y in rows))


def test_eight_seeds_of_ewc_are_eight_runs_of_ewc() -> None:
    experiments = [Experiment("permuted", EWC(lam=20.0), replace(MNIST, seed=seed)) for seed in range(8)]
    one_by_one, together = ([e.course() for e in experiments] for _ in range(2))
    wanted, found = apart(one_by_one), run_together(together)
    assert max(gap(a, b) for a, b in zip(one_by_one, together, strict=True)) < 1e-5
    assert [r.seed for r in found if isinstance(r, Result)] == list(range(8))
    assert [r.config for r in found] == [r.config for r in wanted]  # type: ignore[union-attr]
    assert gap(one_by_one[0], together[1]) > 1e-2  # the runs do differ
