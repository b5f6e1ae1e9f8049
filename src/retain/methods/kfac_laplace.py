"""Kronecker-factored online Laplace: guard how the weights of a layer act together, not one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, final, get_args

from torch import Generator

from retain.curvature import Kronecker, Labels, kfac
from retain.losses import with_fisher
from retain.method import GradientMethod, Traits, Update, check_choices, check_numbers
from retain.types import Batch, Loss, Params, Problem, Task


class State(NamedTuple):
    """The penalty of all past tasks; None before the first is learned."""

    penalty: Kronecker | None


@final
@dataclass(frozen=True)
class KFACLaplace(GradientMethod[State]):
    """L(theta) + lam / 2 (theta - theta_t)' Lambda_t (theta - theta_t), Lambda_t = Lambda_{t-1} + H_t.

    (Ritter, Botev & Barber 2018: online Laplace, around the latest weights theta_t.) H_t
    is the Fisher information at theta_t, the Gauss-Newton matrix of the mean loss, in Kronecker
    factors G (x) A for each linear or convolutional layer (K-FAC), its diagonal for all else.
    Around `each`, every task's quadratic stays around its own weights:
    lam / 2 sum_k (theta - theta_k)' H_k (theta - theta_k), firmer where training stops short.

    A sum of Kronecker products is none. With merge `exact` all pairs are kept, and the step is that
    of the sum itself; with `nearest` it is kept as the one product nearest to it in Frobenius norm,
    so that time and memory do not grow with the tasks.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss),
        stores="statistics",
        growth="with tasks",
        cost="one step and two products a layer for each task",
        fails_in=("class",),
        steps=math.inf,
    )
    paper: ClassVar[str] = "Ritter, Botev & Barber 2018, arXiv:1805.07810"

    lam: float = 1.0  # strength of the guard, >= 0; 1: an old task counts as much as the new one
    merge: Literal["exact", "nearest"] = "exact"  # the past as one pair of factors a task, or one in all
    around: Literal["latest", "each"] = "latest"  # the weights guarded: the latest, or each task's own
    labels: Labels = "exact"  # the Fisher's: expected exactly, sampled, true, or the model's choice
    examples: int | None = 2000  # of the task, drawn for the Fisher; none: all of them

    def __post_init__(self) -> None:
        check_choices(self)
        check_numbers(self, {"lam": "a number >= 0", "examples": ">= 1 or none (all)"})
        if self.around == "each" and self.merge != "exact":
            raise ValueError("KFACLaplace.around each needs every task's factors: merge must be exact")

    @property
    def needs(self) -> Traits:
        """Merged into one pair it is constant in time and memory."""
        mine = replace(self.traits, losses=with_fisher(self.labels))
        if self.merge == "exact":
            return mine
        return replace(mine, growth="constant", cost="one step and two products a layer", steps=1)

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing to guard yet."""
        return params, State(None)

    def gradient(self, problem: Problem, params: Params, state: State, batch: Batch, grads: Params) -> Params:
        """g + lam Lambda_t (theta - theta_t)."""
        return grads if state.penalty is None else state.penalty.pull(self.lam, params, grads)

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """H_t at theta_t, added to the guard."""
        past = state.penalty
        layers = None if past is None else tuple(past.A)
        H = kfac(problem, params, task.train, task.index, rng, self.labels, self.examples, layers=layers)
        total = Kronecker.around(H, params)
        if past is not None:
            total = past.plus(total)
            if self.merge == "nearest":
                total = total.nearest(params)
            elif self.around == "latest":
                total = total.recentred(params)
        return params, State(total)

    def inspect(self, problem: Problem, params: Params, state: State, end: bool) -> dict[str, Any]:
        """After each task, the mean of the diagonal of Lambda over each layer's parameters."""
        return {"importance": state.penalty.by_layer()} if end and state.penalty else {}

    def stiffness(self, state: State) -> tuple[float, str]:
        """lam times the largest eigenvalue of Lambda."""
        if state.penalty is None or not (size := self.lam * state.penalty.largest()):
            return 0.0, ""
        return size, "lam * largest eigenvalue"

    @property
    def remedy(self) -> str:
        """A weaker guard, or smaller steps."""
        return "lower lam (--lam) or the learning rate (--lr)"
