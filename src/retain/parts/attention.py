"""Hard attention to the task (Serra et al. 2018): embeddings e of hidden units, whose gates open as s rises.

The embeddings of a task are entries of params, one [width] for each hidden layer, under PREFIX.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from retain.parts.units import Units
from retain.types import Params, Problem

PREFIX = "hat."
LIMIT = 6.0  # e stays in [-6, 6]; beyond it a gate would hardly be moved again


def fresh(problem: Problem, units: Units, task: int, rng: Generator) -> Params:
    """e ~ N(0, 1) for each unit."""
    spec = problem.spec
    drawn = [torch.randn(w, generator=rng).to(spec.device, spec.dtype) for w in units.widths]
    return dict(zip(_names(units, task), drawn, strict=True))


def embeddings(units: Units, params: Params, task: int) -> Params:
    """e of a task, layer by layer; empty if it was never begun."""
    return {k: params[k] for k in _names(units, task) if k in params}


def annealed(b: int, period: int, s_max: float) -> float:
    """1 / s_max + (s_max - 1 / s_max) b / (period - 1): from 1 / s_max to s_max as b goes from 0 (eq. 3)."""
    low = 1 / s_max
    return low + (s_max - low) * b / (period - 1) if period > 1 else s_max


def taken(c: float, gates: Sequence[Tensor], used: Sequence[Tensor]) -> Tensor:
    """c sum a (1 - a_past) / sum (1 - a_past), a_past being 1 for used units, and 0 where all are (eq. 5)."""
    free = torch.cat([~u for u in used])
    cost: Tensor = c * (torch.cat(list(gates)) * free).sum() / free.sum().clamp_min(1)
    return cost


def made_up_for(grads: Params, e: Params, s: float, s_max: float) -> Params:
    """`grads` with those of e times s_max (cosh(s e) + 1) / (s (cosh(e) + 1)): as if s were 1 (section 2.5)."""
    found = {}
    for k, v in e.items():
        shrunk = (s * v).clamp(-50, 50).cosh() + 1
        found[k] = grads[k] * (s_max / s) * shrunk / (v.cosh() + 1)
    return grads | found


def _names(units: Units, task: int) -> list[str]:
    return [f"{PREFIX}{task}.{layer}" for layer in units.layers[:-1]]
