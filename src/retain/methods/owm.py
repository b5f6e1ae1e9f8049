"""Orthogonal weights modification: steps away from all inputs so far, by recursive least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final, get_args

import torch
from torch import Generator, Tensor

from retain.curvature.layers import full_name
from retain.inputs import patches, plain, replace_steps
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.types import Loss, Params, Problem, Step, Task


class State(NamedTuple):
    """Each layer's projector P, [D, D] in double precision; none before the first task is learned."""

    projectors: dict[str, Tensor]


@final
@dataclass(frozen=True)
class OWM(GradientMethod[State]):
    """dW <- dW P, with P = I - A (A'A + alpha I)^-1 A' = alpha (alpha I + A A')^-1.

    (Zeng et al. 2019, eq. 1.) A holds what the layer took in during past tasks, a column for the mean
    over each batch. After a task P follows each x of its columns: k = P x / (alpha + x'P x),
    P <- P - k x'P. It is the step taken that is multiplied: exact for every optimiser. Biases take part
    as weights of a constant input 1; a convolution has one column for each position. What is not a
    linear or plain conv2d layer (norms) is frozen after the first task.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss), stores="statistics", cost="one step and a product with each layer's projector"
    )
    paper: ClassVar[str] = "Zeng et al. 2019, arXiv:1810.01256"

    alpha: float = 0.1  # > 0; the smaller, the less steps leak into what the past took in
    mean_of: int = 128  # examples whose mean is one column of A

    def __post_init__(self) -> None:
        check_numbers(self, {"alpha": "a number > 0", "mean_of": ">= 1"})

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """P = I, said by its absence."""
        return params, State({})

    def after_step(self, problem: Problem, params: Params, state: State, step: Step) -> tuple[Params, State]:
        """The step times P."""
        if state.projectors:
            assert step.before is not None
            before = {k: step.before[k] for k in problem.spec.names}
            maps = {k: lambda D, P=P: D @ P.to(D) for k, P in state.projectors.items()}
            replace_steps(params, before, maps)
        return params, state

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """P follows the mean inputs, batch by batch."""
        names, projectors = problem.spec.names, dict(state.projectors)
        for index in torch.randperm(len(task.train), generator=rng).split(self.mean_of):
            x = task.train.batch(index)[0].to(problem.spec.device)
            where = torch.full((len(x),), task.index, device=x.device)
            _, layers = problem.trace(params, x, where)
            for k, layer in plain(layers, names).items():
                A = patches(layer, full_name(k, 1) in names).mean(0).T.double()
                P = projectors.get(k)
                P = torch.eye(len(A), dtype=A.dtype, device=A.device) if P is None else P
                projectors[k] = followed(P, A, self.alpha)
        return params, State(projectors)


def followed(P: Tensor, A: Tensor, alpha: float) -> Tensor:
    """The projector P [D, D] after the columns of A [D, n], as after one by one (Woodbury)."""
    if A.shape[1] > len(A):  # fewer columns with the same A A'
        size, U = torch.linalg.eigh(A @ A.T)
        A = U * size.clamp_min(0).sqrt()
    PA = P @ A
    gram = A.T @ PA
    gram.diagonal().add_(alpha)
    P = P - PA @ torch.linalg.solve(gram, PA.T)
    return (P + P.T) / 2
