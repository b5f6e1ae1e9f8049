"""GEM's training against a plain loop with one backward pass for each past task, in alternation.

    python benchmarks/gem.py [--rounds 3] [--tasks 20]

The recipe of Lopez-Paz & Ranzato 2017: permuted MNIST, 20 tasks of 1,000 images, 784-100-100-10,
batches of 10, one pass, 256 memories a task, margin 0.5. Both use the same solver; one thread.
Evaluation is in neither figure. Prints each round's seconds, the ratio, and both final accuracies.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import torch.nn.functional as nnf

import retain
from retain.experiment import Experiment, Settings
from retain.projection import project
from retain.record import Evaluator
from retain.streams import Stream

RECIPE = Settings(samples=1000, hidden=(100, 100), init="xavier", batch_size=10, lr=0.1, curve_every=0)


def plain(experiment: Experiment, stream: Stream, method: retain.GEM) -> tuple[float, torch.nn.Module]:
    """Seconds and the trained network: GEM as its released code goes about it."""
    model = experiment.build_model(stream)
    params = list(model.parameters())
    optimizer = torch.optim.SGD(params, lr=experiment.settings.lr)
    memory: list[tuple[torch.Tensor, torch.Tensor]] = []
    start = time.perf_counter()
    for i, task in enumerate(stream):
        train = task.train.materialise()  # type: ignore[union-attr]
        last_x, last_y = [], []
        for x, y in retain.batches(train, experiment.settings.order, task=i):
            last_x.append(x)
            last_y.append(y)
            rows = []
            for past_x, past_y in memory:
                optimizer.zero_grad()
                nnf.cross_entropy(model(past_x), past_y).backward()
                rows.append(torch.cat([p.grad.reshape(-1) for p in params]))  # type: ignore[union-attr]
            optimizer.zero_grad()
            nnf.cross_entropy(model(x), y).backward()
            if rows:
                g, G = torch.cat([p.grad.reshape(-1) for p in params]), torch.stack(rows)  # type: ignore[union-attr]
                if (G @ g < 0).any():
                    g, _ = project(g, G, method.margin, method.ridge)
                    for p, piece in zip(params, g.split([p.numel() for p in params]), strict=True):
                        p.grad.copy_(piece.view_as(p))  # type: ignore[union-attr]
            optimizer.step()
        m = method.memory_per_task
        memory.append((torch.cat(last_x)[-m:], torch.cat(last_y)[-m:]))
    return time.perf_counter() - start, model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    method = retain.GEM(memory_per_task=256, margin=0.5)
    experiment = Experiment("permuted", method, Settings(**{**vars(RECIPE), "tasks": args.tasks}))
    stream = experiment.build_stream()
    evaluator = Evaluator(stream, 1000)
    ours, theirs = [], []
    for n in range(args.rounds):
        result = experiment.run()
        ours.append(result.seconds.train + result.seconds.consolidate)
        seconds, model = plain(experiment, stream, method)
        theirs.append(seconds)
        judge = retain.Learner(model, retain.Naive())
        judge.follow(stream)
        judge.start(stream[0].train)
        acc = statistics.mean(evaluator.row(judge))
        print(
            f"round {n + 1}: retain {ours[-1]:.2f} s (ACC {result.acc:.4f}, evaluation "
            f"{result.seconds.evaluate:.2f} s), plain {theirs[-1]:.2f} s (ACC {acc:.4f}), "
            f"ratio {ours[-1] / theirs[-1]:.3f}",
            flush=True,
        )
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(f"median: retain {statistics.median(ours):.2f} s, plain {statistics.median(theirs):.2f} s, "
          f"ratio {statistics.median(ratios):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
