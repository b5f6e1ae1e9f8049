"""PackNet: each task takes its share of the weights that are still free, and keeps it for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final, get_args

import torch
from torch import Generator, Tensor

from retain import tree
from retain.curvature.layers import full_name
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.parts import Held, by_task, head_of, hold, of_each_task, one_task, step_without, without
from retain.types import Batch, Loss, Params, Problem, Step, Task


class State(NamedTuple):
    """Whose each weight is, and what each task has besides."""

    owner: dict[str, Tensor]  # int16, like each weight: 0 free, k the k-th task learned
    head: str  # the layer that gives the logits
    kept: dict[str, Params]  # by the task's number, in order: its head and running statistics
    batch_size: int  # the largest of a step, taken for retraining


@final
@dataclass(frozen=True)
class PackNet(GradientMethod[State]):
    """Task t runs on theta * (1 <= owner <= t); it may move only weights that are free (owner = 0).

    (Mallya & Lazebnik 2018, section 3.) After a task, in each layer, the smallest `prune` of its free
    weights are set to 0 and stay free; the others are retrained without them and frozen as the task's
    own. Biases and norms are frozen after the first task. The head and the norms' running statistics
    are no shared weights: each task has its own. Retraining runs in evaluation mode.
    """

    traits: ClassVar[Traits] = Traits(losses=get_args(Loss), growth="with tasks", scenarios=("task",))
    paper: ClassVar[str] = "Mallya & Lazebnik 2018, arXiv:1711.05769"

    prune: float = 0.75  # share of the free weights that is given back after each task, in [0, 1)
    retrain_epochs: int = 1  # passes over the task after pruning

    def __post_init__(self) -> None:
        check_numbers(self, {"prune": "in [0, 1)", "retrain_epochs": ">= 0"})

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Every weight is free.

        Raises:
            ValueError: the logits are not what the last linear layer gives.
        """
        head, _ = head_of(problem, params)
        own = of_each_task(problem, params, head)
        owner = {
            k: torch.zeros_like(params[k], dtype=torch.int16)
            for k in problem.spec.names if params[k].dim() > 1 and k not in own
        }  # fmt: skip
        return params, State(owner, head, {}, 1)

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """Note how large a step's batch is."""
        return batch, state._replace(batch_size=max(state.batch_size, len(batch.y)))

    def view(
        self, problem: Problem, params: Params, state: State, task: Tensor, rng: Generator | None
    ) -> Params:
        """For a task learned, its weights and those before it; otherwise the network as it is."""
        index = str(one_task(task))
        if rng is not None or index not in state.kept:
            return params
        t = 1 + list(state.kept).index(index)
        masked = {k: params[k] * ((o > 0) & (o <= t)) for k, o in state.owner.items()}
        return params | masked | state.kept[index]

    def gradient(self, problem: Problem, params: Params, state: State, batch: Batch, grads: Params) -> Params:
        """None for what is frozen: clipping must not count it."""
        return without(grads, _held(problem, state, 0))

    def after_step(self, problem: Problem, params: Params, state: State, step: Step) -> tuple[Params, State]:
        """What is frozen has not moved, whatever the optimiser did."""
        hold(params, step.before, _held(problem, state, 0))
        return params, state

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """Prune, retrain, freeze."""
        t = len(state.kept) + 1
        owner = {k: o.clone() for k, o in state.owner.items()}
        for k, o in owner.items():
            free = o == 0
            new = o.new_full((int(free.sum()),), t)
            new[params[k][free].abs().argsort(stable=True)[: int(self.prune * len(new))]] = 0
            o[free] = new
            params[k].masked_fill_(o == 0, 0)
        pruned = state._replace(owner=owner)
        held = _held(problem, pruned, t)
        for _ in range(self.retrain_epochs):
            for index in torch.randperm(len(task.train), generator=rng).split(state.batch_size):
                params = step_without(problem, params, task.batch(index, problem.spec.device), held, update)
        own = tree.clone(params, of_each_task(problem, params, state.head))
        return params, pruned._replace(kept=state.kept | {str(task.index): own})

    def predict(self, problem: Problem, params: Params, state: State, x: Tensor, task: Tensor) -> Tensor:
        """Each example through its own task's weights."""
        return by_task(lambda x, t: problem.logits(self.view(problem, params, state, t, None), x, t), x, task)

    def inspect(self, problem: Problem, params: Params, state: State, end: bool) -> dict[str, Any]:
        """The share of each layer's weights that is still free."""
        return {"free": {k: float((o == 0).double().mean()) for k, o in state.owner.items()}} if end else {}


def _held(problem: Problem, state: State, mine: int) -> Held:
    """What may not move: weights whose owner is not `mine`, and after the first task biases and norms."""
    held: Held = {k: o != mine for k, o in state.owner.items()}
    if state.kept:
        free = {*state.owner, full_name(state.head, 0), full_name(state.head, 1)}
        held |= {k: None for k in problem.spec.names if k not in free}
    return held
