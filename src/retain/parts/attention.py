"""Hard attention to the task (Serra et al. 2018): embeddings e of hidden units, whose gates open as s rises.

The embeddings of a task are entries of params, one [width] for each hidden layer, under PREFIX.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from retain.curvature.layers import full_name
from retain.parts.units import Units
from retain.types import Params

PREFIX = "hat."
LIMIT = 6.0  # e stays in [-6, 6]; beyond it a gate would hardly be moved again


def fresh(units: Units, params: Params, task: int, rng: Generator) -> Params:
    """e ~ N(0, 1) for each unit, on the device and in the dtype of the weights."""
    like = params[full_name(units.layers[0], 0)]
    drawn = [torch.randn(w, generator=rng).to(like) for w in units.widths]
    return dict(zip(_names(units, task), drawn, strict=True))


def embeddings(units: Units, params: Params, task: int) -> Params:
    """e of a task, layer by layer; empty if it was never begun."""
    return {k: params[k] for k in _names(units, task) if k in params}


class Annealing(NamedTuple):
    """Where s is on its way up, over and over again while a task is learned."""

    examples: int = 0  # of the task
    steps: int = 0  # done in it
    period: int = 1  # steps of one way up
    s: float = 1.0  # of the step

    def next(self, size: int, steps: int | None, s_max: float) -> Annealing:
        """One step on, with a batch of this size: s = 1 / s_max + (s_max - 1 / s_max) (b - 1) / (B - 1) (eq. 3).

        B is `steps`, or None: an epoch of batches as large as the task's first.
        """
        period = self.period if self.steps else steps or math.ceil(self.examples / size)
        low, b = 1 / s_max, self.steps % period
        s = low + (s_max - low) * b / (period - 1) if period > 1 else s_max
        return Annealing(self.examples, self.steps + 1, period, s)


def soft(e: Params, s: float) -> list[Tensor]:
    """a = sigma(s e), layer by layer (eq. 1)."""
    return [(s * v).sigmoid() for v in e.values()]


def taken(c: float, gates: Sequence[Tensor], used: Sequence[Tensor]) -> Tensor:
    """c sum a (1 - a_past) / sum (1 - a_past), a_past being 1 for used units, and 0 where all are (eq. 5)."""
    free = torch.cat([~u for u in used])
    cost: Tensor = c * (torch.cat(list(gates)) * free).sum() / free.sum().clamp_min(1)
    return cost


def made_up_for(grads: Params, e: Params, s: float, s_max: float) -> Params:
    """`grads` with those of e times s_max (cosh(s e) + 1) / (s (cosh(e) + 1)).

    That is s_max times what they would be if s were 1 (section 2.5); s e is clamped to [-50, 50].
    """
    found = {}
    for k, v in e.items():
        shrunk = (s * v).clamp(-50, 50).cosh() + 1
        found[k] = grads[k] * (s_max / s) * shrunk / (v.cosh() + 1)
    return grads | found


def _names(units: Units, task: int) -> list[str]:
    return [f"{PREFIX}{task}.{layer}" for layer in units.layers[:-1]]
