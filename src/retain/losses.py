"""What the losses have in common: the targets they take, and their derivatives by the network's outputs f [N, C].

| loss | an example's loss l | d l / d f_c | d^2 l / d f_c^2 | a target is drawn from |
| --- | --- | --- | --- | --- |
| cross-entropy | -log p_y | p_c - [c = y] | p_c (1 - p_c), and -p_c p_d | the soft-max p |
| binary | mean over outputs of -log of p_c or 1 - p_c | (p_c - y_c) / C | p_c (1 - p_c) / C | each p_c apart |
| squared | mean over outputs of (f_c - y_c)^2 / 2 | (f_c - y_c) / C | 1 / C | N(f_c, 1) |

The last two are 1/C of minus a log-likelihood, log p(y | x) = -C l. So is their Fisher here 1/C of its own, and it
is the Gauss-Newton matrix of the loss, whatever C is (Martens 2020, arXiv:1412.1193, section 9).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor

from retain.types import Loss, Problem, probabilities

Labels = Literal["exact", "sampled", "true", "argmax"]
Directions = Iterator[tuple[Tensor, Tensor]]


def with_fisher(labels: Labels) -> tuple[Loss, ...]:
    """The losses that have a Fisher of such labels; of the squared one the likeliest target is f itself."""
    return tuple(x for x in get_args(Loss) if (x, labels) != ("squared", "argmax"))


def check_targets(loss: Loss, y: Tensor, outputs: int) -> None:
    """Raise ValueError where targets are not what a loss of so many outputs takes: kind and shape, no values."""
    if loss == "cross-entropy":
        return  # what it takes is checked by torch itself, and broadcasts nothing
    if not y.is_floating_point() or y.dim() != 2 or y.shape[1] != outputs:
        fix = "y[:, None]" if y.dim() == 1 and outputs == 1 else "y.float() in that shape"
        raise ValueError(
            f"loss {loss} takes targets of floating point [N, {outputs}], one for each output of the model; "
            f"got {y.dtype} [{', '.join(['N', *map(str, y.shape[1:])])}]: give {fix}"
        )


def check_values(loss: Loss, y: Tensor) -> None:
    """Raise ValueError at the first target that a loss has no meaning for: not in [0, 1], or not finite."""
    if loss == "cross-entropy":
        return
    bad = ~((y >= 0) & (y <= 1)) if loss == "binary" else ~y.isfinite()
    if bool(bad.any()):
        row, column = bad.nonzero()[0].tolist()
        rule = "0, 1 or a probability between" if loss == "binary" else "finite"
        raise ValueError(
            f"targets of loss {loss} must be {rule}: example {row} has {float(y[row, column])} for output {column}"
        )


def checked_weights(w: Tensor, like: Tensor, outputs: int) -> Tensor:
    """Class weights [C] on the device and in the dtype of the parameter `like`; ValueError if they are none."""
    if w.shape != (outputs,) or not w.is_floating_point() or not bool((w.isfinite() & (w >= 0)).all()):
        raise ValueError(
            f"class_weights must be {outputs} finite floats >= 0, one for each output of the model, got "
            f"{w.dtype} {list(w.shape)}: {w.flatten()[:10].tolist()}"
        )
    return w.to(like.device, like.dtype)


def classes_of(y: Tensor) -> Tensor:
    """int64 [N]: the labels; targets [N, C], which name no class, are all of one."""
    return y if y.dim() == 1 else y.new_zeros(len(y), dtype=torch.int64)


def residual(problem: Problem, logits: Tensor, y: Tensor, task: Tensor) -> Tensor:
    """The derivative [N, C] of each example's loss by its outputs, with labels [N] or targets [N, C]."""
    p = problem.answers(logits, problem.allowed(task))
    if problem.objective == "cross-entropy":
        return p - (nnf.one_hot(y, p.shape[1]) if y.dim() == 1 else y)
    return (p - y) / p.shape[1]


def directions(
    problem: Problem, logits: Tensor, y: Tensor, task: Tensor, labels: Labels, rng: Generator | None
) -> Directions:
    """Pairs (v [N, C], weight [N]), so that the Fisher by the outputs is the sum of weight v v', for each example."""
    if problem.objective == "cross-entropy":
        yield from _of_class(probabilities(logits, problem.allowed(task)), y, labels, rng)
        return
    f = problem.answers(logits, None)
    C = f.shape[1]
    if labels == "exact":
        variance = f * (1 - f) if problem.objective == "binary" else torch.ones_like(f)
        for c in range(C):
            yield nnf.one_hot(torch.full_like(task, c), C).to(f), variance[:, c] / C
        return
    yield _target(problem.objective, f, y, labels, rng) - f, torch.full_like(f[:, 0], 1 / C)


def _target(loss: Loss, f: Tensor, y: Tensor, labels: Labels, rng: Generator | None) -> Tensor:
    """Targets [N, C]: the data's own, drawn from the model, or its likeliest ones."""
    if labels == "true":
        return y
    if labels == "argmax":
        assert loss == "binary", "refused at the start: see `with_fisher`"
        return (f > 0.5).to(f)
    # drawn on the CPU, the same on every device; a normal deviate from one number each, whatever the batch's size
    u = torch.rand(f.shape, generator=rng, dtype=torch.float64)
    if loss == "binary":
        return (u.to(f.device) < f).to(f)
    normal: Tensor = torch.special.ndtri(u.clamp_min(2**-54))
    return f + normal.to(f)


def _of_class(p: Tensor, y: Tensor, labels: Labels, rng: Generator | None) -> Directions:
    """The same of the cross-entropy: d log p(c | x) / d logits = v, and how much its square counts."""
    C = p.shape[1]
    if y.dim() == 2:  # targets, not labels
        yield y - p, torch.ones_like(p[:, 0])
        return
    if labels == "exact":
        for c in range(C):
            yield nnf.one_hot(torch.full_like(y, c), C) - p, p[:, c]
        return
    if labels == "sampled":
        # inverse of the cumulative distribution: the draw is made on the CPU, the same on every device
        u = torch.rand(len(p), 1, generator=rng, dtype=torch.float64).to(p.device)
        cdf = p.double().cumsum(1)
        y = (u * cdf[:, -1:] >= cdf).sum(1).clamp_(max=C - 1)
    if labels == "argmax":
        y = p.argmax(1)
    yield nnf.one_hot(y, C) - p, torch.ones_like(p[:, 0])
