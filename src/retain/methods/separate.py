"""A network for each task: nothing is forgotten, and nothing is passed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final, get_args

from torch import Generator, Tensor

from retain import tree
from retain.method import GradientMethod, Traits, Update
from retain.parts import buffers, by_task, one_task
from retain.types import Loss, Params, Problem, Task


class State(NamedTuple):
    """theta_0, and the network of each task learned, by the task's number."""

    start: Params
    networks: dict[str, Params]


@final
@dataclass(frozen=True)
class Separate(GradientMethod[State]):
    """theta_t = the network trained from theta_0 on task t alone.

    The upper bound of what can be reached without any transfer between tasks; every task adds a whole
    network. A task that was never learned is predicted with the newest one.
    """

    traits: ClassVar[Traits] = Traits(losses=get_args(Loss), growth="with tasks", scenarios=("task",))
    paper: ClassVar[str] = "the bound without transfer: 'independent' in Lopez-Paz & Ranzato 2017, section 5"

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """theta_0 is kept when the first task begins."""
        return params, State({}, {})

    def begin_task(
        self, problem: Problem, params: Params, state: State, task: Task, rng: Generator
    ) -> tuple[Params, State]:
        """Back to theta_0, running statistics included."""
        if not state.start:
            own = (*problem.spec.names, *buffers(problem, params))
            return params, State(tree.clone(params, own), {})
        return params | tree.clone(state.start), state

    def view(
        self, problem: Problem, params: Params, state: State, task: Tensor, rng: Generator | None
    ) -> Params:
        """The task's own network."""
        index = str(one_task(task))
        return params if rng is not None else params | state.networks.get(index, {})

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """Keep the network; the next one starts with fresh moments."""
        update.reset()
        return params, State(state.start, state.networks | {str(task.index): tree.clone(params, state.start)})

    def predict(self, problem: Problem, params: Params, state: State, x: Tensor, task: Tensor) -> Tensor:
        """Each example through its own task's network."""
        return by_task(lambda x, t: problem.logits(self.view(problem, params, state, t, None), x, t), x, task)
