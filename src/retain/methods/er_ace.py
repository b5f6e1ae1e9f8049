"""Replay with an asymmetric cross-entropy: new classes do not push the old ones down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Generator, Tensor

from retain.memory import Reservoir, mixed
from retain.method import GradientMethod, Traits, check_numbers
from retain.types import Batch, Params, Problem, cross_entropy


class State(NamedTuple):
    """The memory (None before the first batch) and the classes seen."""

    memory: Reservoir | None
    seen: Tensor  # bool [C]


@final
@dataclass(frozen=True)
class ERACE(GradientMethod[State]):
    """L_ce(X_bf, C_old + C_curr) + L_ce(X_in, C_curr).

    (Caccia et al. 2022: the ER-ACE loss.) The incoming batch X_in is told apart only among C_curr,
    the classes that occur in it, so that it pushes down no class which it does not hold; the replayed
    batch X_bf, from a reservoir, among all classes seen so far.
    """

    traits: ClassVar[Traits] = Traits(
        stores="examples", cost="one step on twice the examples", boundaries=False, steps=2
    )
    paper: ClassVar[str] = "Caccia et al. 2022, arXiv:2104.05025 (ER-ACE)"

    memory: int = 2000  # examples kept in all
    replay_batch: int | None = None  # examples replayed each step; none: as many as are new

    def __post_init__(self) -> None:
        check_numbers(self, {"memory": ">= 0", "replay_batch": ">= 1"})

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing seen yet."""
        return params, State(
            None, torch.zeros(problem.spec.classes, dtype=torch.bool, device=problem.spec.device)
        )

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """The batch and what is replayed beside it; then the batch is offered to the memory."""
        memory = state.memory or Reservoir.like(batch, self.memory)
        parts = [(batch, 1.0)]
        if memory.slots.filled:
            parts.append((memory.draw(self.replay_batch or len(batch.y), rng), 1.0))
        seen = state.seen.clone()
        seen[batch.y] = True
        both = mixed(*parts)._replace(extra={"new": len(batch.y)})
        return both, State(memory.add(batch, 0, rng), seen)

    def loss(
        self, problem: Problem, params: Params, state: State, batch: Batch, logits: Tensor, loss: Tensor
    ) -> Tensor:
        """The loss with the cross-entropy of each half among classes of its own in place of the plain one."""
        assert batch.weight is not None
        n, in_play = batch.extra["new"], problem.allowed(batch.task)
        current = torch.zeros_like(state.seen)
        current[batch.y[:n]] = True
        among = torch.cat([current.expand(n, -1), state.seen.expand(len(logits) - n, -1)])
        ace = cross_entropy(logits, batch.y, among if in_play is None else among & in_play)
        return loss + batch.weight @ (ace - cross_entropy(logits, batch.y, in_play))

    def examples_stored(self, state: State) -> int:
        """As many as the memory holds."""
        return 0 if state.memory is None else state.memory.slots.filled
