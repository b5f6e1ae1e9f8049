"""Experience replay: train on a few kept examples of the past beside the new ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, final, get_args

import torch
from torch import Generator

from retain.losses import classes_of
from retain.memory import Balanced, Exemplars, Reservoir, beside, drawn, herded, in_bytes, slots_for
from retain.method import GradientMethod, Growth, Traits, Update, check_choices, check_numbers
from retain.types import Batch, Loss, Params, Problem, Task

AT_THE_END = ("random", "herding")  # of a task they choose what to keep of it; the others, while learning


class State(NamedTuple):
    """The memory (None while nothing was offered to it) and the number of tasks learned."""

    memory: Reservoir | Balanced | Exemplars | None
    tasks: int


@final
@dataclass(frozen=True)
class Replay(GradientMethod[State]):
    """Descend the mean loss of the batch together with as many examples drawn from a memory.

    (Chaudhry et al. 2019, algorithm 1: ER.) The memory fills while learning and is replayed from the
    second batch on: a uniform sample of all examples seen (reservoir), or equal room for each class of
    each task, for a uniform sample (balanced) or the newest (ring). Or it takes, at the end of each
    task, equally many examples of each class, drawn at random or by herding (Rebuffi et al. 2017,
    algorithm 4): only past tasks are replayed then (naive rehearsal of Hsu et al. 2018), and with
    weighting `tasks`, in task k, the new batch counts 1 / k and the replayed one 1 - 1 / k (van de Ven
    et al. 2022).
    """

    traits: ClassVar[Traits] = Traits(
        stores="examples", cost="one step on twice the examples", boundaries=False, steps=2
    )
    paper: ClassVar[str] = "Chaudhry et al. 2019, arXiv:1902.10486 (ER)"

    memory: int = 2000  # examples kept in all
    memory_bytes: str | None = None  # such as 2GB: as many as a file so large holds; none: `memory`, in RAM
    memory_file: str | None = None  # that file's folder; none: the run's own (without --out a temporary one)
    select: Literal["reservoir", "ring", "balanced", "random", "herding"] = "reservoir"  # who is kept
    per_class: bool = False  # memory counts examples of each class; random and herding only
    replay_batch: int | None = None  # examples replayed each step; none: as many as are new
    weighting: Literal["examples", "tasks"] = "examples"  # all alike; or 1/k and 1 - 1/k: random, herding

    def __post_init__(self) -> None:
        check_choices(self)
        check_numbers(self, {"memory": ">= 0", "replay_batch": ">= 1"})
        if self.memory_bytes is not None:
            in_bytes(self.memory_bytes)
            if self.select in AT_THE_END:
                raise ValueError(f"Replay.memory_bytes must be none where select is {self.select}")
        elif self.memory_file is not None:
            raise ValueError("Replay.memory_file needs memory_bytes: how large the file may become")
        for name, plain in (("per_class", False), ("weighting", "examples")):
            value = getattr(self, name)
            if value != plain and self.select not in AT_THE_END:
                raise ValueError(
                    f"Replay.{name} must be {plain} where select is {self.select}, got {value}: only random and "
                    "herding choose at the end of a task, and so replay past tasks alone"
                )

    @property
    def needs(self) -> Traits:
        """What chooses at the end of a task must be told of it; what chooses by class needs classes."""
        growth: Growth = "with classes" if self.per_class else "constant"
        by_class = self.per_class or self.select == "herding"
        losses = self.traits.losses if by_class else get_args(Loss)  # targets without classes: all of one
        return replace(self.traits, boundaries=self.select in AT_THE_END, growth=growth, losses=losses)

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing kept yet."""
        return params, State(None, 0)

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """The batch and what is replayed beside it; then the batch is offered to the memory."""
        memory: Any = state.memory
        both = batch
        if memory is not None and memory.filled:
            old = memory.draw(self.replay_batch or len(batch.y), rng)
            both = beside(batch, old, state.tasks + 1 if self.weighting == "tasks" else None)
        if self.select not in AT_THE_END:
            memory = (memory or self._empty(problem, batch)).add(batch, state.tasks, rng)
        return both, State(memory, state.tasks)

    def _empty(self, problem: Problem, batch: Batch) -> Reservoir | Balanced:
        slots = slots_for(problem, batch, self.memory, self.memory_bytes, self.memory_file)
        if self.select == "reservoir":
            return Reservoir(slots, 0)
        return Balanced.over(slots, newest=self.select == "ring")

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """One more task is past, and examples of it are chosen."""
        memory: Any = state.memory
        if self.select in AT_THE_END:
            memory = self._chosen(problem, params, memory, task, rng)
        return params, State(memory, state.tasks + 1)

    def _chosen(
        self, problem: Problem, params: Params, memory: Exemplars | None, task: Task, rng: Generator
    ) -> Exemplars:
        if memory is None:
            first = task.batch(torch.zeros(1, dtype=torch.int64), problem.spec.device)
            memory = Exemplars.like(first, self.memory, self.per_class)
        labels = classes_of(task.train.labels())
        k = memory.room(len(labels.unique()))
        if self.select == "herding":
            sets = herded(problem, params, task.train, task.index, k)
        else:
            sets = drawn(task, k, rng, problem.spec.device)
        of_class = dict(zip(labels.unique().tolist(), sets, strict=True))
        # In the order in which they first occur: what a class is called must make no difference.
        return memory.add(tuple(of_class[c] for c in dict.fromkeys(labels.tolist())))

    def examples_stored(self, state: State) -> int:
        """As many as the memory holds."""
        return 0 if state.memory is None else state.memory.filled
