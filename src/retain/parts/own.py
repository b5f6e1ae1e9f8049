"""What a task keeps for itself, what may no longer move, and one task at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from retain import tree
from retain.curvature.layers import full_name
from retain.types import HIDDEN, Batch, Layer, Params, Problem

Held = dict[str, Tensor | None]
"""What may not move: entries by their names, where a mask is true, or whole (None)."""


def head_of(problem: Problem, params: Params) -> tuple[str, dict[str, Layer]]:
    """The name of the layer that gives the logits, and all traced layers in the order of the pass.

    Raises:
        ValueError: the logits are not what the last linear layer gives.
    """
    logits, layers = problem.trace(params, *probe(problem))
    last = next(reversed(layers), None)
    if last is None or layers[last].kind != "linear" or not torch.equal(layers[last].output, logits):
        raise ValueError("the network's logits [N, C] must be what its last linear layer gives")
    return last, layers


def of_each_task(problem: Problem, params: Params, head: str) -> tuple[str, ...]:
    """Entries that every task keeps for itself: the head, and the buffers (running statistics)."""
    parts = (full_name(head, 0), full_name(head, 1))
    return (*(k for k in parts if k in problem.spec.names), *buffers(problem, params))


def buffers(problem: Problem, params: Params) -> tuple[str, ...]:
    """The entries that training steps move without a gradient: running statistics."""
    names = set(problem.spec.names)
    return tuple(
        k for k, p in params.items()
        if not (k in names or p.requires_grad or isinstance(p, nn.Parameter))
    )  # fmt: skip


def hold(params: Params, before: Params | None, held: Held) -> None:
    """Put back, in place, what a step has moved: of what is held."""
    assert before is not None  # it is cloned for every method that has an `after_step`
    for k, mask in held.items():
        p = params[k]
        p.copy_(before[k] if mask is None else torch.where(mask, before[k], p))


def without(grads: Params, held: Held) -> Params:
    """Gradients with 0 for what `hold` would put back."""
    zeroed = {
        k: torch.zeros_like(grads[k]) if mask is None else grads[k].masked_fill(mask, 0)
        for k, mask in held.items()
    }
    return grads | zeroed


def step_without(
    problem: Problem, params: Params, batch: Batch, held: Held, update: Callable[[Params, Params], Params]
) -> Params:
    """One step on a batch in which what is held does not move, in evaluation mode."""
    before = tree.clone(params, held)
    moved = {k: params[k].detach().requires_grad_() for k in problem.spec.names}
    with torch.enable_grad():
        loss = problem.loss(params | moved, batch, train=False)
    grads = {k: torch.zeros_like(p) for k, p in params.items()} | tree.gradients(loss, moved)
    params = update(params, without(grads, held))
    hold(params, before, held)
    return params


def one_task(task: Tensor) -> int:
    """The number that all of `task` [N] share.

    Raises:
        ValueError: they are of several tasks.
    """
    index = int(task[0])
    if bool((task != index).any()):
        found = task.unique().tolist()
        raise ValueError(f"a network with parts of its own for each task learns one at a time, got {found}")
    return index


def by_task(run: Callable[[Tensor, Tensor], Tensor], x: Tensor, task: Tensor) -> Tensor:
    """Logits [N, C] of inputs [N, ...] from `run(x, task)`, which is asked for one task at a time."""
    found = task.unique().tolist()
    if len(found) < 2:
        return run(x, task)
    rows = [(task == t).nonzero()[:, 0] for t in found]
    return torch.cat([run(x[r], task[r]) for r in rows])[torch.cat(rows).argsort()]


def probe(problem: Problem, n: int = 4) -> tuple[Tensor, Tensor]:
    """Some inputs [n, ...] and their task numbers, to see what a network does; always the same."""
    spec = problem.spec
    x = torch.randn(n, *spec.shape, generator=torch.Generator().manual_seed(0), dtype=spec.dtype)
    return x.to(spec.device), torch.full((n,), HIDDEN, device=spec.device)
