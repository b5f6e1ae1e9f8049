"""Riemannian walk: guard each parameter by its Fisher information and by what its moves achieved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final, get_args

import torch
from torch import Generator

from retain import tree
from retain.curvature import Quadratic
from retain.curvature.diagonal import batch_fisher, covered_by
from retain.curvature.path import Path, scaled
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.types import Batch, Loss, Params, Problem, Step, Task


class State(NamedTuple):
    """The guard of the past tasks, and Fisher and scores as they are now."""

    penalty: Quadratic | None  # (F + s)(theta - theta*)^2, both scaled to [0, 1]
    F: Params  # moving average over training; empty before the first step
    s: Params  # scores of the past tasks, averaged; empty before the first task is over
    path: Path | None  # since the last interval began; None between tasks
    start: Params  # theta when it began; empty between tasks
    new: Params  # scores of the current task; empty between tasks
    steps: int  # in the current task
    layers: tuple[str, ...]  # whose gradients are put together in one pass


@final
@dataclass(frozen=True)
class RWalk(GradientMethod[State]):
    """L(theta) + lam sum_i (F_i + s_i) (theta_i - theta*_i)^2, theta* the weights after the last task.

    (Chaudhry et al. 2018, eq. 8, without its memory of examples.) F = alpha F_now + (1 - alpha) F (eq. 6)
    is the empirical Fisher of the batch, of single examples, taken anew after every `every` steps. s_i (eq. 7)
    sums over such intervals what the parameter's moves took off the loss, if it is positive, divided by
    F_i Delta_i^2 / 2 + eps, their length as the model's output has it. After each task the old and the new
    scores are averaged; F and s are scaled to [0, 1] before they are added.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss),
        stores="statistics",
        cost="one step, a pull, a sum over the step and now and then a Fisher of the batch",
        fails_in=("class",),
    )
    paper: ClassVar[str] = "Chaudhry et al. 2018, arXiv:1801.10112"

    lam: float = 1.0  # strength of the guard, >= 0
    alpha: float = 0.9  # share of the newest batch in the Fisher, in (0, 1]
    every: int = 10  # steps between looks at Fisher and scores
    eps: float = 1e-3  # added to the length of a move, > 0

    def __post_init__(self) -> None:
        rules = {"lam": "a number >= 0", "alpha": "in (0, 1]", "every": ">= 1", "eps": "a number > 0"}
        check_numbers(self, rules)

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing to guard yet."""
        return params, State(None, {}, {}, None, {}, {}, 0, ())

    def begin_task(
        self, problem: Problem, params: Params, state: State, task: Task, rng: Generator
    ) -> tuple[Params, State]:
        """The walk begins here."""
        here = tree.clone(params, problem.spec.names)
        new = {k: torch.zeros_like(p) for k, p in here.items()}
        layers = covered_by(problem, params, task.train, task.index)
        path = Path.start(here, here)
        return params, state._replace(path=path, start=here, new=new, steps=0, layers=layers)

    def gradient(self, problem: Problem, params: Params, state: State, batch: Batch, grads: Params) -> Params:
        """g + 2 lam (F + s)(theta - theta*); g alone is what the scores are taken from."""
        if state.path is not None:
            state.path.note(grads)
        return grads if state.penalty is None else state.penalty.pull(2 * self.lam, params, grads)

    def after_step(self, problem: Problem, params: Params, state: State, step: Step) -> tuple[Params, State]:
        """The step's share of the walk; at the end of an interval its scores, then a new Fisher."""
        if state.path is None:
            return params, state
        state.path.walk(step)
        F, steps = state.F, state.steps + 1
        if not F:
            F = batch_fisher(problem, params, step.batch, state.layers)
        elif steps % self.every == 0:
            self._score(state, params)
            now = batch_fisher(problem, params, step.batch, state.layers)
            F = {k: self.alpha * now[k] + (1 - self.alpha) * F[k] for k in F}
        return params, state._replace(F=F, steps=steps)

    def _score(self, state: State, params: Params) -> None:
        """Close an interval, in place."""
        assert state.path is not None
        for k, s in state.path.score(state.F, state.start, params, self.eps).items():
            state.new[k].add_(s)
            state.start[k].copy_(params[k].detach())
        state.path.clear()

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """Average the scores, and guard where the weights are now."""
        here = tree.clone(params, problem.spec.names)
        if not state.F:  # no step was made
            return params, state._replace(path=None, start={}, new={})
        self._score(state, params)
        s = {k: (state.s[k] + new) / 2 if state.s else new for k, new in state.new.items()}
        F01, s01 = scaled(state.F), scaled(s)
        penalty = Quadratic.around({k: F01[k] + s01[k] for k in s}, here)
        return params, State(penalty, state.F, s, None, {}, {}, 0, state.layers)

    def inspect(self, problem: Problem, params: Params, state: State, end: bool) -> dict[str, Any]:
        """After each task, the mean of F + s over each layer's parameters."""
        return {"importance": state.penalty.by_layer()} if end and state.penalty else {}

    def stiffness(self, state: State) -> tuple[float, str]:
        """2 lam max (F + s)."""
        if state.penalty is None:
            return 0.0, ""
        return 2 * self.lam * state.penalty.largest(), "2 * lam * max (F + s)"

    @property
    def remedy(self) -> str:
        """A weaker guard."""
        return "lower lam (--lam) or the learning rate (--lr)"
