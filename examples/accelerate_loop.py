"""A method in a loop that Accelerate runs, in one process or several: MNIST, two digits after the other.

    python examples/accelerate_loop.py          # half a minute on one core
    torchrun --standalone --nproc-per-node 2 examples/accelerate_loop.py --quick

The optimiser and the loader are prepared as ever. The model is not: a method needs the gradient of the whole
batch, and exchanges the gradients itself; DistributedDataParallel would do that a second time. What the
loader has shared out among the processes is gathered, so that each of them has the whole batch.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import retain
from retain.streams import build

Sets = list[tuple[TensorDataset, TensorDataset]]
METHODS: dict[str, Any] = {"plain": retain.Naive(), "replay": retain.Replay(memory=500)}


def data(samples: int) -> Sets:
    """Train and test sets of five tasks: two digits each."""
    sets = []
    for task in build({"name": "split", "scenario": "class", "samples": samples}):
        assert task.test is not None
        train, test = (TensorDataset(*e.batch(torch.arange(len(e)))) for e in (task.train, task.test))
        sets.append((train, test))
    return sets


def learn(accelerator: Accelerator, sets: Sets, method: Any, epochs: int) -> list[float]:
    """The accuracy on every task, among all ten digits, after the last."""
    torch.manual_seed(0)  # the same network in every process
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = accelerator.prepare(torch.optim.SGD(model.parameters(), lr=0.05))
    kept = retain.attach(model, method, scenario="class")  # 1
    for train, _ in sets:
        loader = accelerator.prepare(DataLoader(train, 64 // accelerator.num_processes, shuffle=True))
        kept.begin_task(train)  # 2
        for _ in range(epochs):
            for batch in loader:
                x, y = accelerator.gather(tuple(batch))  # 3, for several processes
                loss = kept.loss(x, y)  # 4 (was: criterion(model(x), y))
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
        kept.end_task()  # 5
    found = []
    for _, test in sets:
        x, y = test.tensors
        found.append(float((kept.predict(x).argmax(1) == y).float().mean()))
    return found


def main(arguments: list[str]) -> dict[str, list[float]]:
    """Train each way, and print what is left of every task in the end."""
    accelerator, found = Accelerator(cpu=True), {}
    sets = data(500 if "--quick" in arguments else 4000)
    for name, method in METHODS.items():
        found[name] = learn(accelerator, sets, method, epochs=4)
        each, mean = "  ".join(f"{100 * a:.0f}" for a in found[name]), sum(found[name]) / len(sets)
        accelerator.print(f"{name:>8}, % on each task at the end:  {each}   mean {100 * mean:.1f}")
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
