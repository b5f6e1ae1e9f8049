"""Gates on hidden units.

A unit is an output of a hidden linear layer or a channel of a convolution. To multiply it by a gate is
to scale the columns of the next layer's weight that read it: exact, whatever activation, pooling,
dropout or normalisation of single units lies between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from retain.curvature.layers import at_home, full_name
from retain.parts.own import Held, head_of, probe
from retain.types import Params, Problem

NO_CHAIN = (
    "gates on units need a network whose linear and conv2d layers form one chain (no skip connection, and "
    "between them only what treats each unit by itself)"
)


class Units(NamedTuple):
    """The layers of a chain in order, and how many units each hidden one has."""

    layers: tuple[str, ...]  # the head last
    widths: tuple[int, ...]  # one fewer than layers

    @classmethod
    def of(cls, problem: Problem, params: Params) -> Units:
        """The units of a network.

        Raises:
            ValueError: its layers form no chain, or its logits are not what the last linear layer gives.
        """
        head, layers = head_of(problem, params)
        if len(layers) < 2:
            raise ValueError(f"{NO_CHAIN} with a hidden layer; this one has none")
        names = (*(k for k in layers if k != head), head)
        widths = tuple(len(params[full_name(k, 0)]) for k in names[:-1])
        units = cls(names, widths)
        for w, b in zip(widths, names[1:], strict=True):
            m = layers[b].module
            if params[full_name(b, 0)].shape[1] % w or (isinstance(m, nn.Conv2d) and m.groups != 1):
                raise ValueError(f"{NO_CHAIN}; {b!r} does not fit the {w} units before it")
        _check_chain(problem, params, units)
        return units

    def gate(self, params: Params, gates: Sequence[Tensor]) -> Params:
        """Params with the units of each hidden layer multiplied by its gates [width]."""
        scaled = {}
        for name, g in zip(self.layers[1:], gates, strict=True):
            weight = params[full_name(name, 0)]
            scaled[full_name(name, 0)] = weight * self.columns(weight, g.to(weight))
        return params | scaled

    @staticmethod
    def columns(weight: Tensor, g: Tensor) -> Tensor:
        """Gates [width] of the units before a layer as a factor on its weight's columns: [1, in, 1...]."""
        g = g.repeat_interleave(weight.shape[1] // len(g))  # a flattened channel is one block of inputs
        return g.view(1, -1, *[1] * (weight.dim() - 2))

    def held(self, problem: Problem, params: Params, used: Sequence[Tensor]) -> Held:
        """What may not move for used units (as in `between`) to stay as they are, and all that belongs to no unit."""
        names = problem.spec.names
        held: Held = dict.fromkeys(set(names) - at_home(self.layers, names))
        return held | {k: m for k, m in self.between(params, used).items() if k in names}

    def between(self, params: Params, used: Sequence[Tensor]) -> Params:
        """True for the weights between used units (bool [width] for each hidden layer), and for their biases.

        What the first layer takes in counts as used; the head is left out.
        """
        masks: Params = {}
        before: Tensor | None = None
        for layer, out in zip(self.layers, used, strict=False):
            weight = params[full_name(layer, 0)]
            mask = out.view(-1, *[1] * (weight.dim() - 1)).expand_as(weight)
            masks[full_name(layer, 0)] = mask if before is None else mask & self.columns(weight, before)
            masks[full_name(layer, 1)] = out
            before = out
        return masks


def _check_chain(problem: Problem, params: Params, units: Units) -> None:
    """With half of the units shut, the weights into these must not matter: checked, not assumed."""
    x, task = probe(problem)
    rng = torch.Generator().manual_seed(1)
    gates = [(torch.randperm(w, generator=rng) < (w + 1) // 2).to(x.device) for w in units.widths]
    here, there = dict(params), dict(params)
    for name, g in zip(units.layers, (*gates, None), strict=True):
        weight = params[full_name(name, 0)].detach()
        noise = torch.randn(2, *weight.shape, generator=rng, dtype=weight.dtype).to(weight)
        one, two = noise / weight[0].numel() ** 0.5
        here[full_name(name, 0)] = weight + one  # a layer that begins at zero would let nothing be seen
        shut = 0 if g is None else ~g.view(-1, *[1] * (weight.dim() - 1))
        there[full_name(name, 0)] = weight + one + two * shut
    with torch.no_grad():
        a, b = (problem.logits(units.gate(p, gates), x, task) for p in (here, there))
    if not torch.allclose(a, b, rtol=1e-4, atol=1e-5):
        raise ValueError(f"{NO_CHAIN}; shut units of this one still reach its logits")
