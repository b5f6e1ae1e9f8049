"""iCaRL: features learned from new examples and kept exemplars, classes told apart by exemplar means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, final

import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor

from retain import tree
from retain.memory import Exemplars, beside, class_means, herded
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.types import Batch, Params, Problem, Task, weighted


class State(NamedTuple):
    """Exemplars, their means, the network after the last task, and how the current task stands to it."""

    memory: Exemplars | None
    means: Tensor | None  # [C, D], of length 1; 0 where a class has no exemplar
    known: Tensor  # bool [C]: classes of the tasks before
    old: Tensor  # bool [C]: those of them that the current task does not have
    previous: Params | None
    share: float  # exemplars per new example in the union of both


@final
@dataclass(frozen=True)
class ICaRL(GradientMethod[State]):
    """Descend -[sum_(y new) d log g_y + (1 - d) log(1 - g_y) + sum_(y old) q_y log g_y + (1 - q_y) log(1 - g_y)].

    (Rebuffi et al. 2017, algorithm 3; the mean over new examples and exemplars.) g = sigmoid(logits), d = 1
    for the label, q what the network gave before this task. It predicts the class whose mean exemplar is
    nearest, arg min_y ||f - mu_y||, f the features divided by their length. Exemplars are chosen by
    herding at the end of a task (algorithm 4); each batch has as large a share of them as they have of all
    examples. Until the first task is over it predicts by the logits. A class that comes again in a later
    task is learned by its labels there.
    """

    traits: ClassVar[Traits] = Traits(
        stores="examples", cost="one step and one forward pass of the old network", steps=1.3
    )
    paper: ClassVar[str] = "Rebuffi et al. 2017, arXiv:1611.07725"

    memory: int = 2000  # exemplars kept in all; of each class, if per_class
    per_class: bool = False  # a class never gives up exemplars to those that come later
    temperature: float = 1.0  # q = sigmoid(old logits / temperature); the paper has 1, van de Ven et al. 2

    def __post_init__(self) -> None:
        check_numbers(self, {"memory": ">= 1", "temperature": "a number > 0"})

    @property
    def needs(self) -> Traits:
        """What it keeps grows where every class has a room of its own."""
        return replace(self.traits, growth="with classes") if self.per_class else self.traits

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """No exemplar, no class."""
        none = torch.zeros(problem.spec.classes, dtype=torch.bool, device=problem.spec.device)
        return params, State(None, None, none, none.clone(), None, 0.0)

    def begin_task(
        self, problem: Problem, params: Params, state: State, task: Task, rng: Generator
    ) -> tuple[Params, State]:
        """Which classes are old, and how large a share the exemplars have."""
        old = state.known.clone()
        old[list(task.classes)] = False
        held = 0 if state.memory is None else len(state.memory.y)
        return params, state._replace(old=old, share=held / len(task.train))

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """New examples and exemplars, in the proportion in which their union has them."""
        if state.memory is None:
            return batch, state
        n = max(1, round(state.share * len(batch.y)))
        return beside(batch, state.memory.draw(n, rng)), state

    def loss(
        self, problem: Problem, params: Params, state: State, batch: Batch, logits: Tensor, loss: Tensor
    ) -> Tensor:
        """That of algorithm 3 over the classes in play, instead of the cross-entropy."""
        y = batch.y if batch.y.dim() > 1 else nnf.one_hot(batch.y, logits.shape[1])
        target = y.to(logits)
        if state.previous is not None:
            with torch.no_grad():
                q = (problem.logits(state.previous, batch.x, batch.task) / self.temperature).sigmoid()
            target = torch.where(state.old, q, target)
        each = nnf.binary_cross_entropy_with_logits(logits, target, reduction="none")
        allowed = problem.allowed(batch.task)
        losses = each.sum(1) if allowed is None else (each * allowed).sum(1)
        return weighted(batch, losses)

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """Exemplars of the task's classes, and the means of all exemplars, by the network as it is now."""
        first = task.batch(torch.zeros(1, dtype=torch.int64), problem.spec.device)
        memory = state.memory or Exemplars.like(first, self.memory, self.per_class)
        room = memory.room(len(task.train.labels().unique()))
        memory = memory.add(herded(problem, params, task.train, task.index, room))
        known = state.known.clone()
        known[list(task.classes)] = True
        means = class_means(problem, params, memory.all())
        return params, State(memory, means, known, known.clone(), tree.clone(params), 0.0)

    def predict(self, problem: Problem, params: Params, state: State, x: Tensor, task: Tensor) -> Tensor:
        """-||f - mu_c||^2; a class without exemplars is further away than any point of length 1 can be."""
        if state.means is None:
            return problem.logits(params, x, task)
        f = nnf.normalize(problem.features(params, x), dim=1)
        distance = (f * f).sum(1, True) - 2 * f @ state.means.T + (state.means**2).sum(1)
        return -distance.masked_fill((state.means == 0).all(1), 5.0)

    def examples_stored(self, state: State) -> int:
        """The exemplars."""
        return 0 if state.memory is None else len(state.memory.y)
