"""Gradient projection memory: step only where the past tasks' inputs of each layer do not reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final, get_args

import torch
from torch import Generator, Tensor

from retain.curvature.layers import full_name
from retain.inputs import Map, patches, plain, replace_steps, through
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.types import Batch, Loss, Params, Problem, Step, Task


class State(NamedTuple):
    """An orthonormal basis of each layer's past inputs, [D, k], and the number of tasks learned."""

    bases: dict[str, Tensor]
    tasks: int


@final
@dataclass(frozen=True)
class GPM(GradientMethod[State]):
    """dW <- dW - dW M M', with M a basis of what the layer took in during past tasks.

    (Saha et al. 2021, eq. 7.) After each task M grows by the leading left singular vectors of
    R^ = R - M M'R (eq. 8), R the layer's inputs for some examples, as few as hold
    ||M M'R||^2 + ||R^_k||^2 >= eps ||R||^2 (eq. 9). The gradient is projected, and after the optimiser the
    step taken, so it is exact for every optimiser. Biases take part as weights of a constant input 1.
    What is not a linear or plain conv2d layer (norms) is frozen after the first task; running statistics
    of norms go on moving.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss), stores="statistics", growth="with tasks", cost="one step and a projection"
    )
    paper: ClassVar[str] = "Saha et al. 2021, arXiv:2103.09762"

    threshold: float = 0.97  # eps, the share of the inputs' squared norm that is guarded, in (0, 1]
    threshold_growth: float = 0.003  # added to it with each task, up to 1
    examples: int = 300  # of the task, drawn for R

    def __post_init__(self) -> None:
        rules = {"threshold": "in (0, 1]", "threshold_growth": "in [0, 1]", "examples": ">= 1"}
        check_numbers(self, rules)

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing to keep out of yet."""
        return params, State({}, 0)

    def gradient(self, problem: Problem, params: Params, state: State, batch: Batch, grads: Params) -> Params:
        """The gradient, made orthogonal too: an optimiser's moments see only what may be used of it."""
        if not state.tasks:
            return grads
        return grads | through({k: grads[k] for k in problem.spec.names}, _maps(state))

    def after_step(self, problem: Problem, params: Params, state: State, step: Step) -> tuple[Params, State]:
        """The step, made orthogonal to the kept inputs."""
        if state.tasks:
            assert step.before is not None
            replace_steps(params, {k: step.before[k] for k in problem.spec.names}, _maps(state))
        return params, state

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """Let each layer's basis grow by what this task takes in."""
        names = problem.spec.names
        chosen = torch.randperm(len(task.train), generator=rng)[: self.examples]
        x = task.train.batch(chosen)[0].to(problem.spec.device)
        where = torch.full((len(x),), task.index, device=x.device)
        _, layers = problem.trace(params, x, where)
        eps = min(1.0, self.threshold + self.threshold_growth * state.tasks)
        bases = {}
        for k, layer in plain(layers, names).items():
            R = patches(layer, full_name(k, 1) in names).flatten(0, 1).T
            bases[k] = grown(state.bases.get(k, R[:, :0]), R, eps)
        return params, State(bases, state.tasks + 1)

    def inspect(self, problem: Problem, params: Params, state: State, end: bool) -> dict[str, Any]:
        """How much of each layer's inputs is taken: dimensions kept out of, and of how many."""
        return {"kept": {k: list(M.shape[::-1]) for k, M in state.bases.items()}} if end else {}


def _maps(state: State) -> dict[str, Map]:
    """D - D M M' for each layer."""

    def off(M: Tensor) -> Map:
        return lambda D: D - (D @ M) @ M.T

    return {k: off(M) for k, M in state.bases.items()}


def grown(M: Tensor, R: Tensor, eps: float) -> Tensor:
    """The basis M [D, k] and as many more directions of R [D, n] as eq. 9 asks for."""
    R64, M64 = R.double(), M.double()
    new = R64 - M64 @ (M64.T @ R64)
    # Singular vectors of R^ as eigenvectors of R^R^' [D, D]: a convolution has very many columns.
    energy, U = torch.linalg.eigh(new @ new.T)
    energy, U = energy.flip(0).clamp_min(0), U.flip(1)
    total = R64.square().sum()
    missing = eps * total - (total - energy.sum())
    if missing <= 0:
        return M
    k = int((energy.cumsum(0) < missing * (1 - 1e-12)).sum()) + 1
    k = min(k, R.shape[0] - M.shape[1])
    Q: Tensor = torch.linalg.qr(torch.cat([M64, U[:, :k]], 1)).Q
    return Q.to(R).contiguous()  # as it comes back from a checkpoint
