"""In which order a task's examples are seen: a function of (seed, task, epoch), never stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from retain.examples import Examples, Union
from retain.seeds import derive


@dataclass(frozen=True)
class Order:
    """How often and in what portions each task's examples are gone through.

    Raises:
        ValueError: a number below 1, or both epochs and iterations.
    """

    epochs: int = 1
    iterations: int | None = None  # steps a task instead of epochs, beginning anew as often as needed
    batch_size: int = 128
    drop_last: bool = False  # leave out the last batch of an epoch where it is smaller

    def __post_init__(self) -> None:
        for name in ("epochs", "iterations", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        if self.iterations is not None and self.epochs != 1:
            raise ValueError("give epochs or iterations, not both")

    def per_epoch(self, n: int) -> int:
        """Steps in one pass over n examples.

        Raises:
            ValueError: none, since drop_last leaves out the only batch.
        """
        steps = n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        if steps == 0:
            raise ValueError(
                f"{n} examples fill no batch of {self.batch_size}: lower batch_size or keep the last"
            )
        return steps

    def steps(self, n: int) -> int:
        """Steps in all for a task of n examples."""
        return self.iterations or self.epochs * self.per_epoch(n)

    def indices(
        self, n: int, seed: int, task: int, start: int = 0, device: torch.device | None = None
    ) -> Iterator[Tensor]:
        """The examples of each step from step `start` on; sent to a device an epoch at a time."""
        per_epoch, steps = self.per_epoch(n), self.steps(n)
        for epoch in range(start // per_epoch, -(-steps // per_epoch)):
            rng = torch.Generator().manual_seed(derive(seed, "order", task, epoch))
            order = torch.randperm(n, generator=rng).to(device)
            batches = order.split(self.batch_size)[:per_epoch]
            first = max(start - epoch * per_epoch, 0)
            yield from batches[first : steps - epoch * per_epoch]


def batches(
    examples: Examples | Union, order: Order, seed: int = 0, task: int = 0, start: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches x [N, ...], y [N] in the order in which `run` goes through them."""
    for index in order.indices(len(examples), seed, task, start):
        yield examples.batch(index)
