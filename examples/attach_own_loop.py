"""A method around a training loop of one's own: permuted MNIST, plain, with a penalty, and with replay.

python examples/attach_own_loop.py          # half a minute on one core
python examples/attach_own_loop.py --quick
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import retain
from retain.streams import build

Sets = list[tuple[TensorDataset, TensorDataset]]
EPOCHS = 5


def data(tasks: int, samples: int) -> Sets:
    """Train and test sets of the tasks: MNIST with its pixels permuted, each time anew."""
    sets = []
    for task in build({"name": "permuted", "tasks": tasks, "samples": samples}):
        assert task.test is not None
        train, test = (TensorDataset(*e.batch(torch.arange(len(e)))) for e in (task.train, task.test))
        sets.append((train, test))
    return sets


def network() -> tuple[nn.Module, torch.optim.Optimizer]:
    """784-200-10, and what trains it."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))
    return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def plain(sets: Sets) -> nn.Module:
    """The loop as it was; it forgets."""
    model, optimizer = network()
    criterion = nn.CrossEntropyLoss()
    for train, _ in sets:
        for _ in range(EPOCHS):
            for x, y in DataLoader(train, batch_size=64, shuffle=True):
                loss = criterion(model(x), y)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
    return model


def penalised(sets: Sets) -> nn.Module:
    """Three lines more: the forward, the criterion and the optimiser stay."""
    model, optimizer = network()
    criterion = nn.CrossEntropyLoss()
    kept = retain.attach(model, retain.EWC(lam=100))  # 1
    for train, _ in sets:
        kept.begin_task(train)  # 2
        for _ in range(EPOCHS):
            for x, y in DataLoader(train, batch_size=64, shuffle=True):
                loss = criterion(model(x), y)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        kept.end_task()  # 3
    return model


def replayed(sets: Sets) -> nn.Module:
    """A method that chooses what is learned from has a say in the loss, too: four lines."""
    model, optimizer = network()
    kept = retain.attach(model, retain.Replay(memory=500))  # 1
    for train, _ in sets:
        kept.begin_task(train)  # 2
        for _ in range(EPOCHS):
            for x, y in DataLoader(train, batch_size=64, shuffle=True):
                loss = kept.loss(x, y)  # 3 (was: criterion(model(x), y))
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        kept.end_task()  # 4
    return model


def accuracy(model: nn.Module, test: TensorDataset) -> float:
    """The share of the test set whose label is predicted."""
    x, y = test.tensors
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


LOOPS: dict[str, Callable[[Sets], nn.Module]] = {"plain": plain, "EWC": penalised, "replay": replayed}


def main(arguments: list[str]) -> dict[str, list[float]]:
    """Train each way, and print what is left of every task in the end."""
    quick = "--quick" in arguments
    size: dict[str, Any] = {"tasks": 3, "samples": 1000} if quick else {"tasks": 5, "samples": 2000}
    sets, found = data(**size), {}
    for name, loop in LOOPS.items():
        torch.manual_seed(0)
        model = loop(sets)
        found[name] = [accuracy(model, test) for _, test in sets]
        each, mean = "  ".join(f"{100 * a:.0f}" for a in found[name]), sum(found[name]) / len(sets)
        print(f"{name:>8}, % on each task at the end:  {each}   mean {100 * mean:.1f}", flush=True)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
