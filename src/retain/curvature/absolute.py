"""How much the outputs depend on each parameter: absolute gradients of single examples, not of batches.

Their mean is not the absolute value of a mean gradient, in which examples cancel each other.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from retain.curvature.diagonal import covered_by, one_by_one, portions, some
from retain.curvature.layers import at_home, deltas, full_name, per_example, shares_weights
from retain.examples import Examples, Union
from retain.types import Params, Problem


def sensitivity(
    problem: Problem, params: Params, examples: Examples | Union, task: int, rng: Generator,
    n: int | None = None, batch_size: int = 256,
) -> Params:  # fmt: skip
    """The mean over examples x of |d ||f(x)||^2 / d p_i|, entry for entry of `spec.names`.

    f(x) are the logits of the classes in play, in evaluation mode; no label is used. (Aljundi et al.
    2018, eq. 3 with the squared norm.)

    Args:
        problem: model and classes in play.
        params: where to take it; running statistics are not changed.
        examples: over which the mean is taken.
        task: their task's number, or HIDDEN.
        rng: draws the n examples.
        n: how many examples, drawn without replacement; None or more than there are: all.
        batch_size: examples at a time; changes speed and memory, not the result.

    Raises:
        ValueError: no examples.
    """
    if len(examples) == 0:
        raise ValueError("the sensitivity of no examples is not defined")
    chosen = some(examples, n, rng)
    total = {k: torch.zeros_like(params[k]) for k in problem.spec.names}
    layers = covered_by(problem, params, examples, task, chosen)
    for x, _, tasks in portions(problem, examples, task, chosen.split(batch_size)):
        _add_absolutes(problem, params, x, tasks, layers, total)
    return {k: t.div_(len(chosen)) for k, t in total.items()}


def _add_absolutes(
    problem: Problem, params: Params, x: Tensor, tasks: Tensor, layers: tuple[str, ...], total: Params
) -> None:
    """Add |gradient| of every single example to `total`."""
    home = at_home(layers, problem.spec.names)
    rest = [k for k in problem.spec.names if k not in home]
    logits, traced = problem.trace(params, x, tasks)
    in_play = problem.allowed(tasks)
    v = 2 * logits.detach()  # d ||f||^2 / d f
    v = v if in_play is None else v * in_play
    for name, delta in deltas(logits, {k: traced[k] for k in layers}, v).items():
        layer = traced[name]
        weight, bias = (full_name(name, i) for i in (0, 1))
        if shares_weights(layer):
            for full, g in zip((weight, bias), per_example(layer, delta), strict=True):
                if full in home:
                    total[full] += g.abs().sum(0)
            continue
        if weight in home:  # |delta x'| = |delta| |x|'
            total[weight].addmm_(delta.abs().T, layer.input.abs())
        if bias in home:
            total[bias] += delta.abs().sum(0)
    if rest:
        for k, g in one_by_one(problem, params, x, tasks, v, rest).items():
            total[k] += g.abs().sum(0)
