"""Gradients of many examples or groups at once, put together layer by layer.

For a linear layer out = W x the gradient of example n is delta_n x_n', with delta_n the derivative
of its loss with respect to the layer's output. So one backward pass that stops at the layers'
outputs holds every single-example gradient, and sums or squares of them are one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from retain import tree
from retain.losses import residual
from retain.types import Batch, Layer, Params, Problem

CHECKED = 64  # examples on which it is checked that a layer's gradients are what they are taken for


def deltas(logits: Tensor, layers: dict[str, Layer], grad: Tensor, keep: bool = False) -> dict[str, Tensor]:
    """The derivatives of sum(grad * logits) with respect to each layer's output."""
    if not layers:
        return {}
    outputs = [layer.output for layer in layers.values()]
    # Where a gradient is given to it, torch loads SymPy, half a second of a process: so a sum is differentiated.
    with torch.enable_grad():
        along = (logits * grad).sum()
    found = torch.autograd.grad(along, outputs, retain_graph=keep, allow_unused=True)
    return {
        name: torch.zeros_like(out) if d is None else d
        for name, out, d in zip(layers, outputs, found, strict=True)
    }


def write_gradient(
    layer: Layer, delta: Tensor, rows: slice, weight: Tensor | None, bias: Tensor | None
) -> None:
    """Write a layer's gradient, summed over the examples in `rows`, into these two, where given."""
    x, d = layer.input[rows], delta[rows]
    if not len(x):
        for into in (weight, bias):
            if into is not None:
                into.zero_()
        return
    if layer.kind == "linear":
        x, d = x.flatten(0, -2), d.flatten(0, -2)
    if weight is not None:
        if layer.kind == "linear":
            torch.mm(d.T, x, out=weight)
        else:
            m = layer.module
            assert isinstance(m, nn.Conv2d)
            weight.copy_(conv2d_weight(x, m.weight.shape, d, m.stride, m.padding, m.dilation, m.groups))
    if bias is not None:
        torch.sum(d, (0,) if layer.kind == "linear" else (0, 2, 3), out=bias)


def per_example(layer: Layer, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Weight [N, *W] and bias [N, out] gradients of each example, for layers that share weights.

    (A convolution over its positions, a linear layer over a sequence.)
    """
    if layer.kind == "linear":
        x, d = layer.input.flatten(1, -2), delta.flatten(1, -2)
        return torch.einsum("npo,npi->noi", d, x), d.sum(1)
    m = layer.module
    assert isinstance(m, nn.Conv2d) and not isinstance(m.padding, str)
    x = nnf.unfold(layer.input, m.kernel_size, m.dilation, m.padding, m.stride)
    d = delta.flatten(2)
    weight = torch.einsum("nop,nip->noi", d, x)
    return weight.view(len(x), *m.weight.shape), d.sum(2)


def shares_weights(layer: Layer) -> bool:
    """Whether one example uses the layer's weights at more than one position."""
    return layer.kind == "conv2d" or layer.input.dim() > 2


def covered(problem: Problem, params: Params, x: Tensor, task: Tensor) -> tuple[str, ...]:
    """The layers whose gradients, put together here, equal autograd's on these examples [N, ...].

    A layer whose weights are also used elsewhere (tied, or through a functional call) differs and
    is left out; its parameters then go the slow way. Checked, not assumed, on the first examples: one
    or two might all leave the other use without effect, behind a ReLU say.
    """
    x, task = x[:CHECKED], task[:CHECKED]
    names = list(problem.spec.names)
    leaves = {k: p.detach().requires_grad_(k in names) for k, p in params.items()}
    with torch.enable_grad():
        out = problem.logits(leaves, x, task)
        direction = torch.linspace(-1, 1, out.numel(), dtype=out.dtype, device=out.device).view_as(out)
        along = (out * direction).sum()  # as in `deltas`
        exact = torch.autograd.grad(along, [leaves[k] for k in names], allow_unused=True)
    expected: dict[str, Tensor | None] = dict(zip(names, exact, strict=True))
    logits, layers = problem.trace(params, x, task)
    fitting = []
    for name, delta in deltas(logits, layers, direction).items():
        if _fits(name, layers[name], delta, expected):
            fitting.append(name)
    return tuple(fitting)


def _fits(name: str, layer: Layer, delta: Tensor, expected: dict[str, Tensor | None]) -> bool:
    m = layer.module
    if isinstance(m, nn.Conv2d) and (
        m.groups != 1 or isinstance(m.padding, str) or m.padding_mode != "zeros"
    ):
        return False
    theirs = [expected.get(full_name(name, i)) for i in (0, 1)]
    ours = [None if t is None else torch.zeros_like(t) for t in theirs]
    write_gradient(layer, delta, slice(None), *ours)
    return all(
        a is None or b is None or torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))
        for a, b in zip(ours, theirs, strict=True)
    )


