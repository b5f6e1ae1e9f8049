"""Variational continual learning: keep a Gaussian over the weights; the old one is the new one's prior."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Generator, Tensor

from retain import tree
from retain.curvature import Quadratic
from retain.curvature.meanfield import add_kl_pull, averaged, draw, fit, gaussian, isotropic
from retain.memory import joined
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.optim import Optim
from retain.types import Batch, Params, Problem, Task

PREFIX = "vcl."  # log sigma of the parameter "w" is "vcl.w"


class State(NamedTuple):
    """The prior of the current task, and the coreset."""

    prior: Quadratic  # (mu - mu_0)^2 / sigma_0^2; its weight is the precision 1 / sigma_0^2
    n: int  # examples whose likelihood the prior is weighed against
    coreset: tuple[Tensor, Tensor, Tensor] | None  # x, y, task of the examples kept
    passed_on: Params  # q_t before the coreset: what the next task goes on from; empty without one


@final
@dataclass(frozen=True)
class VCL(GradientMethod[State]):
    """- mean_n E_q[log p(y_n | theta, x_n)] + KL(q_t(theta) || q_(t-1)(theta)) / N_t.

    (Nguyen et al. 2018, eq. 4, divided by the number N_t of the task's examples.) q_t is a Gaussian of its
    own mean mu and deviation sigma for each weight; one sample theta = mu + sigma eps a step, KL and its
    gradient in closed form. The first prior is N(0, prior_sigma^2). Predictions are averages over
    `draws` fixed samples from q_t; 0 takes the mean weights, and so does a chain.

    With `coreset`, examples of every task are kept, drawn at random. For prediction q_t is trained on
    all of them (eq. 5), from q_t as its prior; the next task goes on from q_t without that. Other than
    in the paper, the task trains on its coreset examples too.
    """

    traits: ClassVar[Traits] = Traits(
        stores="statistics", cost="one step of mean and deviation", fails_in=("class",)
    )
    paper: ClassVar[str] = "Nguyen et al. 2018, arXiv:1710.10628"

    sigma: float = 0.01  # deviation of every weight at first, > 0
    prior_sigma: float = 1.0  # deviation of the first prior, > 0
    sigma_lr: float = 1e-3  # Adam's learning rate for log sigma
    draws: int = 10  # samples of the weights averaged for a prediction; 0: the mean
    coreset: int = 0  # examples kept of each task
    coreset_steps: int = 200  # on all of them, after each task
    coreset_lr: float = 1e-3  # of Adam in these steps

    def __post_init__(self) -> None:
        check_numbers(self, dict.fromkeys(("sigma", "prior_sigma", "sigma_lr", "coreset_lr"), "a number > 0"))
        check_numbers(self, dict.fromkeys(("draws", "coreset", "coreset_steps"), ">= 0"))

    @property
    def needs(self) -> Traits:
        """With a coreset, examples; and then it does not fail in the class scenario."""
        if not self.coreset:
            return self.traits
        return replace(self.traits, stores="examples", growth="with tasks", fails_in=())

    def optimizers(self) -> dict[str, Optim]:
        """Of log sigma."""
        return {PREFIX: Optim("adam", lr=self.sigma_lr)}

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """The network's weights as mean, a small deviation, and the first prior."""
        own = {k: params[k].detach() for k in problem.spec.names}
        log_sigma = {PREFIX + k: torch.full_like(p, math.log(self.sigma)) for k, p in own.items()}
        return params | log_sigma, State(isotropic(own, self.prior_sigma), 1, None, {})

    def begin_task(
        self, problem: Problem, params: Params, state: State, task: Task, rng: Generator
    ) -> tuple[Params, State]:
        """Go on from q_(t-1) as it was passed on."""
        return params | state.passed_on, state._replace(n=len(task.train), passed_on={})

    def view(
        self, problem: Problem, params: Params, state: State, task: Tensor, rng: Generator | None
    ) -> Params:
        """theta = mu + sigma eps; the mean where nothing may be drawn."""
        return params if rng is None else params | draw(params, problem.spec.names, PREFIX, rng)

    def gradient(self, problem: Problem, params: Params, state: State, batch: Batch, grads: Params) -> Params:
        """The gradient of KL / N: (mu - mu_0) / sigma_0^2 and sigma^2 / sigma_0^2 - 1."""
        return add_kl_pull(grads, 1 / state.n, params, state.prior, PREFIX)

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """q_t is the next prior; then the coreset, for prediction alone."""
        names = problem.spec.names
        state = state._replace(prior=gaussian(params, names, PREFIX))
        if not self.coreset:
            return params, state
        i = torch.randperm(len(task.train), generator=rng)[: self.coreset]
        kept = joined(state.coreset, task.batch(i, problem.spec.device))
        q = tree.clone(params, [*names, *(PREFIX + k for k in names)])
        adam = Optim("adam", lr=self.coreset_lr)
        tuned = fit(problem, params, PREFIX, state.prior, Batch(*kept), adam, self.coreset_steps, rng)
        return params | tuned, state._replace(coreset=kept, passed_on=q)

    def predict(self, problem: Problem, params: Params, state: State, x: Tensor, task: Tensor) -> Tensor:
        """log of the mean probability over the draws."""
        return averaged(problem, params, PREFIX, self.draws, x, task)

    def examples_stored(self, state: State) -> int:
        """The coreset's."""
        return 0 if state.coreset is None else len(state.coreset[1])

    def inspect(self, problem: Problem, params: Params, state: State, end: bool) -> dict[str, Any]:
        """After each task, the mean of 1 / sigma^2 over each layer's parameters."""
        return {"importance": state.prior.by_layer()} if end else {}

    def stiffness(self, state: State) -> tuple[float, str]:
        """max 1 / (N sigma_0^2)."""
        return state.prior.largest() / state.n, "max 1 / (N * sigma_0^2)"

    @property
    def remedy(self) -> str:
        """Steps that are scaled to the curvature, or wider Gaussians."""
        return "learn with adam (--optimizer adam), lower the learning rate (--lr) or raise sigma (--sigma)"
