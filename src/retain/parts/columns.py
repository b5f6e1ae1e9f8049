"""Networks of one architecture side by side, the newer reading what the older compute.

Column k adds to what each of its layers gives sum_(j<k) U^(k:j) h^j, with h^j what the same layer takes in in
column j, and U^(k:j) of the kind of the layer itself: a matrix, or a convolution's kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from retain.curvature.layers import full_name
from retain.types import Layer, Params, Problem


def laterals(params: Params, layers: Sequence[str], k: int) -> Params:
    """U = 0 of column k for each layer, the older columns side by side: [out, k * in, ...]."""
    entries = {}
    for layer in layers:
        W = params[full_name(layer, 0)].detach()
        entries[layer] = W.new_zeros(len(W), k * W.shape[1], *W.shape[2:])
    return entries


def run(
    problem: Problem, columns: Sequence[Params], U: Sequence[Params], x: Tensor, task: Tensor, train: bool
) -> Tensor:
    """Logits [N, C] of the last column for inputs [N, ...]; U [columns] is what each reads of those before.

    The older ones run in evaluation mode and without a graph.
    """
    if len(columns) == 1:
        return problem.logits(columns[0], x, task, train)
    with torch.no_grad():
        _, traced = problem.trace(columns[0], x, task)
        taken = {name: [traced[name].input] for name in U[0]}
        for column, u in zip(columns[1:-1], U[1:-1], strict=True):
            with _reading(u, traced, taken):
                problem.logits(column, x, task)
    with _reading(U[-1], traced, taken):
        return problem.logits(columns[-1], x, task, train)


def _reading(U: Params, traced: dict[str, Layer], taken: dict[str, list[Tensor]]) -> ExitStack:
    """While it is open the layers add what they read of older columns, and note what they take in."""
    stack = ExitStack()
    for name, older in taken.items():
        stack.callback(traced[name].module.register_forward_hook(_hook(U[name], older)).remove)
    return stack


def _hook(U: Tensor, older: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(m: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if isinstance(m, nn.Conv2d):
            read = nnf.conv2d(torch.cat(older, 1), U, None, m.stride, m.padding, m.dilation)
        else:
            read = nnf.linear(torch.cat(older, -1), U)
        older.append(args[0].detach())
        return output + read

    return hook
