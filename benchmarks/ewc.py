"""EWC's step against plain training, task by task, in alternation; its consolidation; the Fisher.

    python benchmarks/ewc.py [--rounds 3] [--tasks 10]

Permuted MNIST, 10 tasks of 60,000 images, 784-256-256-10, batches of 128, one pass, SGD 0.1, lam 10,
one thread. Prints seconds of training (without consolidation) for EWC and naive, their ratio, EWC's
training of each task, consolidation a task, and the exact Fisher over 10,000 examples.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import retain
from retain.curvature import fisher
from retain.experiment import Experiment, Settings


def train(method: retain.Method, tasks: int) -> tuple[list[float], list[float]]:
    """Seconds of training and of consolidating, task by task."""
    experiment = Experiment("permuted", method, Settings(tasks=tasks))
    stream = experiment.build_stream()
    learner = experiment.build_learner(stream)
    learner.follow(stream)
    training, consolidating = [], []
    for task in stream:
        data = task.train.materialise()  # type: ignore[union-attr]
        learner.begin_task(task)
        start = time.perf_counter()
        for x, y in retain.batches(data, experiment.settings.order, task=task.index):
            learner.observe(x, y)
        middle = time.perf_counter()
        learner.end_task()
        training.append(middle - start)
        consolidating.append(time.perf_counter() - middle)
    return training, consolidating


def time_fisher(n: int) -> float:
    """Seconds for the exact diagonal Fisher of a trained network over n examples, all ten labels."""
    experiment = Experiment("permuted", retain.Naive(), Settings(tasks=1))
    stream = experiment.build_stream()
    learner = experiment.build_learner(stream)
    retain.run(stream, learner, curve_every=0)
    problem = learner.start(stream[0].train)
    start = time.perf_counter()
    fisher(problem, learner.params, stream[0].train, 0, torch.Generator(), "exact", n)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    ratios = []
    for n in range(args.rounds):
        naive, _ = train(retain.Naive(), args.tasks)
        ewc, consolidation = train(retain.EWC(lam=10), args.tasks)
        ratios.append(sum(ewc) / sum(naive))
        print(
            f"round {n + 1}: naive {sum(naive):.2f} s, EWC {sum(ewc):.2f} s, ratio {ratios[-1]:.3f}; "
            f"EWC's tasks {' '.join(f'{s:.2f}' for s in ewc)}; "
            f"consolidation {statistics.mean(consolidation):.3f} s a task, at most {max(consolidation):.3f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.3f}")
    seconds = [time_fisher(10_000) for _ in range(3)]
    print(f"exact Fisher over 10,000 examples: {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    main()
