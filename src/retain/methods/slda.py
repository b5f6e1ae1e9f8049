"""Streaming linear discriminant analysis: class means and one covariance, kept as running sums."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, final

from torch import Generator, Tensor

from retain.closed_form import (
    Moments,
    features,
    gradient_step,
    lda,
    portions,
    scores,
    solved,
    width,
)
from retain.method import Method, Traits, Update, check_choices, check_numbers
from retain.types import Batch, Params, Problem, Task


class State(NamedTuple):
    """The sums, and how many tasks are over."""

    moments: Moments
    tasks: int


@final
@dataclass(frozen=True)
class SLDA(Method[State]):
    """score_c(h) = w_c' h + b_c, w_c = Lambda mu_c, b_c = -1/2 mu_c' Lambda mu_c.

    (Hayes & Kanan 2020, section 3.) Lambda = [(1 - eps) Sigma + eps t I]^-1, with Sigma the covariance
    within classes and t the mean of its diagonal (the paper's t is 1, which depends on the features'
    scale). Sigma and the means come from running sums, so the result is that of the batch formula for
    any order and portions of the examples. No gradient step is taken, but on the first task if `on` is
    first.
    """

    traits: ClassVar[Traits] = Traits(
        stores="statistics",
        cost="one forward pass; one solve before a prediction",
        boundaries=False,
        steps=0.3,
        closed_form=True,
    )
    paper: ClassVar[str] = "Hayes & Kanan 2020, arXiv:1909.01520"

    on: Literal["input", "network", "first"] = "input"  # first: a network trained on the first task
    shrinkage: float = 1e-2  # eps, of the covariance towards t I, in (0, 1]
    priors: bool = False  # count frequent classes as more likely
    apart: bool = False  # keep each class's second moments, so that a class can be forgotten

    def __post_init__(self) -> None:
        check_choices(self)
        check_numbers(self, {"shrinkage": "in (0, 1]"})

    @property
    def needs(self) -> Traits:
        """To know when the first task is over, where it is the one that the network learns."""
        first = self.on == "first"
        return replace(self.traits, boundaries=first, closed_form=not first)

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Sums of nothing."""
        dim = width(self.on, problem, params)
        return params, State(Moments.zero(problem.spec, dim, self.apart), 0)

    def observe(
        self, problem: Problem, params: Params, state: State, batch: Batch, update: Update, rng: Generator
    ) -> tuple[Params, State, Tensor]:
        """Add the batch to the sums."""
        if self.on == "first" and not state.tasks:
            params, loss = gradient_step(problem, params, batch, update)
            return params, state, loss
        h = features(self.on, problem, params, batch.x)
        return params, state, state.moments.take_in(h, batch.y)

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """After the first task, if the network learned it: its examples' features, now that they are final."""
        if self.on == "first" and not state.tasks:
            for x, y in portions(task.train, problem.spec.device):
                state.moments.add(features(self.on, problem, params, x), y)
        return params, State(state.moments, state.tasks + 1)

    def predict(self, problem: Problem, params: Params, state: State, x: Tensor, task: Tensor) -> Tensor:
        """The discriminants; the network's own logits while it learns the first task."""
        if self.on == "first" and not state.tasks:
            return problem.logits(params, x, task)
        m, h = state.moments, features(self.on, problem, params, x)
        return scores(h, solved(lda, m, self.shrinkage, self.priors), m.known)

    def forget(self, state: State, classes: list[int]) -> State:
        """As if no example of these classes had ever come, exactly; needs `apart`. Consumes the state."""
        return state._replace(moments=state.moments.forget(classes))

    def remove(self, state: State, problem: Problem, params: Params, x: Tensor, y: Tensor) -> State:
        """As if these examples, learned before, had never come, exactly. Consumes the state."""
        return state._replace(moments=state.moments.add(features(self.on, problem, params, x), y, -1))
