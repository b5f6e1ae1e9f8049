"""The small, real runs that the lecture's pictures are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retain.experiment import Experiment, Settings
from retain.method import Method
from retain.types import HIDDEN, Batch, Params, Problem, Task


@dataclass(frozen=True)
class Setting:
    """How large the runs are. The defaults take about a minute on one core.

    Raises:
        ValueError: a number outside its range; names it and the rule.
    """

    seed: int = 0  # of data, order, initial weights and sampling
    samples: int = 6000  # training images a task
    test_samples: int = 1000  # test images a task
    hidden: tuple[int, ...] = (30,)  # widths of the network's hidden layers
    grid: int = 25  # points along each side of the loss surfaces
    lams: tuple[float, ...] = (0.0, 1.0, 10.0, 100.0, 10_000.0)  # strengths of EWC that are tried
    lam: float = 100.0  # the one that is shown first, one of `lams`
    l2_lams: tuple[float, ...] = (0.01, 0.03, 0.1)  # strengths of L2 that are tried
    l2_lam: float = 0.03  # the one that is shown first, one of `l2_lams`
    margins: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 1.0)  # margins of GEM that are tried
    generated: int = 3000  # training images a task of the generator
    digits: int = 5  # tasks of two digits each that the generator learns, 1 to 5

    def __post_init__(self) -> None:
        for name in ("samples", "test_samples", "generated"):
            if getattr(self, name) < 100:
                raise ValueError(f"{name} must be >= 100, got {getattr(self, name)}")
        if self.grid < 2:
            raise ValueError(f"grid must be >= 2, got {self.grid}")
        if not 1 <= self.digits <= 5:
            raise ValueError(f"digits must be 1 to 5 tasks, got {self.digits}")
        for one, many in (("lam", self.lams), ("l2_lam", self.l2_lams)):
            if getattr(self, one) not in many or list(many) != sorted(set(many)):
                raise ValueError(f"{one}s must ascend and hold {one} {getattr(self, one)}, got {many}")
        if not self.margins or min(self.margins) < 0:
            raise ValueError(f"margins must be >= 0, got {self.margins}")

    def permuted(self, method: Method[Any], tasks: int) -> Experiment:
        """Digits as they are, then with their pixels in other orders."""
        steps = -(-self.samples // 32)
        return Experiment("permuted", method, Settings(
            tasks=tasks, first="plain", samples=self.samples, test_samples=self.test_samples,
            hidden=self.hidden, lr=0.5, schedule="linear", epochs=2, batch_size=32,
            curve_every=max(1, steps // 6),            curve_samples=self.test_samples, seed=self.seed,
        ))  # fmt: skip

    def noisy(self, method: Method[Any]) -> Experiment:
        """The lecture's pair: digits under heavy noise, and the same clean."""
        steps = -(-self.samples // 32)
        return Experiment("noisy-clean", method, Settings(
            samples=self.samples, test_samples=self.test_samples, hidden=(50, 50, 50), lr=0.1, schedule="linear",
            epochs=3, batch_size=32, curve_every=max(1, steps // 4), curve_samples=self.test_samples,
            seed=self.seed,
        ))  # fmt: skip

    def split(self, method: Method[Any]) -> Experiment:
        """Two digits a task, and in the end all of them to be told apart."""
        return Experiment("split", method, Settings(
            scenario="class", tasks=self.digits, samples=self.generated, test_samples=self.test_samples,
            hidden=(100,), optimizer="adam", lr=1e-3, batch_size=100, epochs=3, curve_every=0, seed=self.seed,
        ))  # fmt: skip


def some(task: Task, n: int) -> Batch:
    """The first n training examples of a task (all, where they are fewer), its number hidden."""
    x, y = task.train.batch(torch.arange(min(n, len(task.train))))
    return Batch(x, y, torch.full((len(y),), HIDDEN))


@torch.no_grad()
def loss(problem: Problem, params: Params, batch: Batch) -> float:
    """The mean loss in nats, in evaluation mode."""
    return float(problem.loss(params, batch, train=False))


@torch.no_grad()
def accuracy(problem: Problem, params: Params, batch: Batch) -> float:
    """The share of the batch, in [0, 1], whose label is predicted."""
    right: Tensor = problem.logits(params, batch.x, batch.task).argmax(1) == batch.y
    return float(right.double().mean())
