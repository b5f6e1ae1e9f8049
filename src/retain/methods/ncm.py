"""Nearest class mean: the plainest classifier that never forgets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, final

from torch import Generator, Tensor

from retain.closed_form import Moments, below, features, gradient_step, portions, width
from retain.method import Method, Traits, Update, check_choices
from retain.types import Batch, Params, Problem, Task


class State(NamedTuple):
    """The sums, and how many tasks are over."""

    moments: Moments
    tasks: int


@final
@dataclass(frozen=True)
class NCM(Method[State]):
    """y = arg min_c ||h - mu_c||, with mu_c the mean feature of class c.

    (Mensink et al. 2013, with the plain distance.) The means come from running sums, so
    order and portions of the examples play no part. No gradient step is taken, but on the first task
    if `on` is first.
    """

    traits: ClassVar[Traits] = Traits(
        stores="statistics", cost="one forward pass", boundaries=False, steps=0.3, closed_form=True
    )
    paper: ClassVar[str] = (
        "Mensink, Verbeek, Perronnin & Csurka 2013, Distance-based image classification, TPAMI"
    )

    on: Literal["input", "network", "first"] = "input"  # first: a network trained on the first task

    def __post_init__(self) -> None:
        check_choices(self)

    @property
    def needs(self) -> Traits:
        """To know when the first task is over, where it is the one that the network learns."""
        first = self.on == "first"
        return replace(self.traits, boundaries=first, closed_form=not first)

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Sums of nothing."""
        dim = width(self.on, problem, params)
        return params, State(Moments.zero(problem.spec, dim, second=False), 0)

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
        """Minus the squared distances; the network's own logits while it learns the first task."""
        if self.on == "first" and not state.tasks:
            return problem.logits(params, x, task)
        m, h = state.moments, features(self.on, problem, params, x).double()
        means = m.s / m.n.clamp_min(1)[:, None]
        return below(-((h[:, None] - means) ** 2).sum(2), m.known).to(x.dtype)

    def forget(self, state: State, classes: list[int]) -> State:
        """As if no example of these classes had ever come, exactly. Consumes the state."""
        return state._replace(moments=state.moments.forget(classes))

    def remove(self, state: State, problem: Problem, params: Params, x: Tensor, y: Tensor) -> State:
        """As if these examples, learned before, had never come, exactly. Consumes the state."""
        return state._replace(moments=state.moments.add(features(self.on, problem, params, x), y, -1))
