"""VCL: its KL against torch.distributions, its gradient against the exact bound, and what it passes on."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as nnf
from tests.laws.toy import kept, mlp
from tests.reference.test_si import ALL, data, tasks
from torch import Generator, Tensor, nn
from torch.distributions import Normal, kl_divergence

from retain import Learner, Naive, Optim
from retain.curvature.meanfield import add_kl_pull, draw, gaussian
from retain.examples import Examples
from retain.methods.vcl import PREFIX, VCL
from retain.types import HIDDEN, Batch, Params, Task


def learner(method: VCL, optim: Optim | None = None) -> Learner:
    torch.manual_seed(0)
    return Learner(mlp().double(), method, optim or Optim(lr=0.1), scenario="domain")


def taught(method: VCL, n: int, optim: Optim | None = None) -> Learner:
    """After n tasks of the toy."""
    one = learner(method, optim)
    for task in tasks()[:n]:
        one.begin_task(task)
        for index in ALL.split(20):
            one.observe(*data(task, index))
        one.end_task()
    return one


def test_the_pull_is_the_gradient_of_the_kl_of_torch_distributions() -> None:
    torch.manual_seed(0)
    names = ("a", "b")
    old = {k: torch.randn(3, 2, dtype=torch.float64) for k in ("a", "b", "q.a", "q.b")}
    new = {k: torch.randn(3, 2, dtype=torch.float64).requires_grad_() for k in old}
    prior = gaussian(old, names, "q.")
    kl = torch.stack(
        [
            kl_divergence(Normal(new[k], new["q." + k].exp()), Normal(old[k], old["q." + k].exp())).sum()
            for k in names
        ]
    ).sum()
    truth = torch.autograd.grad(0.3 * kl, list(new.values()))
    zero = {k: torch.zeros_like(v) for k, v in new.items()}
    found = add_kl_pull(zero, 0.3, new, prior, "q.")
    for k, t in zip(new, truth, strict=True):
        torch.testing.assert_close(found[k], t, rtol=1e-11, atol=1e-12)
    at_prior = add_kl_pull({k: torch.zeros_like(v) for k, v in old.items()}, 1.0, old, prior, "q.")
    assert max(float(g.abs().max()) for g in at_prior.values()) < 1e-12


def exact_bound(p: Params, X: Tensor, y: Tensor, prior_sigma: float) -> Tensor:
    """The negative bound divided by N, for logits x w with w a mean-field Gaussian [2, 1], by quadrature."""
    mu, s = p["weight"], p[PREFIX + "weight"].exp()
    points, weights = (torch.from_numpy(a) for a in np.polynomial.hermite.hermgauss(60))
    sign = 2.0 * y - 1  # of the difference of the logits, which is N(x (mu_1 - mu_0), x^2 (s_1^2 + s_0^2))
    mean, width = X[:, 0] * (mu[1] - mu[0]), X[:, 0].abs() * (s[1] ** 2 + s[0] ** 2).sqrt()
    at = mean[:, None] + 2**0.5 * width[:, None] * points
    likelihood = (weights / torch.pi**0.5 * nnf.logsigmoid(sign[:, None] * at)).sum(1)
    kl = kl_divergence(Normal(mu, s), Normal(torch.zeros_like(mu), prior_sigma)).sum()
    bound: Tensor = likelihood.mean() - kl / len(y)
    return -bound


def test_the_gradient_of_a_step_is_without_bias_that_of_the_exact_bound() -> None:
    """Bayesian logistic regression on one feature."""
    torch.manual_seed(0)
    X, y = torch.randn(12, 1, dtype=torch.float64), torch.arange(12) % 2
    net = nn.Linear(1, 2, bias=False).double()
    method = VCL(sigma=0.7, prior_sigma=1.5)
    one = Learner(net, method, Optim(lr=0.1), scenario="domain")
    one.begin_task(Task(0, "", Examples(X, y), None, None, (0, 1)))
    names = ["weight", PREFIX + "weight"]
    batch = Batch(X, y, torch.full_like(y, HIDDEN))
    draws = []
    for _ in range(1000):
        loss = method.objective(one._bound, one.params, one.state, batch, one.rng)
        grads = dict(zip(names, torch.autograd.grad(loss, [one.params[k] for k in names]), strict=True))
        grads = method.gradient(one._bound, one.params, one.state, batch, grads)
        draws.append(torch.cat([grads[k].flatten() for k in names]))
    found = torch.stack(draws)
    p = {k: one.params[k].detach().clone().requires_grad_() for k in names}
    truth = torch.autograd.grad(exact_bound(p, X, y, 1.5), [p[k] for k in names])
    error = found.mean(0) - torch.cat([g.flatten() for g in truth])
    assert bool((error.abs() < 4 * found.std(0) / len(draws) ** 0.5).all())
    assert float(error.abs().max()) < 0.02


def test_with_tiny_deviations_and_a_flat_prior_it_is_ordinary_training() -> None:
    one = learner(VCL(sigma=1e-9, prior_sigma=1e6, sigma_lr=1e-12))
    torch.manual_seed(0)
    naive = Learner(mlp().double(), Naive(), Optim(lr=0.1), scenario="domain")
    for each in (one, naive):
        each.begin_task(tasks()[0])
        for index in ALL.split(20):
            each.observe(*data(tasks()[0], index))
    for k, p in naive.params.items():
        torch.testing.assert_close(one.params[k], p, rtol=1e-6, atol=1e-7)


def test_each_posterior_is_the_next_prior_and_weighs_by_the_tasks_examples() -> None:
    one = taught(VCL(sigma=0.05), 2, Optim("adam", lr=1e-2))
    for k, precision in one.state.prior.weight.items():
        torch.testing.assert_close(precision, (-2 * one.params[PREFIX + k].detach()).exp())
        torch.testing.assert_close(one.state.prior.moment[k], precision * one.params[k].detach())
    few = Task(0, "", Examples(*data(tasks()[0], ALL[:7])), None, None, (0, 1, 2, 3))
    one.begin_task(few)
    assert one.state.n == 7


def test_prediction_is_the_average_over_fixed_draws() -> None:
    x = data(tasks()[0])[0]
    one, mean = taught(VCL(sigma=0.3, draws=4), 1), taught(VCL(sigma=0.3, draws=0), 1)
    p, rng = torch.zeros(60, 4, dtype=torch.float64), Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(4):
            theta = one.params | draw(one.params, one.binding.names, PREFIX, rng)
            p += one.binding.logits(theta, x, ALL).softmax(1) / 4
        before = one.rng.get_state()
        found = one.predict(x)
        torch.testing.assert_close(found.exp(), p)
        assert torch.equal(found, one.predict(x)) and torch.equal(one.rng.get_state(), before)
        torch.testing.assert_close(mean.predict(x), mean.model(x))


def test_the_coreset_serves_prediction_and_the_next_task_goes_on_without_it() -> None:
    plain, one = taught(VCL(sigma=0.1), 1), taught(VCL(sigma=0.1, coreset=5, coreset_steps=50), 1)
    names = one.binding.names
    assert all(torch.equal(one.state.passed_on[k], plain.params[k]) for k in plain.params)
    assert all(torch.equal(one.state.prior.moment[k], plain.state.prior.moment[k]) for k in names)
    assert all(not torch.equal(one.params[k], plain.params[k]) for k in names)
    x, y, _ = one.state.coreset
    loss = [float(nnf.cross_entropy(each.model(x), y).detach()) for each in (plain, one)]
    assert loss[1] < loss[0]
    X = data(tasks()[0])[0]
    assert all(bool((row == X).flatten(1).all(1).any()) for row in x) and len(x) == 5
    one.begin_task(tasks()[1])
    assert all(torch.equal(one.params[k], plain.params[k]) for k in plain.params)
    assert one.state.n == 60 and kept(one)["state"].passed_on == {}
    one.observe(*data(tasks()[1]))
    one.end_task()
    assert one.method.examples_stored(one.state) == 10
