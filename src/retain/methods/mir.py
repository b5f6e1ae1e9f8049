"""Maximally interfered retrieval: replay what the step about to be taken would harm most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final, get_args

import torch
from torch import Generator, Tensor

from retain import tree
from retain.memory import Reservoir, beside
from retain.method import GradientMethod, Traits, check_numbers
from retain.types import Batch, Loss, Params, Problem, Step


class State(NamedTuple):
    """The memory (None before the first batch) and the learning rates of the last step."""

    memory: Reservoir | None
    lr: dict[str, float]


@final
@dataclass(frozen=True)
class MIR(GradientMethod[State]):
    """Replay the k examples x of the memory whose s(x) = l(f_v(x), y) - l(f(x), y) is largest.

    (Aljundi et al. 2019, algorithm 1: ER-MIR.) f_v is the network after the step of
    plain SGD along the new batch alone that would be taken now, v = theta - lr grad L(f(X_t), Y_t);
    the k are chosen among `candidates` times as many, drawn at random from a reservoir. Then one step
    descends the mean loss of both. lr is the optimiser's at the step before; v and s are computed in
    evaluation mode, which leaves running statistics alone.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss),
        stores="examples",
        cost="one step on twice the examples, one on the new ones and two passes over the candidates",
        boundaries=False,
        steps=3.7,
    )
    paper: ClassVar[str] = "Aljundi et al. 2019, arXiv:1908.04742 (ER-MIR)"

    memory: int = 500  # examples kept in all
    candidates: int = 5  # drawn for each example that is replayed
    replay_batch: int | None = None  # examples replayed each step; none: as many as are new

    def __post_init__(self) -> None:
        check_numbers(self, {"memory": ">= 0", "candidates": ">= 1", "replay_batch": ">= 1"})

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing kept yet."""
        return params, State(None, {})

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """The batch and the most interfered beside it; then the batch is offered to the memory."""
        memory = state.memory or Reservoir.like(batch, self.memory)
        both, filled = batch, memory.slots.filled
        if filled:
            k = min(self.replay_batch or len(batch.y), filled)
            i = memory.slots.pick(min(self.candidates * k, filled), rng)
            s = interference(problem, params, batch, memory.slots.at(i), state.lr)
            both = beside(batch, memory.slots.at(i[s.topk(k).indices]))
        return both, state._replace(memory=memory.add(batch, 0, rng))

    def after_step(self, problem: Problem, params: Params, state: State, step: Step) -> tuple[Params, State]:
        """The learning rates are seen only here."""
        return params, state._replace(lr={k: step.lr[k] for k in problem.spec.names})

    def examples_stored(self, state: State) -> int:
        """As many as the memory holds."""
        return 0 if state.memory is None else state.memory.slots.filled


def interference(problem: Problem, params: Params, new: Batch, old: Batch, lr: dict[str, float]) -> Tensor:
    """By how much the loss of each of `old` [N] rises in a step of plain SGD along `new`: [N]."""
    with torch.enable_grad():
        loss = problem.loss(params, new, train=False)
        grads = tree.gradients(loss, {k: params[k] for k in problem.spec.names})
    with torch.no_grad():
        moved = {k: params[k] - lr[k] * g for k, g in grads.items()}
        after = problem.losses(params | moved, old, train=False)
        return after - problem.losses(params, old, train=False)
