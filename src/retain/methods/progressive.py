"""Progressive networks: a new column for each task, which also reads what the older ones compute."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final, get_args

import torch
from torch import Generator, Tensor

from retain import tree
from retain.inputs import plain
from retain.method import Method, Traits, Update, check_numbers
from retain.optim import Optim
from retain.parts import buffers, by_task, head_of, laterals, one_task, run
from retain.types import Batch, Loss, Params, Problem, Task

PREFIX = "lateral."


class State(NamedTuple):
    """theta_0, the layers that read older columns, the frozen columns, and the tasks begun."""

    start: Params
    layers: tuple[str, ...]
    columns: tuple[Params, ...]  # of the tasks learned
    tasks: tuple[int, ...]  # numbers of the tasks begun; the last one's column may still learn


@final
@dataclass(frozen=True)
class Progressive(Method[State]):
    """h_i^k = f(W_i^k h_(i-1)^k + sum_(j<k) U_i^(k:j) h_(i-1)^j): column k of task k, the older ones frozen.

    (Rusu et al. 2016, eq. 1; without eq. 2's adapters.) A column is a network such as the model, which
    itself is the newest; all begin at the model's first weights, and all U at 0. Every linear and
    plain conv2d layer but the first reads what the same layer takes in in the older columns. Time and
    memory grow with the square of the tasks. A task never begun is predicted by the newest column.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss),
        growth="with tasks",
        cost="one step and one pass through each older column",
        scenarios=("task",),
        steps=math.inf,
    )
    paper: ClassVar[str] = "Rusu et al. 2016, arXiv:1606.04671"

    lateral_lr: float = 1e-3  # Adam's learning rate for U

    def __post_init__(self) -> None:
        check_numbers(self, {"lateral_lr": "a number > 0"})

    def optimizers(self) -> dict[str, Optim]:
        """The lateral weights' own."""
        return {PREFIX: Optim("adam", lr=self.lateral_lr)}

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """The first column is the model; its lateral weights read nothing, [out, 0, ...].

        Raises:
            ValueError: no layer could read an older column, or the logits are not the last linear layer's.
        """
        _, traced = head_of(problem, params)
        layers = tuple(plain(traced, problem.spec.names))[1:]
        if not layers:
            raise ValueError("Progressive needs at least two linear or plain conv2d layers")
        start = tree.clone(params, (*problem.spec.names, *buffers(problem, params)))
        return params | _named(0, laterals(params, layers, 0)), State(start, layers, (), ())

    def begin_task(
        self, problem: Problem, params: Params, state: State, task: Task, rng: Generator
    ) -> tuple[Params, State]:
        """A column at theta_0, and U = 0 towards the older ones."""
        k = len(state.tasks)
        params = params | tree.clone(state.start)
        if k:
            params |= _named(k, laterals(params, state.layers, k))
        return params, state._replace(tasks=(*state.tasks, task.index))

    def observe(
        self, problem: Problem, params: Params, state: State, batch: Batch, update: Update, rng: Generator
    ) -> tuple[Params, State, Tensor]:
        """One step of the newest column and its lateral weights."""
        if one_task(batch.task) != state.tasks[-1]:
            raise ValueError(f"Progressive learns the task begun last, {state.tasks[-1]}")
        logits = run(problem, *_columns(params, state, len(state.tasks) - 1), batch.x, batch.task, True)
        loss = problem.batch_loss(batch, logits)
        grads = tree.gradients(loss, {n: p for n, p in params.items() if p.requires_grad})
        with torch.no_grad():
            params = update(params, grads)
        return params, state, loss.detach()

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """Freeze the column."""
        return params, state._replace(columns=(*state.columns, tree.clone(params, state.start)))

    def predict(self, problem: Problem, params: Params, state: State, x: Tensor, task: Tensor) -> Tensor:
        """Each example through its own task's column."""

        def one(x: Tensor, t: Tensor) -> Tensor:
            k = state.tasks.index(int(t[0])) if int(t[0]) in state.tasks else max(0, len(state.tasks) - 1)
            return run(problem, *_columns(params, state, k), x, t, False)

        return by_task(one, x, task)


def _named(k: int, U: Params) -> Params:
    return {f"{PREFIX}{k}.{layer}": u for layer, u in U.items()}


def _columns(params: Params, state: State, k: int) -> tuple[list[Params], list[Params]]:
    """The columns up to the k-th, and what each reads of those before it."""
    columns = [params | column for column in state.columns[: k + 1]]
    columns += [params] * (k + 1 - len(columns))
    return columns, [{name: params[f"{PREFIX}{j}.{name}"] for name in state.layers} for j in range(k + 1)]
