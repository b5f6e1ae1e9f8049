"""GDumb: keep a balanced memory greedily, and train from scratch on it alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Generator, Tensor

from retain import tree
from retain.memory import Balanced
from retain.method import Method, Traits, Update, check_numbers
from retain.types import Batch, Params, Problem, Task


class State(NamedTuple):
    """theta_0, the memory, and how many tasks are over."""

    start: Params
    memory: Balanced | None
    tasks: int


@final
@dataclass(frozen=True)
class GDumb(Method[State]):
    """Greedy sampler and dumb learner: theta = train(theta_0, memory), whenever a task is over.

    (Prabhu et al. 2020, algorithm 1 and section 3.) While a task's examples pass nothing is learned: an
    example enters the memory while its class has less than an equal share, in the place of one of the
    largest class once that is full; of each class a uniform sample is kept. At the end of the task the
    network goes back to its first weights and is trained on the memory alone, with the learner's
    optimiser at its learning rate.
    """

    traits: ClassVar[Traits] = Traits(
        stores="examples",
        cost="no step; at a task's end, epochs over the memory from the first weights",
        steps=0,
    )
    paper: ClassVar[str] = "Prabhu, Torr & Dokania 2020, GDumb, ECCV"

    memory: int = 2000  # examples kept in all
    memory_epochs: int = 30  # passes over the memory at the end of each task
    memory_batch: int = 32  # most examples a step there

    def __post_init__(self) -> None:
        check_numbers(self, dict.fromkeys(("memory", "memory_epochs", "memory_batch"), ">= 1"))

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Keep theta_0."""
        return params, State(tree.clone(params), None, 0)

    def observe(
        self, problem: Problem, params: Params, state: State, batch: Batch, update: Update, rng: Generator
    ) -> tuple[Params, State, Tensor]:
        """Offer the batch to the memory; the loss is that of the network as it stands."""
        with torch.no_grad():
            loss = problem.loss(params, batch, train=False)
            memory = state.memory or Balanced.like(batch, self.memory)
            memory = memory.add(batch, state.tasks, rng)
        return params, state._replace(memory=memory), loss

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """From theta_0, epochs over the memory."""
        update.reset()
        state = state._replace(tasks=state.tasks + 1)
        params = tree.clone(state.start)
        if state.memory is None:
            return params, state
        held = state.memory.slots.all()
        steps = -(-len(held.y) // self.memory_batch)
        with torch.random.fork_rng(devices=[]):  # Dropout draws from torch's own generator
            torch.manual_seed(int(torch.randint(2**62, (), generator=rng)))
            for _ in range(self.memory_epochs):
                order = torch.randperm(len(held.y), generator=rng).to(held.y.device)
                for i in order.tensor_split(steps):  # as even as can be: BatchNorm takes no batch of one
                    params = _step(problem, params, Batch(held.x[i], held.y[i], held.task[i]), update)
        return params, state

    def examples_stored(self, state: State) -> int:
        """As many as the memory holds."""
        return 0 if state.memory is None else state.memory.slots.filled

    def inspect(self, problem: Problem, params: Params, state: State, end: bool) -> dict[str, Any]:
        """After each task, how many examples of each class the memory holds."""
        if not end or state.memory is None:
            return {}
        return {"held": state.memory.slots.all().y.bincount(minlength=problem.spec.classes).tolist()}


def _step(problem: Problem, params: Params, batch: Batch, update: Update) -> Params:
    moved = {k: params[k].detach().requires_grad_() for k in problem.spec.names}
    with torch.enable_grad():
        loss = problem.loss(params | moved, batch)
    return update(params, tree.gradients(loss, moved))
