"""Started by torchrun, or alone: what several processes have to do as one would, written to a folder."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from retain import (
    EWC,
    GEM,
    GenerativeReplay,
    Interrupted,
    Learner,
    LwF,
    Naive,
    Optim,
    Replay,
    attach,
    chain,
    parallel,
)
from retain.experiment import Experiment, Settings
from retain.models import MLP

# 97 examples leave a last batch of one, which every process does; 61 and 51 are shared unevenly.
SMALL = Settings(tasks=3, samples=97, test_samples=61, hidden=(20,), batch_size=12, curve_every=3, clip=5.0)
METHODS: dict[str, Any] = {
    "naive": Naive(),
    "ewc": EWC(lam=20, examples=51),
    "ewc-sampled": EWC(lam=20, labels="sampled", proximal=True),
    "gem": GEM(memory_per_task=15),
    "er": Replay(memory=31),
    "er-tasks": Replay(memory=31, select="herding", weighting="tasks", replay_batch=7),
    "generative": GenerativeReplay(generator_hidden=(16,), latent=5),
    "generative-soft": GenerativeReplay(labels="soft", generator_hidden=(16,), latent=5, replay_batch=5),
    "chain": chain(Replay(memory=31), EWC(lam=20, examples=51)),
    "lwf": LwF(),
}
STOP_AT = 13  # steps done before the run is stopped: within the second task


def rank() -> int:
    """The number of this process."""
    return parallel.launched().rank


def methods(out: Path) -> None:
    """A run of each method."""
    for name, method in METHODS.items():
        Experiment("permuted", method, SMALL).run(out / name)


def stopped(out: Path) -> None:
    """A run that only the last process asks to stop."""
    last, asked = parallel.launched().size - 1, 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return rank() == last and asked == STOP_AT

    try:
        Experiment("permuted", METHODS["er"], SMALL).run(out / "stopped", stop=stop)
    except Interrupted:
        (out / f"stopped-{rank()}").touch()


def own_loop(out: Path) -> None:
    """Batch, loss, backward and step, with a term of one's own in the loss."""
    stream = Experiment("permuted", Naive(), SMALL).build_stream()
    torch.manual_seed(0)
    learner = Learner(MLP(stream.shape, stream.num_classes, (20,)), METHODS["er"], Optim("adam", lr=0.01))
    for task in stream:
        learner.begin_task(task)
        for index in torch.arange(len(task.train)).split(12):
            batch = learner.batch(*task.train.batch(index))
            loss = learner.loss(batch) + 0.01 * sum(p.square().sum() for p in learner.params.values())
            loss.backward()
            learner.step()
        learner.end_task()
    if rank() == 0:
        save_file({k: p.detach().contiguous() for k, p in learner.params.items()}, out / "own.safetensors")


def attached(out: Path) -> None:
    """A loop of one's own with its own optimiser (not Adam: it magnifies rounding), and a method around it."""
    stream = Experiment("permuted", Naive(), SMALL).build_stream()
    torch.manual_seed(0)
    model = MLP(stream.shape, stream.num_classes, (20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    kept = attach(model, METHODS["chain"])
    for task in stream:
        kept.begin_task(task)
        for index in torch.arange(len(task.train)).split(12):
            kept.loss(*task.train.batch(index)).backward()
            optimizer.step()
            optimizer.zero_grad()
        kept.end_task()
    kept.save(out / "attached.safetensors")


class Mixing(nn.Module):
    """A network that sees the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = MLP((1, 28, 28), 10, (5,))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits less their mean over the batch."""
        out: torch.Tensor = self.inner(x)
        return out - out.mean(0)


def refused(out: Path) -> None:
    """What processes must not do together; each writes what it was told."""
    flat, last = nn.Flatten(), nn.Linear(784, 10)
    task = Experiment("permuted", Naive(), SMALL).build_stream()[0]
    models: dict[str, Callable[[], nn.Module]] = {
        "dropout": lambda: nn.Sequential(flat, nn.Dropout(0.1), last),
        "batchnorm": lambda: nn.Sequential(flat, nn.BatchNorm1d(784), last),
        "mixing": Mixing,
        "unlike": lambda: MLP((1, 28, 28), 10, (5 + rank(),)),
    }
    for name, build in models.items():
        torch.manual_seed(0)
        told = complaint(lambda build=build: Learner(build(), Naive()).begin_task(task))  # type: ignore[misc]
        (out / f"{name}-{rank()}.txt").write_text(told)
    torch.manual_seed(0)
    learner = Learner(MLP((1, 28, 28), 10, (5,)), Naive())
    learner.begin_task(task)
    rows = torch.arange(4) + 4 * rank()
    (out / f"batches-{rank()}.txt").write_text(complaint(lambda: learner.observe(*task.train.batch(rows))))


def complaint(act: Callable[[], object]) -> str:
    """What is said against it."""
    try:
        act()
    except ValueError as e:
        return str(e)
    return "nothing"


def lost(out: Path) -> None:
    """The last process ends without a word at its fifth step, or hangs."""
    parallel.TIMEOUT = timedelta(seconds=3)
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        if rank() and steps == 5:
            if out.name == "hangs":
                time.sleep(60)
            os._exit(3)
        return False

    try:
        Experiment("permuted", Naive(), SMALL).run(stop=stop)
    except parallel.Lost as e:
        (out / "lost.txt").write_text(str(e))
        os._exit(0)  # what is left of the connection is not worth waiting for


if __name__ == "__main__":
    for scene in sys.argv[2:]:
        globals()[scene](Path(sys.argv[1]))
