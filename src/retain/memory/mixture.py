"""New examples and replayed ones as one batch."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor

from retain.types import Batch

Rows = tuple[Tensor, Tensor, Tensor]
"""x [n, ...], y [n] and task [n] of examples that are kept."""


def joined(old: Rows | None, new: Batch) -> Rows:
    """These examples behind those kept before."""
    if old is None:
        return new.x, new.y, new.task
    return torch.cat((old[0], new.x)), torch.cat((old[1], new.y)), torch.cat((old[2], new.task))


def beside(new: Batch, old: Batch, k: int | None = None) -> Batch:
    """Both, end to end. With k, new examples count 1/k together and old ones 1 - 1/k; else all alike.

    Labels [N] beside target probabilities [N, C] become one-hot targets.

    Raises:
        ValueError: the new batch has weights or extras, which have no meaning for the old examples.
    """
    return _joined([new, old]) if k is None else mixed((new, 1 / k), (old, 1 - 1 / k))


def mixed(*parts: tuple[Batch, float]) -> Batch:
    """All parts, end to end, with the mean loss of each counting as much as its number says.

    Raises:
        ValueError: a part has weights or extras already.
    """
    both = _joined([b for b, _ in parts])
    sizes = torch.tensor([len(b.y) for b, _ in parts], device=both.x.device)
    share = both.x.new_tensor([w / len(b.y) for b, w in parts])
    return both._replace(weight=share.repeat_interleave(sizes))


def _joined(parts: list[Batch]) -> Batch:
    if any(b.weight is not None or b.extra for b in parts):
        raise ValueError(
            "replay cannot be added to a batch that another method has already weighted or extended: in a "
            "chain put methods that replay plain examples first, and at most one that weights them"
        )
    soft = [b.y for b in parts if b.y.dim() > 1]
    y = [nnf.one_hot(b.y, soft[0].shape[1]).to(soft[0]) if soft and b.y.dim() == 1 else b.y for b in parts]
    return Batch(torch.cat([b.x for b in parts]), torch.cat(y), torch.cat([b.task for b in parts]))
