"""Dark experience replay: keep not only examples but what the network said of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final, get_args

from torch import Generator, Tensor

from retain.memory import Dark, mixed
from retain.method import GradientMethod, Traits, check_numbers
from retain.types import Batch, Loss, Params, Problem


@final
@dataclass(frozen=True)
class DER(GradientMethod[Dark | None]):
    """L + alpha E_(x', z')~M ||z' - h(x')||^2, over the examples x' and logits z' of a reservoir M.

    (Buzzega et al. 2020, eq. 5: DER.) z' are the logits h(x') that the network gave when x' was new, in
    that very step and before it. As in the released code, the square is a mean over the outputs too.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss),
        stores="examples",
        cost="one step on twice the examples",
        boundaries=False,
        steps=2,
    )
    paper: ClassVar[str] = "Buzzega et al. 2020, arXiv:2004.07211 (DER)"

    memory: int = 500  # examples kept in all
    alpha: float = 1.0  # weight of the old logits, >= 0
    replay_batch: int | None = None  # examples replayed each step; none: as many as are new

    def __post_init__(self) -> None:
        rules = {"memory": "a number >= 0", "alpha": "a number >= 0", "replay_batch": ">= 1"}
        check_numbers(self, rules)

    def batch(
        self, problem: Problem, params: Params, state: Dark | None, batch: Batch, rng: Generator
    ) -> tuple[Batch, Dark | None]:
        """The batch and what is replayed beside it, which counts by its logits alone."""
        memory = state or Dark.empty(problem, params, batch, self.memory)
        both = batch
        if memory.filled and self.alpha:
            old, z = memory.draw(self.replay_batch or len(batch.y), rng)
            both = mixed((batch, 1.0), (old, 0.0))._replace(extra={"z": z})
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
