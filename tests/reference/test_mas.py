"""The sensitivity of the outputs, and MAS, against autograd example by example."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from tests.laws.toy import mlp
from tests.reference.test_fisher import (
    Functional,
    Sequence,
    Tied,
    Twice,
    batchnorm,
    conv,
    frozen,
    inplace,
)
from tests.reference.test_si import tasks
from torch import Generator, Tensor, nn

from retain import Learner, Optim
from retain.curvature.absolute import sensitivity
from retain.examples import Examples
from retain.methods.mas import MAS
from retain.problem import Binding
from retain.types import HIDDEN, Params, Problem, Spec

N = 9
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "inplace": (inplace, (6,)),
    "frozen": (frozen, (6,)),
    "tied": (Tied, (6,)),
    "functional": (Functional, (6,)),
    "twice": (Twice, (6,)),
    "sequence": (Sequence, (5, 6)),
    "conv": (conv(2, 3, 3, stride=2, padding=1), (2, 8, 8)),
    "grouped": (conv(2, 4, 3, groups=2), (2, 8, 8)),
    "batchnorm": (batchnorm, (2, 8, 8)),
}


def one_by_one(problem: Problem, params: Params, x: Tensor, task: int) -> Params:
    """mean_n |d ||f(x_n)||^2 / d p|, with a backward pass for every example."""
    names = problem.spec.names
    leaves = {k: p.detach().requires_grad_(k in names) for k, p in params.items()}
    total = {k: torch.zeros_like(params[k]) for k in names}
    for x_n in x.split(1):
        t = torch.full((1,), task)
        out, in_play = problem.logits(leaves, x_n, t), problem.allowed(t)
        f = out if in_play is None else out[:, in_play[0]]
        found = torch.autograd.grad(f.square().sum(), [leaves[k] for k in names], allow_unused=True)
        for k, g in zip(names, found, strict=True):
            if g is not None:
                total[k] += g.abs() / len(x)
    return total


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("net", NETS)
def test_sensitivity_is_the_mean_of_absolute_gradients_of_single_examples(net: str, masked: bool) -> None:
    torch.manual_seed(0)
    make, shape = NETS[net]
    binding = Binding(make().double())
    x = torch.rand(N, *shape, dtype=torch.float64)
    mask = torch.tensor([True, False, True, False])
    spec = Spec(shape, x.dtype, x.device, 4, binding.names, None)
    problem = binding.problem(spec, lambda t: mask.expand(len(t), -1) if masked else None)
    examples = Examples(x, torch.zeros(N, dtype=torch.int64))
    truth = one_by_one(problem, binding.own, x, 0)
    for size in (4, 256):
        found = sensitivity(problem, binding.own, examples, 0, Generator(), batch_size=size)
        assert set(found) == set(truth)
        for k, t in truth.items():
            torch.testing.assert_close(found[k], t, rtol=1e-9, atol=1e-12)
    some = sensitivity(problem, binding.own, examples, 0, Generator().manual_seed(0), n=5)
    i = torch.randperm(N, generator=Generator().manual_seed(0))[:5]
    for k, t in one_by_one(problem, binding.own, x[i], 0).items():
        torch.testing.assert_close(some[k], t, rtol=1e-9, atol=1e-12)


def test_mas_pulls_as_the_paper_has_it_and_uses_no_label() -> None:
    torch.manual_seed(0)
    one = Learner(mlp().double(), MAS(lam=0.3), Optim(lr=0.05), scenario="domain")
    Omega: Params = {}
    for task in tasks()[:2]:
        one.begin_task(task)
        x, y = task.train.batch(torch.arange(60))
        one.observe(x, y)
        expected = one_by_one(one._bound, one.params, x, HIDDEN)
        Omega = {k: W + Omega.get(k, 0) for k, W in expected.items()}
        unlabelled = Examples(x, torch.full_like(y, -100))  # labels that would raise an error if used
        one._task = dataclasses.replace(task, index=HIDDEN, train=unlabelled)
        one.end_task()
    anchor = {k: one.params[k].detach().clone() for k in Omega}
    p = {k: (a + 0.01 * torch.randn_like(a)).requires_grad_() for k, a in anchor.items()}
    penalty = 0.3 * torch.stack([(Omega[k] * (p[k] - anchor[k]) ** 2).sum() for k in p]).sum()
    truth = torch.autograd.grad(penalty, list(p.values()))
    assert isinstance(one.method, MAS)
    zero = {k: torch.zeros_like(a) for k, a in anchor.items()}
    found = one.method.gradient(one._bound, p, one.state, None, zero)  # type: ignore[arg-type]
    for k, t in zip(p, truth, strict=True):
        torch.testing.assert_close(found[k], t, rtol=1e-9, atol=1e-11)


def test_examples_do_not_cancel_each_other() -> None:
    """The gradient of a batch's mean is 0 here for the second weight."""
    net = nn.Linear(2, 1, bias=False).double()
    net.weight.data = torch.tensor([[0.5, 0.0]], dtype=torch.float64)
    binding = Binding(net)
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    spec = Spec((2,), x.dtype, x.device, 1, binding.names, None)
    problem = binding.problem(spec, lambda t: None)
    found = sensitivity(problem, binding.own, Examples(x, torch.zeros(2, dtype=torch.int64)), 0, Generator())
    assert found["weight"].tolist() == [[1.0, 1.0]]
