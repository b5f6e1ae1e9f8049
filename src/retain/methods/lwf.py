"""Learning without forgetting: on the new inputs, go on answering as the old network did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final, get_args

import torch
from torch import Generator, Tensor

from retain import tree
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.types import HIDDEN, Batch, Loss, Params, Problem, Task, weighted

ANSWERS = "lwf"  # where the old network's logits travel in batch.extra


class State(NamedTuple):
    """The network as it was after the last task, and what it knew."""

    previous: Params | None
    past: tuple[int, ...]  # numbers of the tasks before; HIDDEN where the scenario hides them
    known: Tensor  # bool [C]: classes of the tasks before


@final
@dataclass(frozen=True)
class LwF(GradientMethod[State]):
    """1/k L_new(y, p) + (1 - 1/k) L_old(p_o, p'_o) in task k.

    (Li & Hoiem 2017, eq. 2 and 3; weights: van de Ven et al. 2022.) L_old = - T^2 sum_c p_o,c log p'_o,c
    on the current inputs: p_o are the old network's probabilities and p'_o the new one's, both
    softened by the temperature T. In the task scenario it is the mean over the past tasks, each among
    its own classes. Otherwise the old network answers among the classes in play that it knew, the
    new one among all in play; where all outputs are in play from the start, both among all of them.
    Nothing of the data is stored. With `lam` the loss is L_new + lam L_old, as in the paper. Of another loss l
    than the cross-entropy it is L_old = T^2 l(f' / T, a(f / T)), a(f / T) the old network's probabilities, or numbers.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss),
        cost="one step and a forward pass of the old network",
        fails_in=("class",),
        steps=1.3,
    )
    paper: ClassVar[str] = "Li & Hoiem 2017, arXiv:1606.09282; weights: van de Ven et al. 2022"

    temperature: float = 2.0  # T, > 0
    lam: float | None = None  # weight of L_old beside a whole L_new; none: 1/k new and 1 - 1/k old

    def __post_init__(self) -> None:
        check_numbers(self, {"temperature": "a number > 0", "lam": "a number >= 0 or none"})

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """No old network yet."""
        known = torch.zeros(problem.spec.classes, dtype=torch.bool, device=problem.spec.device)
        return params, State(None, (), known)

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """The batch with the old network's logits beside it."""
        if state.previous is None:
            return batch, state
        old = problem.logits(state.previous, batch.x, batch.task)
        return batch._replace(extra={**batch.extra, ANSWERS: old}), state

    def loss(
        self, problem: Problem, params: Params, state: State, batch: Batch, logits: Tensor, loss: Tensor
    ) -> Tensor:
        """L_new and L_old together."""
        if state.previous is None:
            return loss
        T, k = self.temperature, len(state.past) + 1
        old, new = batch.extra[ANSWERS] / T, logits / T
        asked = state.past if int(batch.task[0]) != HIDDEN else (HIDDEN,)
        per_task = []
        for t in asked:
            in_play = problem.allowed(torch.full_like(batch.task, t))
            knew = None if in_play is None else in_play & state.known
            per_task.append(problem.each(new, problem.answers(old, knew), in_play))
        losses = torch.stack(per_task).mean(0)
        L_old = T**2 * weighted(batch, losses)
        if self.lam is not None:
            return loss + self.lam * L_old
        return loss / k + (1 - 1 / k) * L_old

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """What the network is now is what the next task must not forget."""
        known = state.known.clone()
        known[list(task.classes)] = True
        return params, State(tree.clone(params), (*state.past, task.index), known)
