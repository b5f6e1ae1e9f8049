"""Derivatives of the losses against dense ones by autograd, and class weights against examples that come twice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from retain.curvature import covered, fisher, group_gradients, kfac
from retain.curvature.products import gradient_products
from retain.examples import Examples
from retain.losses import Labels, residual
from retain.problem import Binding
from retain.types import HIDDEN, Batch, Loss, Params, Problem, Spec

N, C = 7, 3
each_loss = pytest.mark.parametrize("loss", ["binary", "squared"])
each_net = pytest.mark.parametrize("net", ["mlp", "conv", "norm"])


def nets(net: str) -> tuple[nn.Module, tuple[int, ...]]:
    if net == "conv":
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, C)), (1, 4, 4)
    middle = nn.LayerNorm(6) if net == "norm" else nn.Tanh()  # LayerNorm goes the slow way
    return nn.Sequential(nn.Linear(5, 6), middle, nn.Linear(6, C)), (5,)


def make(net: str, loss: Loss, weights: Tensor | None = None) -> tuple[Problem, Params, Examples]:
    torch.manual_seed(0)
    model, shape = nets(net)
    binding = Binding(model.double())
    x = torch.randn(N, *shape, dtype=torch.float64)
    y = torch.randn(N, C, dtype=torch.float64)
    y = (y > 0).double() if loss == "binary" else y
    if loss == "cross-entropy":
        y = torch.tensor([0, 1, 2, 0, 1, 0, 1])
    spec = Spec(shape, x.dtype, x.device, C, binding.names, None)
    weights = None if weights is None else weights.double()
    return (
        binding.problem(spec, lambda task: None, objective=loss, class_weights=weights),
        binding.own,
        Examples(x, y),
    )


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def jacobian(problem: Problem, params: Params, x: Tensor) -> tuple[Tensor, Tensor]:
    """f [C] and d f / d theta [C, P] of one example [1, ...]."""
    f = problem.logits(params, x, torch.tensor([HIDDEN]))[0]
    leaves = [params[k] for k in problem.spec.names]
    rows = [torch.autograd.grad(f[c], leaves, retain_graph=True) for c in range(C)]
    return f.detach(), torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


def flat(F: Params) -> Tensor:
    return torch.cat([f.flatten() for f in F.values()])


@each_net
@each_loss
def test_the_exact_fisher_is_the_diagonal_of_the_dense_gauss_newton_matrix(net: str, loss: Loss) -> None:
    problem, params, data = make(net, loss)
    total = torch.zeros(1, dtype=torch.float64)
    for n in range(N):
        x, y = data.batch(torch.tensor([n]))
        f, J = jacobian(problem, params, x)
        H = torch.autograd.functional.hessian(lambda f, y=y: problem.each(f[None], y, None)[0], f)
        total = total + (J.T @ H @ J).diagonal() / N
    torch.testing.assert_close(
        flat(fisher(problem, params, data, HIDDEN, rng())), total, rtol=1e-10, atol=1e-14
    )


@each_loss
def test_the_true_one_squares_single_examples_and_is_divided_by_the_outputs_once(loss: Loss) -> None:
    problem, params, data = make("mlp", loss)
    total = torch.zeros(1, dtype=torch.float64)
    for n in range(N):
        x, y = data.batch(torch.tensor([n]))
        f, J = jacobian(problem, params, x)
        mean = f.sigmoid() if loss == "binary" else f
        total = total + ((y[0] - mean) @ J) ** 2 / C / N
    torch.testing.assert_close(
        flat(fisher(problem, params, data, HIDDEN, rng(), "true")), total, rtol=1e-10, atol=1e-14
    )


@each_loss
@pytest.mark.parametrize("labels", ["exact", "true", "sampled"])
def test_no_batch_size_changes_it(labels: Labels, loss: Loss) -> None:
    problem, params, data = make("conv", loss)
    whole = flat(fisher(problem, params, data, HIDDEN, rng(), labels))
    part = flat(fisher(problem, params, data, HIDDEN, rng(), labels, batch_size=2))
    torch.testing.assert_close(part, whole, rtol=1e-10, atol=1e-14)


@each_loss
def test_sampled_targets_have_the_exact_one_as_their_mean(loss: Loss) -> None:
    problem, params, data = make("mlp", loss)
    exact, draws = flat(fisher(problem, params, data, HIDDEN, rng())), rng(1)
    sample = torch.stack([flat(fisher(problem, params, data, HIDDEN, draws, "sampled")) for _ in range(400)])
    assert bool(((sample.mean(0) - exact).abs() <= 5 * sample.std(0) / 20 + 1e-12).all())


def test_the_likeliest_targets_are_those_above_one_half() -> None:
    problem, params, data = make("mlp", "binary")
    likely = problem.logits(params, data.x, torch.full((N,), HIDDEN)).detach() > 0
    theirs = fisher(problem, params, Examples(data.x, likely.double()), HIDDEN, rng(), "true")
    assert torch.equal(flat(fisher(problem, params, data, HIDDEN, rng(), "argmax")), flat(theirs))


@each_loss
def test_factors_of_one_example_are_exact(loss: Loss) -> None:
    problem, params, data = make("mlp", loss)
    one = data.subset(torch.tensor([2]))
    found, diagonal = kfac(problem, params, one, HIDDEN, rng()), fisher(problem, params, one, HIDDEN, rng())
    for k in ("0", "2"):
        of_layer = torch.outer(found.G[k].diagonal(), found.A[k].diagonal())
        torch.testing.assert_close(of_layer[:, :-1], diagonal[f"{k}.weight"], rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(of_layer[:, -1], diagonal[f"{k}.bias"], rtol=1e-10, atol=1e-14)


@each_net
@pytest.mark.parametrize("loss", ["cross-entropy", "binary", "squared"])
def test_gradients_of_groups_and_their_products_are_autograds(net: str, loss: Loss) -> None:
    problem, params, data = make(net, loss)
    x, y = data.batch(torch.arange(N))
    batch = Batch(x, y, torch.full((N,), HIDDEN))
    layers, names = covered(problem, params, x, batch.task), problem.spec.names
    losses = problem.losses(params, batch, train=False)
    leaves = [params[k] for k in names]
    each = torch.stack(
        [torch.cat([g.flatten() for g in torch.autograd.grad(v, leaves, retain_graph=True)]) for v in losses]
    )
    G = group_gradients(problem, params, batch, [slice(0, 4), slice(4, N)], layers)
    torch.testing.assert_close(G, torch.stack((each[:4].mean(0), each[4:].mean(0))), rtol=1e-10, atol=1e-14)
    K = gradient_products(problem, params, batch, layers)
    torch.testing.assert_close(K, each @ each.T, rtol=1e-9, atol=1e-14)
    logits = problem.logits(params, x, batch.task).detach().requires_grad_()
    (by_output,) = torch.autograd.grad(problem.each(logits, y, None).sum(), logits)
    torch.testing.assert_close(
        residual(problem, logits.detach(), y, batch.task), by_output, rtol=1e-10, atol=1e-14
    )


@each_net
def test_a_class_of_weight_two_is_one_whose_examples_come_twice(net: str) -> None:
    weights = torch.tensor([2.0, 1.0, 3.0])
    problem, params, data = make(net, "cross-entropy", weights)
    plain, _, _ = make(net, "cross-entropy")
    rows = torch.arange(N).repeat_interleave(weights.long()[data.y])
    more = data.subset(rows)
    for labels in ("exact", "true"):
        ours, theirs = (
            fisher(*p, HIDDEN, rng(), labels) for p in ((problem, params, data), (plain, params, more))
        )
        torch.testing.assert_close(flat(ours), flat(theirs), rtol=1e-10, atol=1e-14)
    f, g = kfac(problem, params, data, HIDDEN, rng()), kfac(plain, params, more, HIDDEN, rng())
    for a, b in ((f.A, g.A), (f.G, g.G), (f.rest, g.rest)):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)
    G = []
    for p, d in ((problem, data), (plain, more)):
        x, y = d.batch(torch.arange(len(d)))
        batch = Batch(x, y, torch.full((len(y),), HIDDEN))
        G.append(group_gradients(p, params, batch, [slice(0, len(y))], covered(p, params, x, batch.task)))
        G.append(group_gradients(p, params, batch, [slice(0, len(y))], ()))
        G.append(p.loss(params, batch, train=False).detach().view(1, 1).expand_as(G[0]))
    for one, two in zip(G[:3], G[3:], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-14)
