"""Averaged gradient episodic memory: never step against what the past as a whole wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final, get_args

import torch
from torch import Generator, Tensor

from retain import tree
from retain.curvature import group_gradients
from retain.memory import joined
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.types import Batch, Loss, Params, Problem, Task


class State(NamedTuple):
    """The memories of the past tasks, end to end; None before there are any."""

    past: tuple[Tensor, Tensor, Tensor] | None  # x, y, task


@final
@dataclass(frozen=True)
class AGEM(GradientMethod[State]):
    """Step along g~ = g - (g'g_ref / g_ref'g_ref) g_ref where g'g_ref < 0, and along g elsewhere.

    (Chaudhry et al. 2019, eq. 11.) g_ref is the gradient of the mean loss of a batch drawn from all
    memories together: GEM with one constraint instead of one for each past task.
    """

    traits: ClassVar[Traits] = Traits(losses=get_args(Loss),
        stores="examples", growth="with tasks", cost="one step and one gradient of a batch of memories",
        fails_in=("class",), steps=2)  # fmt: skip
    paper: ClassVar[str] = "Chaudhry et al. 2019, arXiv:1812.00420"

    memory_per_task: int = 256  # examples kept of each task, drawn at its end
    reference: int = 256  # of them all, drawn each step for g_ref

    def __post_init__(self) -> None:
        check_numbers(self, {"memory_per_task": ">= 0", "reference": ">= 1"})

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing remembered yet."""
        return params, State(None)

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """Draw the examples of g_ref, without replacement."""
        if state.past is None:
            return batch, state
        chosen = torch.randperm(len(state.past[1]), generator=rng)[: self.reference].to(batch.x.device)
        drawn = tuple(t[chosen] for t in state.past)
        return batch._replace(extra=batch.extra | {"agem": drawn}), state

    def gradient(self, problem: Problem, params: Params, state: State, batch: Batch, grads: Params) -> Params:
        """g where it harms the past in no way, else g~."""
        if "agem" not in batch.extra:
            return grads
        names = problem.spec.names
        reference = Batch(*batch.extra["agem"])
        g_ref = group_gradients(problem, params, reference, [slice(0, len(reference.y))], ())[0]
        g = tree.flatten(grads, names)
        dot = g @ g_ref
        if not dot < 0:
            return grads
        return grads | tree.unflatten(g - dot / (g_ref @ g_ref) * g_ref, grads, names)

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """A random sample of the task joins the memories."""
        chosen = torch.randperm(len(task.train), generator=rng)[: self.memory_per_task]
        if not len(chosen):
            return params, state
        return params, State(joined(state.past, task.batch(chosen, problem.spec.device)))

    def examples_stored(self, state: State) -> int:
        """All memories together."""
        return 0 if state.past is None else len(state.past[1])
