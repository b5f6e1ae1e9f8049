"""Inner products of single examples' gradients, without the gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from retain.curvature.layers import at_home, deltas, full_name, group_gradients, per_example, shares_weights
from retain.losses import residual
from retain.types import Batch, Params, Problem


def gradient_products(problem: Problem, params: Params, batch: Batch, layers: Sequence[str]) -> Tensor:
    """[N, N]: g_i . g_j, with g_i the gradient of the loss of example i alone, in evaluation mode.

    `layers` is what `covered` gave. A linear layer's gradients are delta_i x_i', so that their product is
    (delta_i . delta_j)(x_i . x_j), and no gradient [P] is ever formed, if the layers hold every parameter.
    """
    names = problem.spec.names
    home = at_home(layers, names)
    if len(home) < len(names):
        G = group_gradients(problem, params, batch, [slice(i, i + 1) for i in range(len(batch.y))], layers)
        return G @ G.T
    logits, traced = problem.trace(params, batch.x, batch.task)
    r = residual(problem, logits.detach(), batch.y, batch.task)
    K = torch.zeros(len(r), len(r), dtype=r.dtype, device=r.device)
    for name, delta in deltas(logits, {k: traced[k] for k in layers}, r).items():
        layer = traced[name]
        has_weight, has_bias = (full_name(name, i) in home for i in (0, 1))
        if shares_weights(layer):
            weight, bias = (g.flatten(1) for g in per_example(layer, delta))
            K += has_weight * (weight @ weight.T) + has_bias * (bias @ bias.T)
        else:
            K += (delta @ delta.T) * (has_weight * (layer.input @ layer.input.T) + has_bias)
    return K
