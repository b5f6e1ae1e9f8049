"""What replay from a generator remembers: generator and solver as they were, and what they knew."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.func import functional_call

from retain import tree
from retain.memory import beside
from retain.models.vae import VAE
from retain.types import HIDDEN, Batch, Params, Problem, Task, cross_entropy, probabilities, weighted


class Past(NamedTuple):
    """The params after the last task, and what had been learned by then."""

    previous: Params | None
    past: tuple[int, ...]  # numbers of the tasks before; HIDDEN where the scenario hides them
    known: Tensor  # bool [C]: classes of the tasks before

    @classmethod
    def empty(cls, problem: Problem) -> Past:
        """Before the first task."""
        known = torch.zeros(problem.spec.classes, dtype=torch.bool, device=problem.spec.device)
        return cls(None, (), known)

    def after(self, params: Params, task: Task) -> Past:
        """When one more task is over."""
        known = self.known.clone()
        known[list(task.classes)] = True
        return Past(tree.clone(params), (*self.past, task.index), known)

    def how_many(self, new: Batch, replay_batch: int | None) -> int:
        """Examples to replay beside the new ones: none before there is a past, else as many as asked or new."""
        return 0 if self.previous is None else replay_batch or len(new.y)

    def beside(self, new: Batch, old: Batch) -> Batch:
        """New and replayed examples, weighted 1 / k and 1 - 1 / k in task k."""
        return beside(new, old, len(self.past) + 1)

    def tasks(self, new: Batch, n: int, rng: Generator) -> Tensor:
        """The task numbers [n] of n replayed examples: a past one each where tasks are told apart."""
        task = new.task.new_full((n,), HIDDEN)
        if int(new.task[0]) == HIDDEN:
            return task
        which = torch.randint(len(self.past), (n,), generator=rng)
        return torch.tensor(self.past)[which].to(task)

    def in_play(self, problem: Problem, task: Tensor) -> Tensor:
        """bool [n, C]: the known classes among those in play for tasks [n]."""
        allowed = problem.allowed(task)
        return self.known.expand(len(task), -1) if allowed is None else allowed & self.known

    def classes(self, problem: Problem, task: Tensor, rng: Generator) -> Tensor:
        """A known class for each of tasks [n], each of those in play as likely."""
        p = self.in_play(problem, task).double().cpu()
        return torch.multinomial(p, 1, generator=rng)[:, 0].to(task)

    def targets(self, problem: Problem, logits: Tensor, task: Tensor, temperature: float) -> Tensor:
        """The previous solver's soft-max [n, C] among known classes, from its logits."""
        return probabilities(logits / temperature, self.in_play(problem, task))


def distilled(
    problem: Problem, batch: Batch, n: int, logits: Tensor, loss: Tensor, temperature: float
) -> Tensor:
    """The loss with T^2 times the cross-entropy at temperature T for the last n examples of the batch.

    (Hinton et al. 2015, section 2.1: T^2 keeps the gradient's size whatever T is.) The batch's y holds
    soft targets at that temperature, and `loss` their cross-entropy at temperature 1.
    """
    if n == 0 or batch.weight is None:
        return loss
    logits, y, weight, task = logits[-n:], batch.y[-n:], batch.weight[-n:], batch.task[-n:]
    allowed = problem.allowed(task)
    soft = temperature**2 * cross_entropy(logits / temperature, y, allowed)
    return loss + weight @ (soft - cross_entropy(logits, y, allowed))


def bound(vae: VAE, params: Params, batch: Batch, *given: Any) -> Tensor:
    """Minus the bound of a batch under an autoencoder with these parameters, as the batch weights it.

    `given` is what the autoencoder takes beside x: the noise of z, and what else its kind is told.
    """
    return weighted(batch, functional_call(vae, params, (batch.x, *given)))
