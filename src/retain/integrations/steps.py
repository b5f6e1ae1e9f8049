"""What a step of somebody else's loop is made of: whether it is one, and of which batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from retain.combine import Chain
from retain.method import GradientMethod, Method
from retain.types import Batch


class Unseen:
    """Stands for the batch where the loop has not shown it, and says so to a method that looks at it."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, field: str) -> Any:
        raise RuntimeError(
            f"{self._name} looks at the batch of each step: write loss = kept.loss(x, y) in place of "
            "criterion(model(x), y)"
        )


def fitting(method: Method[Any]) -> GradientMethod[Any]:
    """The method, if it can act inside somebody else's loop."""
    name = type(method).__name__
    if not isinstance(method, GradientMethod):
        raise TypeError(f"{name} makes its steps itself, so no loop can be put around it: use retain.run")
    if method.data != "task":
        raise ValueError(f"{name} learns from the data of all tasks so far: use retain.run")
    return method


def has_hook(method: GradientMethod[Any], *names: str) -> bool:
    """Whether the method, or one of a chain, makes use of one of these hooks."""
    if isinstance(method, Chain):
        return any(has_hook(m, *names) for m in method.methods)
    return any(getattr(type(method), h) is not getattr(GradientMethod, h) for h in names)


def left_out(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a gradient scaler has found infinities, so that the optimiser will not step.

    Raises:
        RuntimeError: gradients that are still scaled, or that the optimiser takes from a closure.
    """
    if any(a is not None for a in (*args[1:], kwargs.get("closure"))):
        raise RuntimeError(
            "optimizer.step(closure) takes its gradients inside, out of a method's reach: "
            "call backward() before step()"
        )
    found: Tensor | None = getattr(optimizer, "found_inf", None)
    if found is not None and bool(found):
        return True
    if getattr(optimizer, "grad_scale", None) is not None:
        raise RuntimeError(
            "the gradients of a fused optimiser are still scaled: scaler.unscale_(optimizer) comes before "
            "scaler.step(optimizer)"
        )
    return False


def together(batches: tuple[Batch, ...]) -> Batch:
    """Micro-batches as the one batch whose loss is the mean of theirs."""
    weight = None
    if any(b.weight is not None or len(b.y) != len(batches[0].y) for b in batches):
        weight = torch.cat([_weights(b) for b in batches]) / len(batches)
    x, y, task = (torch.cat(parts) for parts in list(zip(*batches, strict=True))[:3])
    return Batch(x, y, task, weight, batches[-1].extra)


def _weights(batch: Batch) -> Tensor:
    return (
        torch.full(batch.task.shape, 1 / len(batch.y)).to(batch.x) if batch.weight is None else batch.weight
    )
