"""Plain training on each task in turn: what forgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final, get_args

from retain.method import GradientMethod, Traits
from retain.types import Loss


@final
@dataclass(frozen=True)
class Naive(GradientMethod[None]):
    """Step along g, the gradient of the current batch's loss, and do nothing else."""

    traits: ClassVar[Traits] = Traits(fails_in=("class",), boundaries=False, losses=get_args(Loss))
    paper: ClassVar[str] = "the baseline; catastrophic interference: McCloskey & Cohen 1989"
