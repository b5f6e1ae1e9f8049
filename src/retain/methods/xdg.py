"""Context-dependent gating: each task works with a random part of the hidden units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final, get_args

import torch
from torch import Generator, Tensor

from retain.method import GradientMethod, Traits, check_numbers
from retain.parts import Units, by_task, one_task
from retain.seeds import generator
from retain.types import Loss, Params, Problem


class State(NamedTuple):
    """The hidden units, and the seed from which every task's gates follow."""

    units: Units
    seed: int


@final
@dataclass(frozen=True)
class XdG(GradientMethod[State]):
    """h_l <- g_l^t h_l, where g_l^t in {0, 1} is 0 for a random share of layer l's units, fixed for task t.

    (Masse et al. 2018, "Context-dependent gating".) Two tasks share about (1 - share)^2 of the units.
    The gates alone guard nothing that tasks share; the paper adds EWC or SI to them.
    """

    traits: ClassVar[Traits] = Traits(losses=get_args(Loss), scenarios=("task",))
    paper: ClassVar[str] = "Masse et al. 2018, arXiv:1802.01569"

    share: float = 0.8  # of each hidden layer's units, silent in a task, in [0, 1)

    def __post_init__(self) -> None:
        check_numbers(self, {"share": "in [0, 1)"})

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Find the units, draw the seed.

        Raises:
            ValueError: the network's layers form no chain.
        """
        return params, State(Units.of(problem, params), int(torch.randint(2**62, (), generator=rng)))

    def view(
        self, problem: Problem, params: Params, state: State, task: Tensor, rng: Generator | None
    ) -> Params:
        """The network with the task's silent units left out."""
        return state.units.gate(params, self.gates(state, one_task(task)))

    def gates(self, state: State, task: int) -> list[Tensor]:
        """bool [width] for each hidden layer: the units at work, at least one."""
        found = []
        for layer, width in enumerate(state.units.widths):
            order = torch.randperm(width, generator=generator(state.seed, "gates", task, layer))
            found.append(order < max(1, round((1 - self.share) * width)))
        return found

    def predict(self, problem: Problem, params: Params, state: State, x: Tensor, task: Tensor) -> Tensor:
        """Each example through its own task's gates."""
        return by_task(lambda x, t: problem.logits(self.view(problem, params, state, t, None), x, t), x, task)
