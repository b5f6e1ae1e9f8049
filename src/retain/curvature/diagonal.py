"""The diagonal of the Fisher information, of single examples, never of batch means.

F_i = mean over examples x of E_c[(d log p(c | x) / d p_i)^2]. The expectation over labels c is

- `exact`: sum over the classes in play, weighted by the model's own p(c | x). At a minimum of the
  loss this is the Gauss-Newton diagonal, the b_i of the lecture.
- `sampled`: one label a example, drawn from p(. | x): unbiased for `exact`.
- `true`: the data's label: the empirical Fisher, another matrix (Kunstner et al. 2019).
- `argmax`: the model's own choice: biased, smaller the surer the model is (the code of Hsu et al. 2018).

Of the other losses the same, with their targets in the place of labels (`retain.losses`). With class weights
every example counts as much as its class, in the sum and in what it is divided by. None depends on the
batch size. (Martens 2020, arXiv:1412.1193, sections 5 and 11.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Generator, Tensor
from torch.func import grad, vmap

from retain.curvature.layers import CHECKED, at_home, covered, deltas, full_name, per_example, shares_weights
from retain.examples import Examples, Union
from retain.losses import Labels, directions
from retain.types import Batch, Params, Problem


def fisher(
    problem: Problem,
    params: Params,
    examples: Examples | Union,
    task: int,
    rng: Generator,
    labels: Labels = "exact",
    n: int | None = None,
    batch_size: int = 256,
) -> Params:
    """The Fisher diagonal at `params`, entry for entry of `spec.names`, in evaluation mode.

    Args:
        problem: model and classes in play.
        params: where to take it; running statistics are not changed.
        examples: over which the mean is taken.
        task: their task's number, or HIDDEN.
        rng: draws the n examples and the sampled labels.
        labels: how the expectation over labels is taken.
        n: how many examples, drawn without replacement; None or more than there are: all.
        batch_size: examples at a time; changes speed and memory, not the result.

    Raises:
        ValueError: no examples.
    """
    if len(examples) == 0:
        raise ValueError("the Fisher of no examples is not defined")
    chosen = some(examples, n, rng)
    total = {k: torch.zeros_like(params[k]) for k in problem.spec.names}
    layers = covered_by(problem, params, examples, task, chosen)
    # Labels that are drawn are drawn for all rows, by every process: its generator is that of the others.
    shared = labels != "sampled"
    mine = chosen[problem.world.rows(len(chosen))] if shared else chosen
    for x, y, tasks in portions(problem, examples, task, mine.split(batch_size)):
        _add_squares(problem, params, x, y, tasks, labels, rng, layers, total)
    if shared:
        total = dict(zip(total, problem.world.total(list(total.values())), strict=True))
    size = total_of(problem, examples.labels(chosen))
    return {k: t.div_(size) for k, t in total.items()}


def total_of(problem: Problem, y: Tensor) -> float:
    """What the mean over examples with labels or targets y is divided by: their number, as classes count."""
    counts = problem.counts(y.to(problem.spec.device))
    return len(y) if counts is None else float(counts.sum())


def some(examples: Examples | Union, n: int | None, rng: Generator) -> Tensor:
    """Which examples: n drawn without replacement, or all, in their order."""
    if n is not None and n < len(examples):
        return torch.randperm(len(examples), generator=rng)[:n]
    return torch.arange(len(examples))


def portions(
    problem: Problem, examples: Examples | Union, task: int, rows: Iterable[Tensor]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """x [n, ...], y [n] and task numbers [n] of each portion of the examples, on the network's device."""
    for index in rows:
        if not len(index):
            continue  # of fewer examples than processes some get none
        x, y = (t.to(problem.spec.device) for t in examples.batch(index))
        yield x, y, torch.full((len(y),), task, device=y.device)


def batch_fisher(problem: Problem, params: Params, batch: Batch, layers: tuple[str, ...]) -> Params:
    """The same over the examples of one batch, each alike, with the batch's own labels or targets.

    `layers` is what `covered` gave. (No expectation over labels: the empirical Fisher.)
    """
    total = {k: torch.zeros_like(params[k]) for k in problem.spec.names}
    _add_squares(problem, params, batch.x, batch.y, batch.task, "true", None, layers, total)
    return {k: t.div_(total_of(problem, batch.y)) for k, t in total.items()}


def covered_by(
    problem: Problem, params: Params, examples: Examples | Union, task: int, chosen: Tensor | None = None
) -> tuple[str, ...]:
    """`covered` on the first of the examples, or of those chosen."""
    first = torch.arange(min(CHECKED, len(examples))) if chosen is None else chosen[:CHECKED]
    x = examples.batch(first)[0].to(problem.spec.device)
    return covered(problem, params, x, torch.full((len(x),), task, device=x.device))


def _add_squares(
    problem: Problem, params: Params, x: Tensor, y: Tensor, tasks: Tensor, labels: Labels,
    rng: Generator | None, layers: tuple[str, ...], total: Params,
) -> None:  # fmt: skip
    """Add the weighted squares of every single-example gradient to `total`."""
    home = at_home(layers, problem.spec.names)
    rest = [k for k in problem.spec.names if k not in home]
    logits, traced = problem.trace(params, x, tasks)
    traced = {k: traced[k] for k in layers}
    counts = problem.counts(y)
    square = {k: torch.zeros_like(t.output) for k, t in traced.items() if not shares_weights(t)}
    for v, weight in directions(problem, logits.detach(), y, tasks, labels, rng):
        weight = weight if counts is None else weight * counts.to(weight)
        for name, delta in deltas(logits, traced, v.to(logits), keep=True).items():
            if name in square:
                # W's gradient is delta x', so its square is delta^2 (x^2)': x waits for the last c
                square[name].addcmul_(delta * delta, weight[:, None])
                continue
            for i, g in enumerate(per_example(traced[name], delta)):
                if (full := full_name(name, i)) in home:
                    total[full] += torch.einsum("n...,n->...", g * g, weight)
        if rest:
            for k, g in one_by_one(problem, params, x, tasks, v, rest).items():
                total[k] += torch.einsum("n...,n->...", g * g, weight)
    for name, d2 in square.items():
        if (full := full_name(name, 0)) in home:
            total[full].addmm_(d2.T, traced[name].input ** 2)
        if (full := full_name(name, 1)) in home:
            total[full] += d2.sum(0)


def one_by_one(
    problem: Problem, params: Params, x: Tensor, tasks: Tensor, v: Tensor, names: list[str]
) -> Params:
    """Gradients [N, *shape] of v_n . logits(x_n) for parameters of layers of any other kind."""
    fixed = {k: t.detach() for k, t in params.items()}

    def score(moved: Params, x_n: Tensor, task_n: Tensor, v_n: Tensor) -> Tensor:
        out = problem.logits({**fixed, **moved}, x_n[None], task_n[None])
        return (out[0] * v_n).sum()

    moved = {k: fixed[k] for k in names}
    v = v.to(x.dtype)
    try:
        found: Params = vmap(grad(score), in_dims=(None, 0, 0, 0))(moved, x, tasks, v)
    except RuntimeError as e:
        if not str(e).startswith("vmap"):
            raise
        # A network that asks for a value (whether a mask is empty, say) can only be run on one example after another.
        each = [grad(score)(moved, *row) for row in zip(x, tasks, v, strict=True)]
        found = {k: torch.stack([g[k] for g in each]) for k in moved}
    return found
