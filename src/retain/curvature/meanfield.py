"""A Gaussian over the weights, each with a mean and a deviation of its own.

Of the weight "w" the mean is params["w"] and log sigma is params[prefix + "w"].
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from retain import tree
from retain.curvature.quadratic import Quadratic
from retain.optim import Optim
from retain.types import Batch, Params, Problem, probabilities


def gaussian(params: Params, names: tuple[str, ...], prefix: str) -> Quadratic:
    """(theta - mu)^2 / sigma^2: twice the negative logarithm of the density, but for a constant."""
    precision = {k: (-2 * params[prefix + k].detach()).exp() for k in names}
    return Quadratic.around(precision, tree.clone(params, names))


def isotropic(like: Params, sigma: float) -> Quadratic:
    """The same of N(0, sigma^2) for every entry of `like`."""
    precision = {k: torch.full_like(p, sigma**-2) for k, p in like.items()}
    return Quadratic.around(precision, {k: torch.zeros_like(p) for k, p in like.items()})


def draw(params: Params, names: tuple[str, ...], prefix: str, rng: Generator) -> Params:
    """mu + sigma eps for every weight, differentiable; eps is drawn on the CPU, the same on every device."""
    like = params[names[0]]
    total = sum(params[k].numel() for k in names)
    eps = torch.randn(total, generator=rng, dtype=like.dtype).to(like.device)
    noise = tree.unflatten(eps, params, names)
    return {k: torch.addcmul(params[k], params[prefix + k].exp(), noise[k]) for k in names}


def averaged(problem: Problem, params: Params, prefix: str, draws: int, x: Tensor, task: Tensor) -> Tensor:
    """log of the mean probability [N, C] over draws of the weights, always the same; 0 draws: logits of the mean."""
    if not draws:
        return problem.logits(params, x, task)
    rng, in_play = Generator().manual_seed(0), problem.allowed(task)
    p = torch.zeros((), device=x.device, dtype=x.dtype)
    for _ in range(draws):
        theta = params | draw(params, problem.spec.names, prefix, rng)
        p = p + probabilities(problem.logits(theta, x, task), in_play)
    return (p / draws).clamp_min(torch.finfo(p.dtype).tiny).log()


def add_kl_pull(grads: Params, strength: float, params: Params, prior: Quadratic, prefix: str) -> Params:
    """`grads` plus strength times the gradient of KL(N(mu, sigma^2) || prior), in place.

    KL = sum_i 1/2 ((mu - mu_0)^2 + sigma^2) / sigma_0^2 - 1/2 - log(sigma / sigma_0), so its gradient
    is (mu - mu_0) / sigma_0^2 for mu and sigma^2 / sigma_0^2 - 1 for log sigma.
    """
    for k, precision in prior.weight.items():
        variance = (2 * params[prefix + k].detach()).exp_()
        grads[prefix + k].add_(variance.mul_(precision).sub_(1), alpha=strength)
    return prior.pull(strength, params, grads)


def fit(
    problem: Problem, params: Params, prefix: str, prior: Quadratic, data: Batch, optim: Optim, steps: int,
    rng: Generator,
) -> Params:  # fmt: skip
    """Means and log sigmas after steps on - E[log p(data)] + KL(. || prior), divided by the examples' number.

    From those in `params`, which are left as they are. In batches of 128, in evaluation mode.
    """
    names, n = problem.spec.names, len(data.y)
    q = {k: params[k].detach().clone().requires_grad_() for k in [*names, *(prefix + k for k in names)]}
    optimizer = optim.build(list(q.values()))
    for _ in range(steps):
        i = torch.randperm(n, generator=rng)[:128].to(data.x.device)
        with torch.enable_grad():
            theta = params | draw(q, names, prefix, rng)
            loss = problem.loss(theta, Batch(data.x[i], data.y[i], data.task[i]), train=False)
            grads = tree.gradients(loss, q)
        grads = add_kl_pull(grads, 1 / n, q, prior, prefix)
        for k, p in q.items():
            p.grad = grads[k]
        optimizer.step()
    return tree.clone(q)
