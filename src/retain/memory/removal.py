"""Taking examples out of what a method keeps, as if they had never been kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from retain.memory.balanced import Balanced
from retain.memory.dark import Dark
from retain.memory.herding import Exemplars
from retain.memory.reservoir import Reservoir
from retain.memory.ring import Ring
from retain.memory.slots import Slots
from retain.types import Batch

Gone = Callable[[Batch], Tensor]
"""Which of the examples x [N, ...], y [N], task [N] are to go: bool [N]."""


def without(state: Any, gone: Gone) -> tuple[Any, int]:
    """A method's state less the examples in its memories that `gone` names, and how many went.

    Room that becomes free is filled by what is learned next. Tensors that are not part of a memory stay as
    they are: statistics, generators and weights are not touched.
    """
    if isinstance(state, Reservoir):
        slots, keep, n = _slots(state.slots, gone)
        # As if it had seen just these: it fills up before it replaces any again.
        return (Reservoir(slots, len(keep)), n) if n else (state, 0)
    if isinstance(state, Ring):
        slots, keep, n = _slots(state.slots, gone)
        return (Ring(slots, len(keep)), n) if n else (state, 0)
    if isinstance(state, Balanced):
        return _balanced(state, gone)
    if isinstance(state, Dark):
        slots, keep, n = _slots(state.reservoir.slots, gone)
        if not n:
            return state, 0
        z = _front(state.z, keep)
        return Dark(Reservoir(slots, len(keep)), z, state.slot.new_zeros(0)), n
    if isinstance(state, Exemplars):
        return _exemplars(state, gone)
    if isinstance(state, Slots):
        slots, _, n = _slots(state, gone)
        return slots, n
    return _inside(state, gone)


def _inside(state: Any, gone: Gone) -> tuple[Any, int]:
    """The same, of whatever holds memories."""
    if isinstance(state, dict):
        done = {k: without(v, gone) for k, v in state.items()}
        return {k: v for k, (v, _) in done.items()}, sum(n for _, n in done.values())
    if isinstance(state, tuple | list):
        parts = [without(v, gone) for v in state]
        values, n = [v for v, _ in parts], sum(n for _, n in parts)
        return (type(state)(*values) if "_fields" in vars(type(state)) else type(state)(values)), n
    return state, 0


def _slots(slots: Any, gone: Gone) -> tuple[Slots, Tensor, int]:
    """The slots with what stays at the front; which rows stay [n]; how many went."""
    if not isinstance(slots, Slots):
        raise ValueError("a memory in a file cannot be searched for examples to remove: keep it in RAM")
    out = gone(slots.all())
    keep = (~out).nonzero()[:, 0]
    n = int(out.sum())
    if n == 0:
        return slots, keep, 0
    x, y, task = (_front(t, keep) for t in (slots.x, slots.y, slots.task))
    return Slots(x, y, task, len(keep)), keep, n


def _front(t: Tensor, keep: Tensor) -> Tensor:
    """These rows first, and zeros where the others were: nothing of them stays in memory."""
    out = torch.zeros_like(t)
    out[: len(keep)] = t[keep]
    return out


def _balanced(state: Balanced, gone: Gone) -> tuple[Balanced, int]:
    slots, keep, n = _slots(state.slots, gone)
    if n == 0:
        return state, 0
    group, born = _front(state.group, keep), _front(state.born, keep)
    born[: len(keep)] = born[: len(keep)].argsort().argsort()  # numbered anew: fewer were seen now
    left = {str(g) for g in group[: len(keep)].tolist()}
    seen = {g: k for g, k in state.seen.items() if g in left}
    return Balanced(slots, group, born, seen, state.newest), n


def _exemplars(state: Exemplars, gone: Gone) -> tuple[Exemplars, int]:
    out = gone(state.all()) if len(state.y) else torch.zeros(0, dtype=torch.bool)
    n = int(out.sum())
    if n == 0:
        return state, 0
    parts = (~out).split(state.sizes)
    sizes = tuple(int(p.sum()) for p in parts if bool(p.any()))
    keep = ~out
    return state._replace(
        x=state.x[keep].clone(), y=state.y[keep].clone(), task=state.task[keep].clone(), sizes=sizes
    ), n
