"""Hard attention to the task: each task learns which hidden units it uses, and later ones spare them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final, get_args

import torch
from torch import Generator, Tensor

from retain import tree
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.optim import Optim
from retain.parts import Units, by_task, hold, of_each_task, one_task, without
from retain.parts.attention import LIMIT, PREFIX, Annealing, embeddings, fresh, made_up_for, soft, taken
from retain.types import Batch, Loss, Params, Problem, Step, Task


class State(NamedTuple):
    """The hidden units, which of them past tasks use, and where in the annealing we are."""

    units: Units
    used: tuple[Tensor, ...]  # bool [width] for each hidden layer
    kept: dict[str, Params]  # by the task's number: its head and running statistics
    clock: Annealing


@final
@dataclass(frozen=True)
class HAT(GradientMethod[State]):
    """h_l <- a_l h_l, a_l^t = sigma(s e_l^t); the loss plus c R, R the share of free units that is taken.

    (Serra et al. 2018, eq. 1, 4 and 5.) A task's attention a is learned with it; s is annealed from
    1 / s_max to s_max within each epoch (eq. 3). A weight between units that past tasks both use is
    frozen: g_l,ij <- (1 - min(a_l,i, a_l-1,j)) g_l,ij (eq. 2). In prediction the gates are hard, 1 where
    e > 0, and it is these that past tasks are guarded by, so their outputs do not change at all. Each
    task has a head and running statistics of its own; norms are frozen after the first task.
    """

    traits: ClassVar[Traits] = Traits(losses=get_args(Loss), growth="with tasks", scenarios=("task",))
    paper: ClassVar[str] = "Serra et al. 2018, arXiv:1801.01423"

    c: float = 0.75  # weight of the regulariser over free units, >= 0
    s_max: float = 400.0  # the steepest gate, > 1
    anneal: int | None = None  # steps in which s rises to s_max; none: an epoch
    embedding_lr: float = 0.05  # SGD's learning rate for e

    def __post_init__(self) -> None:
        rules = {"c": "a number >= 0", "s_max": "a number > 1", "anneal": ">= 1 or none (an epoch)"}
        check_numbers(self, rules | {"embedding_lr": "a number > 0"})

    def optimizers(self) -> dict[str, Optim]:
        """The embeddings' own."""
        return {PREFIX: Optim("sgd", lr=self.embedding_lr)}

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """No unit is used yet.

        Raises:
            ValueError: the network's layers form no chain.
        """
        units = Units.of(problem, params)
        used = tuple(torch.zeros(w, dtype=torch.bool, device=problem.spec.device) for w in units.widths)
        return params, State(units, used, {}, Annealing())

    def begin_task(
        self, problem: Problem, params: Params, state: State, task: Task, rng: Generator
    ) -> tuple[Params, State]:
        """e ~ N(0, 1) for each unit."""
        e = fresh(state.units, params, task.index, rng)
        return e | params, state._replace(clock=Annealing(len(task.train)))

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """s = 1 / s_max + (s_max - 1 / s_max) (b - 1) / (B - 1) for batch b of B."""
        return batch, state._replace(clock=state.clock.next(len(batch.y), self.anneal, self.s_max))

    def view(
        self, problem: Problem, params: Params, state: State, task: Tensor, rng: Generator | None
    ) -> Params:
        """The network through the task's gates: soft while it is learned, hard when predicting."""
        e = embeddings(state.units, params, one_task(task))
        if not e:  # never begun
            return params
        if rng is not None:
            return state.units.gate(params, soft(e, state.clock.s))
        return state.units.gate(params | state.kept.get(str(int(task[0])), {}), [v > 0 for v in e.values()])

    def loss(
        self, problem: Problem, params: Params, state: State, batch: Batch, logits: Tensor, loss: Tensor
    ) -> Tensor:
        """L + c sum a (1 - a_past) / sum (1 - a_past)."""
        e = embeddings(state.units, params, one_task(batch.task))
        return loss + taken(self.c, soft(e, state.clock.s), state.used)

    def gradient(self, problem: Problem, params: Params, state: State, batch: Batch, grads: Params) -> Params:
        """Frozen weights get none; e's, which s has shrunk, is made up for (section 2.5)."""
        if state.kept:
            grads = without(grads, state.units.held(problem, params, state.used))
        e = embeddings(state.units, params, one_task(batch.task))
        return made_up_for(grads, e, state.clock.s, self.s_max)

    def after_step(self, problem: Problem, params: Params, state: State, step: Step) -> tuple[Params, State]:
        """What past tasks use has not moved, whatever the optimiser did; e stays in [-6, 6]."""
        if state.kept:
            hold(params, step.before, state.units.held(problem, params, state.used))
        for v in embeddings(state.units, params, one_task(step.batch.task)).values():
            v.clamp_(-LIMIT, LIMIT)
        return params, state

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """The units that this task uses are used from now on."""
        e = embeddings(state.units, params, task.index).values()
        used = tuple(u | (v > 0) for u, v in zip(state.used, e, strict=True))
        own = tree.clone(params, of_each_task(problem, params, state.units.layers[-1]))
        return params, state._replace(used=used, kept=state.kept | {str(task.index): own})

    def predict(self, problem: Problem, params: Params, state: State, x: Tensor, task: Tensor) -> Tensor:
        """Each example through its own task's gates."""
        return by_task(lambda x, t: problem.logits(self.view(problem, params, state, t, None), x, t), x, task)

    def inspect(self, problem: Problem, params: Params, state: State, end: bool) -> dict[str, Any]:
        """The share of each hidden layer's units that past tasks use."""
        shares = [float(u.double().mean()) for u in state.used]
        return {"used": dict(zip(state.units.layers[:-1], shares, strict=True))} if end else {}
