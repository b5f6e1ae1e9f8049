"""Joint training: all data so far, from the initial weights, after each task: the upper bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, final, get_args

from torch import Generator

from retain import tree
from retain.method import GradientMethod, Traits
from retain.types import Loss, Params, Problem, Task


class State(NamedTuple):
    """theta_0, the weights before any task."""

    start: Params


@final
@dataclass(frozen=True)
class Joint(GradientMethod[State]):
    """After task k, train anew from theta_0 on the data of tasks 1..k together.

    No method of lifelong learning: it keeps all data and its cost grows with every task. What it
    reaches is what the network could know.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss),
        stores="examples",
        growth="with tasks",
        cost="one step; as many as all tasks so far have",
        steps=math.inf,
    )
    paper: ClassVar[str] = "the upper bound: multi-task training, Caruana 1997"
    data: ClassVar[Literal["task", "all so far"]] = "all so far"

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Keep theta_0."""
        return params, State(tree.clone(params))

    def begin_task(
        self, problem: Problem, params: Params, state: State, task: Task, rng: Generator
    ) -> tuple[Params, State]:
        """Back to theta_0, running statistics included."""
        return tree.clone(state.start), state
