"""RWalk against a loop that is written as the paper has it, its Fisher by autograd of single examples."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as nnf
from tests.laws.toy import mlp
from tests.reference.test_si import ALL, data, tasks
from torch import Tensor, nn

from retain import Learner, Optim
from retain.curvature import fisher
from retain.curvature.diagonal import batch_fisher, covered_by
from retain.curvature.path import scaled
from retain.examples import Examples
from retain.methods.rwalk import RWalk
from retain.problem import Binding
from retain.types import Batch, Params, Spec


def single_fisher(net: nn.Module, x: Tensor, y: Tensor) -> Params:
    """The mean of (d log p(y_n | x_n) / d p)^2, with a backward pass for every example."""
    p = dict(net.named_parameters())
    total = {k: torch.zeros_like(v) for k, v in p.items()}
    for x_n, y_n in zip(x.split(1), y.split(1), strict=True):
        g = torch.autograd.grad(nnf.cross_entropy(net(x_n), y_n), list(p.values()))
        for k, g_k in zip(p, g, strict=True):
            total[k] += g_k**2 / len(y)
    return total


def by_hand(method: RWalk, optim: Optim) -> tuple[Params, Params, Params, Params]:
    """Weights, F, s and the guard's weight after three tasks."""
    torch.manual_seed(0)
    net = mlp().double()
    p = dict(net.named_parameters())
    optimizer = optim.build(list(p.values()))
    F: Params = {}
    s: Params = {}
    guard: Params = {}
    old: Params = {}
    for task in tasks():
        zero = {k: torch.zeros_like(v) for k, v in p.items()}
        new, omega, start = dict(zero), dict(zero), {k: v.detach().clone() for k, v in p.items()}

        def close(
            new: Params = new, omega: Params = omega, start: Params = start, F: Params | None = None
        ) -> None:
            assert F is not None
            for k, v in p.items():
                length = 0.5 * F[k] * (v.detach() - start[k]) ** 2 + method.eps
                new[k] = new[k] + (omega[k] / length).clamp(min=0)
                omega[k], start[k] = torch.zeros_like(v), v.detach().clone()

        for n, index in enumerate(ALL.split(12), 1):
            x, y = data(task, index)
            loss = nnf.cross_entropy(net(x), y)
            g = torch.autograd.grad(loss, list(p.values()), retain_graph=True)
            if old:
                pull = [(guard[k] * (v - old[k]) ** 2).sum() for k, v in p.items()]
                loss = loss + method.lam * torch.stack(pull).sum()
            optimizer.zero_grad()
            loss.backward()
            before = {k: v.detach().clone() for k, v in p.items()}
            optimizer.step()
            for (k, v), g_k in zip(p.items(), g, strict=True):
                omega[k] = omega[k] - g_k * (v.detach() - before[k])
            if not F:
                F = single_fisher(net, x, y)
            elif n % method.every == 0:
                close(F=F)
                now = single_fisher(net, x, y)
                F = {k: method.alpha * now[k] + (1 - method.alpha) * F[k] for k in F}
        close(F=F)
        s = {k: (s[k] + new[k]) / 2 if s else new[k] for k in p}
        low, high = (
            [float(f(torch.cat([t.flatten() for t in a.values()]))) for a in (F, s)]
            for f in (torch.min, torch.max)
        )
        guard = {k: (F[k] - low[0]) / (high[0] - low[0]) + (s[k] - low[1]) / (high[1] - low[1]) for k in p}
        old = {k: v.detach().clone() for k, v in p.items()}
    return old, F, s, guard


@pytest.mark.parametrize("optim", [Optim(lr=0.1), Optim("adam", lr=1e-2)])
@pytest.mark.parametrize("every", [1, 2, 100])
def test_rwalk_is_the_algorithm_written_by_hand(optim: Optim, every: int) -> None:
    method = RWalk(lam=0.5, alpha=0.7, every=every, eps=1e-2)
    torch.manual_seed(0)
    one = Learner(mlp().double(), method, optim, scenario="domain")
    for task in tasks():
        one.begin_task(task)
        for index in ALL.split(12):
            one.observe(*data(task, index))
        one.end_task()
    params, F, s, guard = by_hand(method, optim)
    assert all(float(t.max()) > 0 for t in s.values())
    for k, p in params.items():
        torch.testing.assert_close(one.params[k].detach(), p, rtol=1e-8, atol=1e-11)
        torch.testing.assert_close(one.state.F[k], F[k], rtol=1e-8, atol=1e-11)
        torch.testing.assert_close(one.state.s[k], s[k], rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(one.state.penalty.weight[k], guard[k], rtol=1e-8, atol=1e-11)


def test_scaling_brings_all_entries_to_the_unit_interval_and_equal_ones_to_zero() -> None:
    a = scaled({"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([[5.0]])})
    assert a["a"].tolist() == [0.0, 0.5] and a["b"].tolist() == [[1.0]]
    assert scaled({"a": torch.full((2,), 3.0)})["a"].tolist() == [0.0, 0.0]


def test_a_batchs_fisher_with_targets_is_that_with_the_labels_which_they_spell() -> None:
    torch.manual_seed(0)
    binding = Binding(mlp().double())
    x, y = data(tasks()[0], ALL[:9])
    spec = Spec(tuple(x.shape[1:]), x.dtype, x.device, 4, binding.names, None)
    problem, task = binding.problem(spec, lambda t: None), torch.zeros_like(y)
    layers = covered_by(problem, binding.own, Examples(x, y), 0)
    truth = fisher(problem, binding.own, Examples(x, y), 0, torch.Generator(), "true")
    for labels in (y, nnf.one_hot(y, 4).double()):
        found = batch_fisher(problem, binding.own, Batch(x, labels, task), layers)
        for k, t in truth.items():
            torch.testing.assert_close(found[k], t)
