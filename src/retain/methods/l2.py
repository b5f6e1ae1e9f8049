"""L2: stay near the old weights, all of them alike: EWC with b_i = 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final, get_args

import torch
from torch import Generator

from retain import tree
from retain.curvature import Quadratic
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.types import Batch, Loss, Params, Problem, Task


class State(NamedTuple):
    """The sum of the past tasks' penalties; None before the first is learned."""

    penalty: Quadratic | None


@final
@dataclass(frozen=True)
class L2(GradientMethod[State]):
    """L(theta) + lam / 2 sum_k sum_i (theta_i - theta_k,i)^2, theta_k the weights after task k.

    The comparison of Kirkpatrick et al. 2017, figure 2A: a guard that is as strong for parameters
    that matter to nothing as for those that matter most.
    """

    traits: ClassVar[Traits] = Traits(fails_in=("class",), losses=get_args(Loss))
    paper: ClassVar[str] = "Kirkpatrick et al. 2017, arXiv:1612.00796, figure 2A (the L2 line)"

    lam: float = 1.0  # strength of the pull to each old task's weights, >= 0

    def __post_init__(self) -> None:
        check_numbers(self, {"lam": "a number >= 0"})

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing to guard yet."""
        return params, State(None)

    def gradient(self, problem: Problem, params: Params, state: State, batch: Batch, grads: Params) -> Params:
        """g + lam sum_k (theta - theta_k)."""
        return grads if state.penalty is None else state.penalty.pull(self.lam, params, grads)

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """Guard theta_k from now on."""
        here = tree.clone(params, problem.spec.names)
        ones = {k: torch.ones_like(p) for k, p in here.items()}
        new = Quadratic.around(ones, here)
        return params, State(new if state.penalty is None else state.penalty.plus(new))

    def stiffness(self, state: State) -> tuple[float, str]:
        """lam times the number of tasks guarded."""
        if state.penalty is None:
            return 0.0, ""
        return self.lam * state.penalty.largest(), "lam * tasks"

    @property
    def remedy(self) -> str:
        """A weaker pull."""
        return "lower lam (--lam) or the learning rate (--lr)"
