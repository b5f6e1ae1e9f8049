"""GSS-greedy: keep the examples whose gradients point apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final, get_args

import torch
from torch import Generator, Tensor

from retain.curvature import covered
from retain.curvature.products import gradient_products
from retain.memory import Slots, beside
from retain.method import GradientMethod, Traits, check_numbers
from retain.types import Batch, Loss, Params, Problem


class State(NamedTuple):
    """The memory with the score of each example in it, and the layers that one pass covers."""

    slots: Slots | None
    scores: Tensor | None  # [capacity] c, in [0, 2]
    layers: tuple[str, ...]


@final
@dataclass(frozen=True)
class GSS(GradientMethod[State]):
    """c = 1 + max_i cos(g, G_i), g the gradient of a new example, G_i those of a few in the memory.

    (Aljundi et al. 2019, algorithm 2: GSS-greedy.) While there is room every example is kept. Then one
    with c < 1, unlike all that it is compared with, challenges a kept one i that is drawn with a
    probability proportional to C_i, and takes its place and score with probability C_i / (C_i + c). Each
    step descends the mean loss of the batch together with as many examples of the memory.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss),
        stores="examples",
        cost="one step on twice the examples, and one backward pass for scores",
        boundaries=False,
        steps=2.3,
    )
    paper: ClassVar[str] = "Aljundi et al. 2019, arXiv:1903.08671"

    memory: int = 2000  # examples kept in all
    compare: int = 10  # examples of the memory that each new one is compared with
    replay_batch: int | None = None  # examples replayed each step; none: as many as are new

    def __post_init__(self) -> None:
        check_numbers(self, {"memory": ">= 0", "compare": ">= 1", "replay_batch": ">= 1"})

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing kept yet."""
        return params, State(None, None, ())

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """The batch and what is replayed beside it; then the batch is offered to the memory."""
        if not self.memory:
            return batch, state
        if state.slots is None or state.scores is None:
            layers = covered(problem, params, batch.x, batch.task)
            state = State(Slots.like(batch, self.memory), batch.x.new_zeros(self.memory), layers)
        assert state.slots is not None
        both = batch
        if state.slots.filled:
            both = beside(batch, state.slots.draw(self.replay_batch or len(batch.y), rng))
        return both, self._offer(problem, params, state, batch, rng)

    def _offer(self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator) -> State:
        slots, scores, n = state.slots, state.scores, len(batch.y)
        assert slots is not None and scores is not None
        c = torch.ones(n, dtype=torch.float64)  # with nothing to compare with: neither like nor unlike
        if slots.filled:
            few = slots.draw(min(self.compare, slots.filled), rng)
            K = gradient_products(problem, params, beside(batch, few), state.layers)
            length = K.diagonal().sqrt().clamp_min(1e-30)
            c = 1 + (K / length / length[:, None])[:n, n:].amax(1).double().cpu()
        u = torch.rand(n, 2, generator=rng, dtype=torch.float64).tolist()
        C, room = scores.double().cpu(), min(n, self.memory - slots.filled)
        places = {slots.filled + row: row for row in range(room)}
        C[slots.filled : slots.filled + room] = c[:room]
        for row in range(room, n):
            i = _drawn(C, u[row][0])
            if c[row] < 1 and u[row][1] * (C[i] + c[row]) < C[i]:
                places[i], C[i] = row, c[row]
        slots = slots.put(list(places), batch, list(places.values()))
        return State(slots, scores.copy_(C), state.layers)

    def examples_stored(self, state: State) -> int:
        """As many as the memory holds."""
        return 0 if state.slots is None else state.slots.filled


def _drawn(weights: Tensor, u: float) -> int:
    """An index of weights [n], drawn with a probability proportional to its weight by u in [0, 1)."""
    ends = weights.cumsum(0)
    return min(int(torch.searchsorted(ends, u * ends[-1], right=True)), len(weights) - 1)
