"""What the layers of a network take in, as matrices, for methods that keep steps out of a subspace.

A linear layer computes W x + b = [W b] [x; 1], and so does a convolution at each of its positions, x
then being the patch under its kernel. So a step of [W b] that is orthogonal to [x; 1] leaves what the
layer gives for x as it is, bias included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from retain.curvature.layers import at_home, full_name
from retain.types import Layer, Params


def plain(layers: Mapping[str, Layer], names: Iterable[str]) -> dict[str, Layer]:
    """The traced layers whose weight is among `names` and that are one matrix applied to patches.

    (Left out: grouped convolutions, and padding that is not a number of zeros.)
    """
    names = set(names)
    return {k: v for k, v in layers.items() if full_name(k, 0) in names and _one_matrix(v.module)}


def _one_matrix(m: nn.Module) -> bool:
    if not isinstance(m, nn.Conv2d):
        return True
    return m.groups == 1 and m.padding_mode == "zeros" and not isinstance(m.padding, str)


def patches(layer: Layer, bias: bool) -> Tensor:
    """[N, L, D]: what a `plain` layer takes in at each of its L positions; with `bias` the last entry is 1."""
    m, x = layer.module, layer.input
    if isinstance(m, nn.Conv2d):
        assert not isinstance(m.padding, str)
        x = nnf.unfold(x, m.kernel_size, m.dilation, m.padding, m.stride).transpose(1, 2)
    else:
        x = x.reshape(len(x), -1, x.shape[-1])
    return torch.cat([x, x.new_ones(*x.shape[:2], 1)], 2) if bias else x


Map = Callable[[Tensor], Tensor]
"""A step [out, D] of a layer's [W b], or its gradient, as it may be: linear, applied to the rows."""


def through(steps: Params, maps: Mapping[str, Map]) -> Params:
    """Steps with each layer's [W b] sent through its map, and 0 for entries that belong to none.

    (Nothing is known of what a step of theirs would do to the past.)
    """
    home = at_home(tuple(maps), tuple(steps))
    new = {k: torch.zeros_like(step) for k, step in steps.items() if k not in home}
    for layer, map_ in maps.items():
        names = [k for k in (full_name(layer, 0), full_name(layer, 1)) if k in home]
        parts = [steps[k].flatten(1) if steps[k].dim() > 1 else steps[k][:, None] for k in names]
        mapped = map_(torch.cat(parts, 1)).split([p.shape[1] for p in parts], 1)
        # torch's fused optimisers read a gradient's memory as if it were contiguous, without a word
        new |= {k: m.reshape(steps[k].shape).contiguous() for k, m in zip(names, mapped, strict=True)}
    return new


def replace_steps(params: Params, before: Params, maps: Mapping[str, Map]) -> None:
    """Send the step that the entries of `before` have taken through the maps, in place."""
    for k, step in through({k: params[k] - b for k, b in before.items()}, maps).items():
        params[k].copy_(before[k] + step)
