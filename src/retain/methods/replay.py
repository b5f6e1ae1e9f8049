"""Experience replay: train on a few kept examples of the past beside the new ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, final

from torch import Generator

from retain.memory import Balanced, Reservoir, beside
from retain.method import GradientMethod, Traits, Update, check_choices
from retain.types import Batch, Params, Problem, Task


class State(NamedTuple):
    """The memory (None before the first batch) and the number of tasks learned."""

    memory: Reservoir | Balanced | None
    tasks: int


@final
@dataclass(frozen=True)
class Replay(GradientMethod[State]):
    """Descend the mean loss of the batch together with as many examples drawn from a memory.

    (Chaudhry et al. 2019, algorithm 1: ER.) The memory fills while learning, by reservoir sampling or
    balanced over tasks and classes. With weighting `tasks`, in task k the new batch counts 1 / k and
    the replayed one 1 - 1 / k (van de Ven et al. 2022); with `examples`, every example counts alike.
    """

    traits: ClassVar[Traits] = Traits(
        stores="examples", cost="one step on twice the examples", boundaries=False
    )
    paper: ClassVar[str] = "Chaudhry et al. 2019, arXiv:1902.10486 (ER)"

    memory: int = 2000  # examples kept in all
    select: Literal["reservoir", "balanced"] = "reservoir"  # a uniform sample, or equal room for each class
    replay_batch: int | None = None  # examples replayed each step; none: as many as are new
    weighting: Literal["examples", "tasks"] = "examples"  # every example alike, or 1/k and 1 - 1/k

    def __post_init__(self) -> None:
        check_choices(self)
        if self.memory < 0:
            raise ValueError(f"Replay.memory must be >= 0, got {self.memory}")
        if self.replay_batch is not None and self.replay_batch < 1:
            raise ValueError(f"Replay.replay_batch must be >= 1, got {self.replay_batch}")

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing kept yet."""
        return params, State(None, 0)

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """The batch and what is replayed beside it; then the batch is offered to the memory."""
        kind = Reservoir if self.select == "reservoir" else Balanced
        memory: Any = state.memory or kind.like(batch, self.memory)
        both = batch
        if memory.slots.filled and state.tasks:
            old = memory.draw(self.replay_batch or len(batch.y), rng)
            both = beside(batch, old, state.tasks + 1 if self.weighting == "tasks" else None)
        return both, State(memory.add(batch, state.tasks, rng), state.tasks)

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """One more task is past."""
        return params, State(state.memory, state.tasks + 1)

    def examples_stored(self, state: State) -> int:
        """As many as the memory holds."""
        return 0 if state.memory is None else state.memory.slots.filled
