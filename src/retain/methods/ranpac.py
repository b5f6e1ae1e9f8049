"""RanPAC's head: ridge regression on a random projection of features."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, final

from torch import Generator, Tensor

from retain.closed_form import (
    Moments,
    add_apart,
    best_ridge,
    features,
    gradient_step,
    normal,
    portions,
    ridge,
    scores,
    solved,
    width,
)  # fmt: skip
from retain.method import Method, Traits, Update, check_choices, check_numbers
from retain.types import Batch, Params, Problem, Task


class State(NamedTuple):
    """The projection, the sums, those of the held-out fifth (where lam is chosen by it), tasks over."""

    P: Tensor  # [D, M]
    moments: Moments
    held: Moments | None
    tasks: int


LAMS = tuple(10.0**i for i in range(-3, 6))  # the paper tries 10^-8 to 10^8


@final
@dataclass(frozen=True)
class RanPAC(Method[State]):
    """y = arg max_c phi(h' P) (G + lam I)^-1 C, G = sum phi phi', C = sum phi y', phi = max(0, .).

    (McDonnell et al. 2023, algorithm 1.) P is random and never learned; y is one-hot. The
    projected features interact through the ReLU, and G decorrelates them. G and C are running sums, so
    the result is that of the batch formula for any order and portions of the examples. No gradient step
    is taken, but on the first task if `on` is first.
    """

    traits: ClassVar[Traits] = Traits(
        stores="statistics",
        cost="one forward pass; one solve before a prediction",
        boundaries=False,
        steps=0.3,
        closed_form=True,
    )
    paper: ClassVar[str] = "McDonnell et al. 2023, RanPAC, arXiv:2307.02251"

    on: Literal["input", "network", "first"] = "input"  # first: a network trained on the first task
    size: int = 2000  # M, of the projection
    lam: float | None = None  # lambda, > 0; none: the best of 10^-3..10^5 on a held-out fifth
    apart: bool = False  # keep each class's second moments, so that a class can be forgotten

    def __post_init__(self) -> None:
        check_choices(self)
        check_numbers(self, {"size": ">= 1", "lam": "a number > 0"})

    @property
    def needs(self) -> Traits:
        """To know when the first task is over, where it is the one that the network learns."""
        first = self.on == "first"
        return replace(self.traits, boundaries=first, closed_form=not first)

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Sums of nothing, and P ~ N(0, 1 / D)."""
        dim = width(self.on, problem, params)
        P = normal(rng, problem.spec, dim, self.size) / math.sqrt(dim)
        held = None if self.lam is not None else Moments.zero(problem.spec, self.size, self.apart)
        return params, State(P, Moments.zero(problem.spec, self.size, self.apart), held, 0)

    def observe(
        self, problem: Problem, params: Params, state: State, batch: Batch, update: Update, rng: Generator
    ) -> tuple[Params, State, Tensor]:
        """Add the batch to the sums."""
        if self.on == "first" and not state.tasks:
            params, loss = gradient_step(problem, params, batch, update)
            return params, state, loss
        return params, state, self._add(problem, params, state, batch.x, batch.y)

    def _phi(self, problem: Problem, params: Params, state: State, x: Tensor) -> Tensor:
        """phi(h' P): [N, M]."""
        return (features(self.on, problem, params, x) @ state.P).relu()

    def _add(
        self, problem: Problem, params: Params, state: State, x: Tensor, y: Tensor, sign: int = 1
    ) -> Tensor:
        return add_apart(state.moments, state.held, self._phi(problem, params, state, x), x, y, sign)

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """After the first task, if the network learned it: its examples' features, now that they are final."""
        if self.on == "first" and not state.tasks:
            for x, y in portions(task.train, problem.spec.device):
                self._add(problem, params, state, x, y)
        return params, state._replace(tasks=state.tasks + 1)

    def predict(self, problem: Problem, params: Params, state: State, x: Tensor, task: Tensor) -> Tensor:
        """The regression; the network's own logits while it learns the first task."""
        if self.on == "first" and not state.tasks:
            return problem.logits(params, x, task)
        m, held = state.moments, state.held
        phi = self._phi(problem, params, state, x)
        if held is None:
            return scores(phi, solved(ridge, m, self.lam), m.known)
        return scores(phi, solved(best_ridge, m, held, LAMS), m.known | held.known)

    def forget(self, state: State, classes: list[int]) -> State:
        """As if no example of these classes had ever come, exactly; needs `apart`. Consumes the state."""
        held = None if state.held is None else state.held.forget(classes)
        return state._replace(moments=state.moments.forget(classes), held=held)

    def remove(self, state: State, problem: Problem, params: Params, x: Tensor, y: Tensor) -> State:
        """As if these examples, learned before, had never come, exactly. Consumes the state."""
        self._add(problem, params, state, x, y, -1)
        return state