def full_name(layer: str, i: int) -> str:
    """Of a layer's weight (0) or bias (1) in the network's state_dict."""
    kind = ("weight", "bias")[i]
    return f"{layer}.{kind}" if layer else kind


def at_home(layers: Sequence[str], names: Sequence[str]) -> set[str]:
    """Those of the named parameters that belong to the layers."""
    return {full_name(layer, i) for layer in layers for i in (0, 1)} & set(names)


def group_gradients(
    problem: Problem, params: Params, batch: Batch, groups: Sequence[slice], layers: Sequence[str]
) -> Tensor:
    """The gradient of the mean loss of each group of examples, end to end: [groups, P].

    `layers` is what `covered` gave. One forward and one backward pass for all groups if it covers
    every parameter of `spec.names`; otherwise one pass a group. In evaluation mode. Several processes
    share the examples.
    """
    world, n = problem.world, len(batch.y)
    weight = params[problem.spec.names[0]].new_empty(n)
    for g in groups:
        counts = problem.counts(batch.y[g])
        weight[g] = 1 / (g.stop - g.start) if counts is None else (counts / counts.sum()).to(weight)
    if world.size == 1 or n < world.size:
        return _sums(problem, params, batch._replace(weight=weight), groups, layers)
    own = world.rows(n)
    a, b = own.start, own.stop
    part = Batch(batch.x[own], batch.y[own], batch.task[own], weight[own])
    clipped = [slice(min(max(g.start, a), b) - a, min(max(g.stop, a), b) - a) for g in groups]
    return world.total([_sums(problem, params, part, clipped, layers)])[0]


def _sums(
    problem: Problem, params: Params, batch: Batch, groups: Sequence[slice], layers: Sequence[str]
) -> Tensor:
    """The gradient of the weighted loss of each group's examples: [groups, P]; 0 for an empty one."""
    names = problem.spec.names
    if len(at_home(layers, names)) < len(names):
        return torch.stack([_one_group(problem, params, batch, g) for g in groups])
    logits, traced = problem.trace(params, batch.x, batch.task)
    assert batch.weight is not None
    r = residual(problem, logits.detach(), batch.y, batch.task)
    delta = deltas(logits, {k: traced[k] for k in layers}, r * batch.weight[:, None])
    G = logits.new_empty(len(groups), sum(params[n].numel() for n in names))
    into, alike = tree.unflatten(G, params, names), _alike(groups, len(batch.y))
    for k in layers:
        weight, bias = into.get(full_name(k, 0)), into.get(full_name(k, 1))
        if alike and traced[k].kind == "linear":
            _write_all(traced[k], delta[k], len(groups), weight, bias)
            continue
        for i, g in enumerate(groups):
            here = (None if t is None else t[i] for t in (weight, bias))
            write_gradient(traced[k], delta[k], g, *here)
    return G


def _alike(groups: Sequence[slice], examples: int) -> bool:
    """Whether they are of one size, follow one another, and are all the examples."""
    n = examples // max(len(groups), 1)
    return n > 0 and list(groups) == [slice(i, i + n) for i in range(0, examples, n)]


def _write_all(layer: Layer, delta: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None) -> None:
    """`write_gradient` of a linear layer for all groups [groups, ...] at once, which must be alike."""
    x, d = (t.reshape(groups, -1, t.shape[-1]) for t in (layer.input, delta))
    if weight is not None:
        torch.bmm(d.transpose(1, 2), x, out=weight)
    if bias is not None:
        torch.sum(d, 1, out=bias)


def _one_group(problem: Problem, params: Params, batch: Batch, group: slice) -> Tensor:
    names, weight = problem.spec.names, batch.weight
    assert weight is not None
    if group.start == group.stop:
        return torch.zeros_like(tree.flatten(params, names))
    leaves = {k: p.detach().requires_grad_(k in names) for k, p in params.items()}
    part = Batch(batch.x[group], batch.y[group], batch.task[group])
    with torch.enable_grad():
        loss = weight[group] @ problem.losses(leaves, part, train=False)
    return tree.flatten(tree.gradients(loss, {n: leaves[n] for n in names}), names)
