"""Gradient episodic memory: never step against what the past tasks want."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple, final, get_args

import torch
from torch import Generator, Tensor

from retain import tree
from retain.curvature import covered, group_gradients
from retain.memory import Ring, joined
from retain.method import GradientMethod, Traits, Update, check_choices, check_numbers
from retain.projection import project
from retain.types import Batch, Loss, Params, Problem, Task


class State(NamedTuple):
    """Memories of the past tasks end to end, the current task's ring, and what the last step saw."""

    past: tuple[Tensor, Tensor, Tensor] | None  # x, y, task of all past memories
    sizes: tuple[int, ...]  # examples of each
    ring: Ring | None
    layers: tuple[str, ...]  # whose gradients are put together for all tasks in one pass
    cosine: Tensor  # [past tasks] of g with each g_k, at the last step
    steps: int  # in this task
    violations: Tensor  # of them, how many had some g . g_k < 0
    v: Tensor  # [past tasks] of eq. 11 at the last step; 0 where g stood


@final
@dataclass(frozen=True)
class GEM(GradientMethod[State]):
    """Step along g', the closest vector to g with g' . g_k >= 0 for every past task k.

    (Lopez-Paz & Ranzato 2017, eq. 8.) g_k is the gradient of the mean loss on task k's memory. The
    dual (eq. 11): minimise 1/2 v'(GG' + ridge I)v + (Gg)'v subject to v >= margin; g' = G'v + g. A
    margin > 0 leans towards the past, so that backward transfer can be positive.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss),
        stores="examples",
        growth="with tasks",
        cost="one step and one gradient of each task's memory",
        steps=math.inf,
    )
    paper: ClassVar[str] = "Lopez-Paz & Ranzato 2017, arXiv:1706.08840"

    memory_per_task: int = 256  # examples kept of each task
    margin: float = 0.5  # lower bound on v, >= 0; the released code's memory strength
    ridge: float = 1e-3  # added to the diagonal of GG', >= 0
    choice: Literal["ring", "random"] = "ring"  # the last ones seen, or drawn at random

    def __post_init__(self) -> None:
        check_choices(self)
        check_numbers(self, dict.fromkeys(("memory_per_task", "margin", "ridge"), "a number >= 0"))

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing remembered yet."""
        none = torch.zeros(0)
        return params, State(None, (), None, (), none, 0, torch.zeros(()), none.clone())

    def begin_task(
        self, problem: Problem, params: Params, state: State, task: Task, rng: Generator
    ) -> tuple[Params, State]:
        """Find the layers that one pass covers."""
        layers = state.layers
        if state.past is not None and not layers:
            x, _, t = state.past
            layers = covered(problem, params, x, t)
        return params, state._replace(layers=layers, steps=0, violations=torch.zeros(()))

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """Remember the batch."""
        state = state._replace(steps=state.steps + 1)
        if self.choice == "random" or not self.memory_per_task:
            return batch, state
        ring = state.ring or Ring.like(batch, self.memory_per_task)
        return batch, state._replace(ring=ring.add(batch))

    def gradient(self, problem: Problem, params: Params, state: State, batch: Batch, grads: Params) -> Params:
        """g where it harms no past task, else g'."""
        if state.past is None:
            return grads
        names = problem.spec.names
        ends = torch.tensor((0, *state.sizes)).cumsum(0).tolist()
        groups = [slice(a, b) for a, b in pairwise(ends)]
        G = group_gradients(problem, params, Batch(*state.past), groups, state.layers)
        g = tree.flatten(grads, names)
        dots = G @ g
        state.cosine.copy_(dots / (G.norm(dim=1) * g.norm()).clamp_min(1e-30))
        violated = bool((dots < 0).any())
        state.violations.add_(violated)
        if not violated:
            state.v.zero_()
            return grads
        g_new, v = project(g, G, self.margin, self.ridge)
        state.v.copy_(v)
        return grads | tree.unflatten(g_new, grads, names)

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """The current task's memory joins the past ones."""
        kept = self._kept(state, task, rng, problem.spec.device)
        if kept is None or len(kept.y) == 0:
            return params, state._replace(ring=None)
        past = joined(state.past, kept)
        sizes = (*state.sizes, len(kept.y))
        none = params[problem.spec.names[0]].new_zeros(len(sizes))
        return params, state._replace(past=past, sizes=sizes, ring=None, cosine=none, v=none.clone())

    def _kept(self, state: State, task: Task, rng: Generator, device: torch.device) -> Batch | None:
        if self.choice == "ring":
            return None if state.ring is None else state.ring.slots.all()
        chosen = torch.randperm(len(task.train), generator=rng)[: self.memory_per_task]
        return task.batch(chosen, device)

    def examples_stored(self, state: State) -> int:
        """Past memories and what the ring holds."""
        return sum(state.sizes) + (0 if state.ring is None else state.ring.slots.filled)

    def inspect(self, problem: Problem, params: Params, state: State, end: bool) -> dict[str, Any]:
        """cos(g, g_k) and v at the last step, and the share of the task's steps that were projected."""
        if end or state.past is None or not state.steps:
            return {}
        share = float(state.violations) / state.steps
        return {"cosine": state.cosine.tolist(), "multipliers": state.v.tolist(), "violations": share}
