"""Labelled examples as they are stored, and as batches: small in memory, quick to read.

Images stay uint8 for as long as they lie still. What a task does to them (a permutation, a
rotation, padding) is a function of stored rows, applied once by `materialise` or batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Examples:
    """N examples of one task: stored rows, which of them, and how they are to be read.

    >>> e = Examples(torch.tensor([[0], [255]], dtype=torch.uint8), torch.tensor([3, 4]))
    >>> e.batch(torch.tensor([1]))
    (tensor([[1.]]), tensor([4]))
    """

    x: Tensor  # [M, ...] as stored: uint8 (read as x / 255) or float
    y: Tensor  # [M] int64
    rows: Tensor | None = None  # [N] which of the M rows; None: all
    arrange: Callable[[Tensor], Tensor] | None = None  # stored rows -> stored rows, dtype kept
    normalise: tuple[float, float] | None = None  # (mean, sd): read as (x - mean) / sd

    def __len__(self) -> int:
        return len(self.y if self.rows is None else self.rows)

    def stored(self, index: Tensor) -> Tensor:
        """The rows [n, ...] that `index` [n] names, arranged, in the stored dtype."""
        # index_select is three times as fast as x[index], with the same result
        x = self.x.index_select(0, index if self.rows is None else self.rows[index])
        return x if self.arrange is None else self.arrange(x)

    def read(self, x: Tensor) -> Tensor:
        """Stored rows as the floating-point input of a network."""
        if x.dtype == torch.uint8:
            x = torch.div(x, 255)
        if self.normalise is not None:
            x = x.sub(self.normalise[0]).div_(self.normalise[1])
        return x

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, ...] float and y [n] of the examples that `index` [n] names."""
        return self.read(self.stored(index)), self.labels(index)

    def labels(self, index: Tensor | None = None) -> Tensor:
        """y [n] of the examples that `index` names, or of all."""
        if index is None:
            return self.y if self.rows is None else self.y[self.rows]
        return self.y.index_select(0, index if self.rows is None else self.rows[index])

    def subset(self, index: Tensor) -> Examples:
        """Those that `index` [n] names, in its order, sharing the stored rows."""
        return replace(self, rows=index if self.rows is None else self.rows[index])

    def materialise(self, chunk: int = 8192) -> Examples:
        """The same examples with selection and arrangement done once and for all.

        Costs the bytes of `nbytes`, and makes each later batch one gather.
        """
        if self.rows is None and self.arrange is None:
            return self
        out = torch.empty(len(self), *self.shape, dtype=self.x.dtype, device=self.x.device)
        for start in range(0, len(self), chunk):
            part = slice(start, start + chunk)  # rows in their order need no gathering first
            x = self.x[part] if self.rows is None else self.x.index_select(0, self.rows[part])
            out[part].copy_(x if self.arrange is None else self.arrange(x))
        return replace(self, x=out, y=self.labels(), rows=None, arrange=None)

    def to(self, device: torch.device) -> Examples:
        """The same examples on a device, materialised; `index` of a batch must be there, too."""
        done = self.materialise()
        return replace(done, x=done.x.to(device), y=done.y.to(device))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example, as a batch gives it."""
        return tuple(self.stored(self._first()).shape[1:])

    def _first(self) -> Tensor:
        return torch.zeros(1, dtype=torch.int64, device=self.y.device)

    @property
    def parts(self) -> tuple[Examples, ...]:
        """As sets that are each read in one way: itself."""
        return (self,)

    @property
    def nbytes(self) -> int:
        """Bytes that `materialise` would take for x."""
        one = self.stored(self._first())
        return len(self) * one.numel() * one.element_size()

    @property
    def range(self) -> tuple[float, float] | None:
        """What every value of a batch lies in: known for uint8, None for the user's own floats."""
        if self.x.dtype != torch.uint8:
            return None
        mean, sd = self.normalise or (0.0, 1.0)
        return ((0 - mean) / sd, (1 - mean) / sd)


@dataclass(frozen=True, eq=False)
class Union:
    """The examples of several tasks as one set, each read in its own task's way."""

    parts: tuple[Examples, ...]

    def __len__(self) -> int:
        return sum(len(p) for p in self.parts)

    @cached_property
    def ends(self) -> Tensor:
        """Where each part ends: cumulative sizes [parts]."""
        return torch.tensor([len(p) for p in self.parts], device=self.y.device).cumsum(0)

    @cached_property
    def y(self) -> Tensor:
        """All labels [N], part after part."""
        return torch.cat([p.labels() for p in self.parts])

    def materialise(self) -> Union:
        """The same with every part materialised."""
        return Union(tuple(p.materialise() for p in self.parts))

    def to(self, device: torch.device) -> Union:
        """The same with every part on a device."""
        return Union(tuple(p.to(device) for p in self.parts))

    def part_of(self, index: Tensor) -> Tensor:
        """Which of the parts each example [n] comes from."""
        return torch.bucketize(index, self.ends, right=True)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, ...] float and y [n], in the order of `index` [n]."""
        part = self.part_of(index)
        chosen = [(part == k).nonzero()[:, 0] for k in range(len(self.parts))]
        x = torch.cat(
            [
                p.batch(index[where] - (end - len(p)))[0]
                for p, where, end in zip(self.parts, chosen, self.ends, strict=True)
                if len(where)
            ]
        )
        return x[torch.cat(chosen).argsort()], self.labels(index)

    def labels(self, index: Tensor | None = None) -> Tensor:
        """y [n] of the examples that `index` names, or of all."""
        return self.y if index is None else self.y[index]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example, as a batch gives it."""
        return self.parts[0].shape

    @property
    def range(self) -> tuple[float, float] | None:
        """What every value of a batch lies in, where all parts agree on it."""
        ranges = {p.range for p in self.parts}
        return ranges.pop() if len(ranges) == 1 else None
