"""New examples and replayed ones as one batch."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf

from retain.types import Batch


def beside(new: Batch, old: Batch, k: int | None = None) -> Batch:
    """Both, end to end. With k, new examples count 1/k together and old ones 1 - 1/k; else all alike.

    Labels [N] beside target probabilities [N, C] become one-hot targets.

    Raises:
        ValueError: the new batch has weights or extras, which have no meaning for the old examples.
    """
    if new.weight is not None or new.extra:
        raise ValueError(
            "replay cannot be added to a batch that another method has already weighted or extended: in a "
            "chain put methods that replay plain examples first, and at most one that weights them"
        )
    y = new.y
    if old.y.dim() > y.dim():
        y = nnf.one_hot(y, old.y.shape[1]).to(old.y)
    weight = None
    if k is not None:
        share = new.x.new_tensor([1 / k / len(new.y), (1 - 1 / k) / len(old.y)])
        weight = share.repeat_interleave(torch.tensor([len(new.y), len(old.y)], device=share.device))
    x, task = torch.cat([new.x, old.x]), torch.cat([new.task, old.task])
    return Batch(x, torch.cat([y, old.y]), task, weight)
