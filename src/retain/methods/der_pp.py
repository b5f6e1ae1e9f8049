"""Dark experience replay with labels too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final, get_args

from torch import Generator, Tensor

from retain.memory import Dark, mixed
from retain.method import GradientMethod, Traits, check_numbers
from retain.types import Batch, Loss, Params, Problem


@final
@dataclass(frozen=True)
class DERpp(GradientMethod[Dark | None]):
    """L + alpha E_(x', z')~M ||z' - h(x')||^2 + beta E_(x'', y'')~M l(y'', h(x'')), M a reservoir.

    (Buzzega et al. 2020, eq. 6: DER++.) z' are the logits h(x') that the network gave when x' was new,
    in that very step and before it; x' and x'' are drawn apart. As in the released code, the square is
    a mean over the outputs too. beta = 0 is DER.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss),
        stores="examples",
        cost="one step on three times the examples",
        boundaries=False,
        steps=3,
    )
    paper: ClassVar[str] = "Buzzega et al. 2020, arXiv:2004.07211 (DER++)"

    memory: int = 500  # examples kept in all
    alpha: float = 1.0  # weight of the old logits, >= 0
    beta: float = 0.5  # weight of the old labels, >= 0
    replay_batch: int | None = None  # examples in each of the two draws of a step; none: as many as are new

    def __post_init__(self) -> None:
        check_numbers(
            self, dict.fromkeys(("memory", "alpha", "beta"), "a number >= 0") | {"replay_batch": ">= 1"}
        )

    def batch(
        self, problem: Problem, params: Params, state: Dark | None, batch: Batch, rng: Generator
    ) -> tuple[Batch, Dark | None]:
        """The batch, what counts by its logits alone, and what counts by its labels, end to end."""
        memory = state or Dark.empty(problem, params, batch, self.memory)
        parts, extra, k = [(batch, 1.0)], {}, self.replay_batch or len(batch.y)
        if memory.filled and self.alpha:
            old, z = memory.draw(k, rng)
            parts.append((old, 0.0))
            extra = {"z": z}
        if memory.filled and self.beta:
            parts.append((memory.draw(k, rng)[0], self.beta))
        both = batch if len(parts) == 1 else mixed(*parts)._replace(extra=extra)
        return both, memory.add(batch, rng)

    def loss(
        self, problem: Problem, params: Params, state: Dark | None, batch: Batch, logits: Tensor, loss: Tensor
    ) -> Tensor:
        """The distillation added; the new examples' logits are noted, which no later hook sees."""
        assert state is not None
        gap = state.gap(batch, logits)
        return loss if gap is None else loss + self.alpha * gap

    def examples_stored(self, state: Dark | None) -> int:
        """As many as the memory holds."""
        return 0 if state is None else state.filled
