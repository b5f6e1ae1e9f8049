"""RanDumb: streaming discriminant analysis of random features of the raw input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, final

import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor

from retain.closed_form import Moments, lda, normal, random_filters, scores, solved
from retain.method import Method, Traits, Update, check_choices, check_numbers
from retain.types import Batch, Params, Problem


class State(NamedTuple):
    """The random embedding and the sums."""

    omega: Tensor  # [D, M], or filters [M / grid^2, channels, kernel, kernel]
    phase: Tensor  # [M]; [0] for filters
    moments: Moments


@final
@dataclass(frozen=True)
class RanDumb(Method[State]):
    """y = arg max_c of the discriminants of z(x) = sqrt(2 / M) cos(Omega' x + b), random and never learned.

    (Prabhu et al. 2024.) Omega ~ N(0, 1 / sigma^2), b ~ U(0, 2 pi), so that z(x)' z(y) is near
    exp(-||x - y||^2 / (2 sigma^2)); then streaming LDA, its covariance shrunk towards a multiple of I. With
    features `conv`, z is instead the mean, over each cell of a grid, of the image filtered by random
    smooth filters, where it is positive: also random and never learned. All that is kept are running
    sums, so order and portions of the examples play no part. The network is not used.
    """

    traits: ClassVar[Traits] = Traits(
        stores="statistics",
        cost="one random embedding; one solve before a prediction",
        boundaries=False,
        steps=0,
        closed_form=True,
    )
    paper: ClassVar[str] = "Prabhu et al. 2024, arXiv:2402.08823"

    features: Literal["fourier", "conv"] = "fourier"  # of the input as a vector, or as an image
    size: int = 2000  # M, the number of features; the paper has 25,000
    sigma: float = 5.0  # fourier: width of the kernel, > 0
    kernel: int = 7  # conv: side of the filters, in pixels
    grid: int = 4  # conv: cells along each side of the image
    shrinkage: float = 1e-4  # of the covariance towards a multiple of I, in (0, 1]
    priors: bool = False  # count frequent classes as more likely
    apart: bool = False  # keep each class's second moments, so that a class can be forgotten

    def __post_init__(self) -> None:
        check_choices(self)
        rules = dict.fromkeys(("size", "kernel", "grid"), ">= 1")
        check_numbers(self, rules | {"sigma": "a number > 0", "shrinkage": "in (0, 1]"})
        if self.features == "conv" and self.size % self.grid**2:
            raise ValueError(f"RanDumb.size must be a multiple of grid^2 = {self.grid**2}, got {self.size}")

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Draw the embedding; sums of nothing."""
        spec = problem.spec
        if self.features == "conv":
            if len(spec.shape) != 3 or min(spec.shape[1:]) < self.kernel:
                need = f"images [channels, height, width] of at least {self.kernel} pixels a side (kernel)"
                raise ValueError(f"RanDumb's features conv need {need}, got {tuple(spec.shape)}")
            omega = random_filters(rng, spec, self.size // self.grid**2, self.kernel)
            phase = omega.new_zeros(0)
        else:
            omega = normal(rng, spec, math.prod(spec.shape), self.size) / self.sigma
            u = torch.rand(self.size, generator=rng, dtype=torch.float64)
            phase = (2 * math.pi * u).to(omega)
        kept = Moments.zero(spec, self.size, self.apart)
        return params, State(omega, phase, kept)

    def embed(self, state: State, x: Tensor) -> Tensor:
        """z [N, M] of inputs [N, ...]."""
        if self.features == "conv":
            return nnf.adaptive_avg_pool2d(nnf.conv2d(x, state.omega).relu(), self.grid).flatten(1)
        return math.sqrt(2 / self.size) * (x.flatten(1) @ state.omega + state.phase).cos()

    def observe(
        self, problem: Problem, params: Params, state: State, batch: Batch, update: Update, rng: Generator
    ) -> tuple[Params, State, Tensor]:
        """Add the batch to the sums."""
        return params, state, state.moments.take_in(self.embed(state, batch.x), batch.y)

    def predict(self, problem: Problem, params: Params, state: State, x: Tensor, task: Tensor) -> Tensor:
        """The discriminants."""
        m, z = state.moments, self.embed(state, x)
        return scores(z, solved(lda, m, self.shrinkage, self.priors), m.known)

    def forget(self, state: State, classes: list[int]) -> State:
        """As if no example of these classes had ever come, exactly; needs `apart`. Consumes the state."""
        return state._replace(moments=state.moments.forget(classes))

    def remove(self, state: State, problem: Problem, params: Params, x: Tensor, y: Tensor) -> State:
        """As if these examples, learned before, had never come, exactly. Consumes the state."""
        return state._replace(moments=state.moments.add(self.embed(state, x), y, -1))
