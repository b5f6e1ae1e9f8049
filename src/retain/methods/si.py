"""Synaptic intelligence: guard each parameter by how much it helped to lower the loss so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final, get_args

import torch
from torch import Generator

from retain import tree
from retain.curvature import Quadratic
from retain.curvature.path import Path
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.types import Batch, Loss, Params, Problem, Step, Task


class State(NamedTuple):
    """The guard of the past tasks, and the way gone in the current one (None between tasks)."""

    penalty: Quadratic | None  # Omega (theta - theta~)^2
    path: Path | None
    start: Params  # theta when the task began; empty between tasks


@final
@dataclass(frozen=True)
class SI(GradientMethod[State]):
    """L(theta) + c sum_i Omega_i (theta~_i - theta_i)^2, theta~ the weights after the last task.

    (Zenke et al. 2017, eq. 4.) Omega_i = sum over past tasks of omega_i / (Delta_i^2 + xi) (eq. 5),
    with Delta_i the way that parameter i went in the task, and omega_i (eq. 3) its share of the
    decrease of the task's own loss, summed along that way. As in the authors' code Omega is at
    least 0. There is no 1/2 before c.

    SGD diverges once lr * 2 c max Omega > 2, and Omega grows with the tasks: what fits a few may stop
    late on many, which want a smaller c or lr. The recipes' c, 10 to 3000 on the 5 tasks of Split
    MNIST, are for Adam at lr 0.001.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss),
        stores="statistics",
        cost="one step, a pull and a sum over the step",
        fails_in=("class",),
    )
    paper: ClassVar[str] = "Zenke, Poole & Ganguli 2017, arXiv:1703.04200"

    c: float = 1.0  # strength of the guard, >= 0; with SGD less for many tasks, or a lower lr
    xi: float = 0.1  # damping: bounds omega / Delta^2 where a parameter hardly moved, > 0

    def __post_init__(self) -> None:
        check_numbers(self, {"c": "a number >= 0", "xi": "a number > 0"})

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing to guard yet."""
        return params, State(None, None, {})

    def begin_task(
        self, problem: Problem, params: Params, state: State, task: Task, rng: Generator
    ) -> tuple[Params, State]:
        """The way begins here."""
        names = problem.spec.names
        return params, State(state.penalty, Path.start(params, names), tree.clone(params, names))

    def gradient(self, problem: Problem, params: Params, state: State, batch: Batch, grads: Params) -> Params:
        """g + 2 c Omega (theta - theta~); g alone is what the path integral is taken over.

        (In a chain: what came before SI belongs to g, what comes after does not.)
        """
        if state.path is not None:
            state.path.note(grads)
        return grads if state.penalty is None else state.penalty.pull(2 * self.c, params, grads)

    def after_step(self, problem: Problem, params: Params, state: State, step: Step) -> tuple[Params, State]:
        """omega - g (theta after - theta before)."""
        if state.path is not None:
            state.path.walk(step)
        return params, state

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """Omega grows by omega / (Delta^2 + xi), and the guard moves to where the weights are."""
        assert state.path is not None
        here = tree.clone(params, problem.spec.names)
        Omega = {}
        for k, omega in state.path.omega.items():
            new = omega / ((here[k] - state.start[k]).square() + self.xi)
            Omega[k] = torch.relu(new if state.penalty is None else new + state.penalty.weight[k])
        return params, State(Quadratic.around(Omega, here), None, {})

    def inspect(self, problem: Problem, params: Params, state: State, end: bool) -> dict[str, Any]:
        """After each task, the mean of Omega over each layer's parameters."""
        return {"importance": state.penalty.by_layer()} if end and state.penalty else {}

    def stiffness(self, state: State) -> tuple[float, str]:
        """2 c max Omega."""
        if state.penalty is None:
            return 0.0, ""
        size = 2 * self.c * state.penalty.largest()
        return (size, "2 * c * max Omega") if size else (0.0, "")

    @property
    def remedy(self) -> str:
        """A weaker guard."""
        return "lower c (--c) or the learning rate (--lr), or raise xi (--xi)"
