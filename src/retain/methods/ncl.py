"""Natural continual learning: go where the past does not mind, and be pulled back from where it does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, final, get_args

from torch import Generator

from retain import tree
from retain.curvature import Labels, Precision, kfac
from retain.losses import with_fisher
from retain.method import GradientMethod, Traits, Update, check_choices, check_numbers
from retain.types import Batch, Loss, Params, Problem, Task


class State(NamedTuple):
    """What the past tasks leave: a Gaussian over the weights; None before the first is learned."""

    prior: Precision | None


@final
@dataclass(frozen=True)
class NCL(GradientMethod[State]):
    """theta <- theta - lr delta [Lambda_{k-1}^{-1} g + (theta - mu_{k-1})], g the gradient of task k's loss.

    (The update of Kao et al. 2021.) mu_{k-1} are the weights after the task before, and the prior's
    precision Lambda_k = Lambda_{k-1} + lam F_k, from Lambda_0 = delta I, takes in each task's Fisher
    information in Kronecker factors (K-FAC); the sum is kept as the one Kronecker product that is
    closest in Kullback-Leibler divergence. The step is the steepest descent of the Laplace posterior

        L(theta) + 1/2 (theta - mu_{k-1})' Lambda_{k-1} (theta - mu_{k-1})

    within a ball of the prior's own metric: it hardly moves what the past depends on. Scaled by
    delta, so that lr means in directions which are free what it means in plain SGD. The first task
    is learned plainly. Meant for SGD: Adam would rescale the preconditioned gradient.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss),
        stores="statistics",
        cost="one step and two products a layer",
        fails_in=("class",),
    )
    paper: ClassVar[str] = "Kao et al. 2021, arXiv:2106.08085"

    lam: float = 1.0  # weight of each past task beside the new one, >= 0; 1: alike
    delta: float = 1e-3  # precision of the prior before any task, > 0; smaller: firmer, less damped
    labels: Labels = "exact"  # the Fisher's: expected exactly, sampled, true, or the model's choice
    examples: int | None = 2000  # of the task, drawn for the Fisher; none: all of them

    def __post_init__(self) -> None:
        check_choices(self)
        rules = {"lam": "a number >= 0", "delta": "a number > 0", "examples": ">= 1 or none (all)"}
        check_numbers(self, rules)

    @property
    def needs(self) -> Traits:
        """Some labels leave some losses without a Fisher."""
        return replace(self.traits, losses=with_fisher(self.labels))

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """No past yet."""
        return params, State(None)

    def gradient(self, problem: Problem, params: Params, state: State, batch: Batch, grads: Params) -> Params:
        """delta [Lambda^{-1} g + (theta - mu)]."""
        return grads if state.prior is None else state.prior.natural(self.delta, params, grads)

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """The posterior of this task is the next one's prior."""
        layers = None if state.prior is None else tuple(state.prior.A)
        F = kfac(problem, params, task.train, task.index, rng, self.labels, self.examples, layers=layers)
        here = tree.clone(params, problem.spec.names)
        past = state.prior or Precision.flat(self.delta, F, here)
        return params, State(past.plus(self.lam, F, here))

    def stiffness(self, state: State) -> tuple[float, str]:
        """delta: what the prior's pull has become in its own metric."""
        return (0.0, "") if state.prior is None else (self.delta, "delta")

    @property
    def remedy(self) -> str:
        """A wider prior, or smaller steps."""
        return "lower delta (--delta) or the learning rate (--lr)"
