"""What a task does to stored images [n, C, H, W]: each a function of rows that keeps their dtype."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as nnf
from torch import Tensor

Arrange = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Pad:
    """Zeros on all four sides, `width` pixels wide."""

    width: int

    def __call__(self, x: Tensor) -> Tensor:
        """[n, C, H, W] -> [n, C, H + 2 width, W + 2 width]."""
        return nnf.pad(x, [self.width] * 4)


@dataclass(frozen=True, eq=False)
class Permute:
    """Pixel `order[i]` of the image goes to place i, in every image the same."""

    order: Tensor  # int64 [C * H * W]

    def __call__(self, x: Tensor) -> Tensor:
        """[n, C, H, W] -> the same shape."""
        # gather is 2.5 times as fast as index_select along columns, and as fast as NumPy's take
        return x.flatten(1).gather(1, self.order.expand(len(x), -1)).view_as(x)


@dataclass(frozen=True, eq=False)
class Rotate:
    """Turned counter-clockwise about the centre: bilinear, zeros from outside, rounded to uint8."""

    degrees: float
    side: int  # H = W

    @cached_property
    def grid(self) -> Tensor:
        """Where each pixel comes from, as `grid_sample` wants it: [1, H, W, (column, row)]."""
        turn, reach = math.radians(self.degrees), (self.side - 1) / 2
        across = torch.linspace(-1, 1, self.side, dtype=torch.float64) * reach
        row, column = torch.meshgrid(across, across, indexing="ij")
        from_column = math.cos(turn) * column - math.sin(turn) * row
        from_row = math.sin(turn) * column + math.cos(turn) * row
        return (torch.stack([from_column, from_row], -1) / reach)[None].to(torch.float32)

    def __call__(self, x: Tensor) -> Tensor:
        """Uint8 [n, C, H, W] -> uint8 of the same shape."""
        grid = self.grid.expand(len(x), -1, -1, -1)
        return nnf.grid_sample(x.to(torch.float32), grid, align_corners=True).round_().to(torch.uint8)


@dataclass(frozen=True, eq=False)
class Then:
    """The first, and then the second."""

    first: Arrange
    second: Arrange

    def __call__(self, x: Tensor) -> Tensor:
        """Stored rows -> stored rows."""
        return self.second(self.first(x))


def noisy(x: Tensor, noise: float, rng: torch.Generator, chunk: int = 4096) -> Tensor:
    """A copy of uint8 images, to each pixel added a number uniform in [0, noise], clamped to [0, 1]."""
    out = torch.empty_like(x)
    for here, there in zip(torch.split(x, chunk), torch.split(out, chunk), strict=True):
        added = torch.rand(here.shape, generator=rng, dtype=torch.float32).mul_(255 * noise)
        there.copy_(added.add_(here).round_().clamp_(max=255))
    return out
