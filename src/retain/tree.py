"""Arithmetic on Params, fused over tensors, and walks over nested state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from retain.parallel import World
from retain.types import Params


def clone(a: Params, names: Iterable[str] | None = None) -> Params:
    """A copy that shares no memory with `a`, without gradients; of the given entries, or of all."""
    return {k: a[k].detach().clone() for k in (a if names is None else names)}


def add_pull(grads: Params, strength: float, weight: Params, params: Params, moment: Params) -> Params:
    """`grads + strength * (weight * params - moment)`, in place, on the entries of `weight`.

    Tensor by tensor: what the first product has touched is still in the cache for the second.
    """
    for k, W in weight.items():
        grads[k].addcmul_(W, params[k].detach(), value=strength).sub_(moment[k], alpha=strength)
    return grads


def gradients(loss: Tensor, moved: Params) -> Params:
    """The gradient of a scalar by each entry, 0 where it does not depend on it."""
    found = torch.autograd.grad(loss, list(moved.values()), materialize_grads=True)
    return dict(zip(moved, found, strict=True))


def averaged(world: World, grads: Params, loss: Tensor) -> tuple[Params, Tensor]:
    """The mean over the processes of gradients and loss: those of the whole batch."""
    if world.size == 1:
        return grads, loss
    *means, loss = world.mean([*grads.values(), loss])
    return dict(zip(grads, means, strict=True)), loss


def dot(a: Params, b: Params) -> Tensor:
    """Sum over all entries of a of a_i b_i: a scalar."""
    return torch.stack([(a[k] * b[k]).sum() for k in a]).sum()


def flatten(a: Params, names: Iterable[str]) -> Tensor:
    """The named entries end to end: [P]."""
    return torch.cat([a[k].reshape(-1) for k in names])


def unflatten(flat: Tensor, like: Params, names: Iterable[str]) -> Params:
    """The inverse of `flatten`: views of `flat` [..., P] in the shapes of `like`, after its leading axes.

    >>> p = {"w": torch.arange(4.0).view(2, 2), "b": torch.zeros(2)}
    >>> unflatten(flatten(p, p), p, p)["w"].equal(p["w"])
    True
    """
    names = list(names)
    pieces = flat.split([like[k].numel() for k in names], dim=-1)
    return {k: piece.view(flat.shape[:-1] + like[k].shape) for k, piece in zip(names, pieces, strict=True)}


def tensors(tree: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dicts, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from tensors(value)
    elif isinstance(tree, tuple | list):
        for value in tree:
            yield from tensors(value)


def to(tree: Any, device: torch.device) -> Any:
    """A nested state with its tensors on a device."""
    return alike(lambda leaf: leaf[0].to(device) if isinstance(leaf[0], Tensor) else leaf[0], tree)


def alike(make: Callable[[tuple[Any, ...]], Any], *trees: Any) -> Any:
    """Nested states of the same structure as one: each leaf is made of theirs, in order.

    Raises:
        ValueError: their structures differ.

    >>> alike(sum, {"a": (1, 2)}, {"a": (10, 20)})
    {'a': (11, 22)}
    """
    first = trees[0]
    if not isinstance(first, dict | tuple | list):
        return make(trees)
    if any(type(t) is not type(first) or len(t) != len(first) for t in trees):
        raise ValueError(f"states of different structure: {', '.join(type(t).__name__ for t in trees)}")
    if isinstance(first, dict):
        if any(list(t) != list(first) for t in trees):
            raise ValueError(f"states with different entries: {[list(t)[:3] for t in trees]}")
        return {k: alike(make, *(t[k] for t in trees)) for k in first}
    values = [alike(make, *each) for each in zip(*trees, strict=True)]
    return type(first)(*values) if "_fields" in vars(type(first)) else type(first)(values)


def nbytes(tree: Any) -> int:
    """Bytes of all tensors in a nested state."""
    return sum(t.numel() * t.element_size() for t in tensors(tree))
