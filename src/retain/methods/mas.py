"""Memory aware synapses: guard each parameter by how much the outputs depend on it, without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final, get_args

from torch import Generator

from retain import tree
from retain.curvature import Quadratic
from retain.curvature.absolute import sensitivity
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.types import Batch, Loss, Params, Problem, Task


class State(NamedTuple):
    """The guard of the past tasks; None before the first is learned."""

    penalty: Quadratic | None  # Omega (theta - theta*)^2


@final
@dataclass(frozen=True)
class MAS(GradientMethod[State]):
    """L(theta) + lam sum_i Omega_i (theta_i - theta*_i)^2, theta* the weights after the last task.

    (Aljundi et al. 2018, eq. 4.) Omega_i is the mean over examples of |d ||F(x; theta)||^2 / d theta_i|
    (eq. 2 and 3, with the squared norm of the outputs), example by example, and summed over the past
    tasks. F are the logits of the classes in play. No label is used, and there is no 1/2 before lam.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss), stores="statistics", cost="one step and a pull", fails_in=("class",)
    )
    paper: ClassVar[str] = "Aljundi et al. 2018, arXiv:1711.09601"

    lam: float = 1.0  # strength of the guard, >= 0
    examples: int | None = None  # of the task, drawn for Omega; none: all of them

    def __post_init__(self) -> None:
        check_numbers(self, {"lam": "a number >= 0", "examples": ">= 1 or none (all)"})

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing to guard yet."""
        return params, State(None)

    def gradient(self, problem: Problem, params: Params, state: State, batch: Batch, grads: Params) -> Params:
        """g + 2 lam Omega (theta - theta*)."""
        return grads if state.penalty is None else state.penalty.pull(2 * self.lam, params, grads)

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """The task's Omega is added, and the guard moves to where the weights are."""
        Omega = sensitivity(problem, params, task.train, task.index, rng, self.examples)
        if state.penalty is not None:
            Omega = {k: W + state.penalty.weight[k] for k, W in Omega.items()}
        return params, State(Quadratic.around(Omega, tree.clone(params, problem.spec.names)))

    def inspect(self, problem: Problem, params: Params, state: State, end: bool) -> dict[str, Any]:
        """After each task, the mean of Omega over each layer's parameters."""
        return {"importance": state.penalty.by_layer()} if end and state.penalty else {}

    def stiffness(self, state: State) -> tuple[float, str]:
        """2 lam max Omega."""
        if state.penalty is None:
            return 0.0, ""
        return 2 * self.lam * state.penalty.largest(), "2 * lam * max Omega"

    @property
    def remedy(self) -> str:
        """A weaker guard."""
        return "lower lam (--lam) or the learning rate (--lr)"
