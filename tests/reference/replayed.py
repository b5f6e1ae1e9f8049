"""What the slow twins of replay methods share: a reservoir of lists, and descent by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tests.laws.toy import ORDER, Scenario, double, mlp, stream
from torch import Generator, Tensor, nn

from retain import Learner, Method, Optim, batches, run
from retain.seeds import derive

LR = 0.1


def model() -> nn.Module:
    """The same float64 weights each time."""
    torch.manual_seed(0)
    return mlp().double()


class Memory:
    """Algorithm R, row by row, on the draws that ours makes."""

    def __init__(self, capacity: int):
        self.capacity, self.seen = capacity, 0
        self.rows: list[tuple[Any, ...]] = []
        self.rng = Generator().manual_seed(derive(0, "method"))

    def offer(self, rows: list[tuple[Any, ...]]) -> None:
        u = torch.rand(len(rows), generator=self.rng, dtype=torch.float64).tolist()
        for row, v in zip(rows, u, strict=True):
            self.seen += 1
            if len(self.rows) < self.capacity:
                self.rows.append(row)
            elif int(v * self.seen) < self.capacity:
                self.rows[int(v * self.seen)] = row

    def draw(self, n: int) -> list[tuple[Any, ...]]:
        held = len(self.rows)
        if n <= held:
            return [self.rows[i] for i in torch.randperm(held, generator=self.rng)[:n].tolist()]
        return [self.rows[i] for i in torch.randint(held, (n,), generator=self.rng).tolist()]


def ce(row: Tensor, y: int, classes: set[int]) -> Tensor:
    """Cross-entropy of one row of logits among some classes."""
    return row[sorted(classes)].logsumexp(0) - row[y]


def mean(values: list[Tensor]) -> Tensor:
    """Of scalars."""
    return torch.stack(values).mean()


def by_hand(
    step: Callable[[nn.Module, Tensor, Tensor, int], Tensor],
    scenario: Scenario,
    end: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """The parameters after the toy stream, each batch one step of SGD down step(net, x, y, task)."""
    net = model()
    with double():
        for t, task in enumerate(stream(scenario)):
            for x, y in batches(task.train, ORDER, 0, task.index):
                grads = torch.autograd.grad(step(net, x, y, t), list(net.parameters()))
                with torch.no_grad():
                    for p, g in zip(net.parameters(), grads, strict=True):
                        p.sub_(LR * g)
            if end is not None:
                end(t)
    return {k: p.detach() for k, p in net.named_parameters()}


def ours(method: Method[Any], scenario: Scenario) -> Learner:
    """After the same stream, from the same weights."""
    one = Learner(model(), method, Optim(lr=LR))
    with double():
        run(stream(scenario), one, ORDER, curve_every=0)
    return one


def assert_same(one: Learner, twin: dict[str, Tensor]) -> None:
    """To the last digits."""
    for k, p in twin.items():
        torch.testing.assert_close(one.params[k].detach(), p, rtol=1e-10, atol=1e-10)
