"""EWC's step against plain training, task by task, in alternation; its consolidation; the Fisher.

    python benchmarks/ewc.py
    python benchmarks/ewc.py --rounds 3 --tasks 5
    python benchmarks/ewc.py --quick

Permuted MNIST, 10 tasks of 60,000 images, 784-256-256-10, batches of 128, one pass, SGD 0.1, lam 10,
one core. Seconds of training (without consolidation) for EWC and naive, their ratio in the same round,
EWC's training of each task, consolidation a task, and the exact Fisher over 10,000 examples.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import altair as alt
import torch

import retain
from measure import Spread, alternate, markdown, medians, parser, publish, ready, tell
from retain.curvature import fisher
from retain.experiment import Experiment, Settings

WORK = Settings(tasks=10)


@dataclass(frozen=True)
class Timed:
    """Seconds, task by task."""

    training: list[float]
    consolidating: list[float]

    @property
    def total(self) -> float:
        """Of training."""
        return sum(self.training)


def train(method: retain.Method[Any], settings: Settings) -> Timed:
    experiment = Experiment("permuted", method, settings)
    stream = experiment.build_stream()
    learner = experiment.build_learner(stream)
    learner.follow(stream)
    training, consolidating = [], []
    for task in stream:
        data = task.train.materialise()  # type: ignore[union-attr]
        learner.begin_task(task)
        start = time.perf_counter()
        for x, y in retain.batches(data, settings.order, task=task.index):
            learner.observe(x, y)
        middle = time.perf_counter()
        learner.end_task()
        training.append(middle - start)
        consolidating.append(time.perf_counter() - middle)
    return Timed(training, consolidating)


def time_fisher(n: int, settings: Settings) -> float:
    """Seconds for the exact diagonal Fisher of a trained network over n examples, all ten labels."""
    experiment = Experiment("permuted", retain.Naive(), replace(settings, tasks=1))
    stream = experiment.build_stream()
    learner = experiment.build_learner(stream)
    retain.run(stream, learner, curve_every=0)
    problem = learner.start(stream[0].train)
    start = time.perf_counter()
    fisher(problem, learner.params, stream[0].train, 0, torch.Generator(), "exact", n)
    return time.perf_counter() - start


def said(t: Timed) -> str:
    each = " ".join(f"{s:.2f}" for s in t.training)
    return f"{t.total:.2f} s ({each}), consolidation {statistics.mean(t.consolidating):.3f} s a task"


def chart(timed: dict[str, list[Timed]]) -> Any:
    points = [
        {"method": name, "task": i + 1, "seconds": statistics.median(t.training[i] for t in each)}
        for name, each in timed.items()
        for i in range(len(each[0].training))
    ]
    base = alt.Chart(alt.InlineData(values=points)).mark_line(point=True)
    x, y = alt.X("task:O", title="task").axis(labelAngle=0), alt.Y("seconds:Q", title="training, s")
    return base.encode(x=x, y=y, color=alt.Color("method:N", title=None)).properties(width=420, height=200)


def main() -> None:
    made = parser(__doc__, rounds=3)
    made.add_argument("--tasks", type=int, default=10)
    args = ready(made)
    tiny = {"samples": 1280, "test_samples": 200} if args.quick else {}
    settings = replace(WORK, tasks=2 if args.quick else args.tasks, **tiny)
    methods = {"naive": retain.Naive(), "EWC": retain.EWC(lam=10)}
    timed = alternate({k: partial(train, m, settings) for k, m in methods.items()}, args.rounds, said)
    n = min(10_000, settings.samples or 10_000)
    seconds = Spread.of([time_fisher(n, settings) for _ in range(3)])
    tell(f"exact Fisher over {n:,} examples: {seconds.text()} s")
    both = zip(timed["EWC"], timed["naive"], strict=True)
    found = {
        "EWC's training over naive's": Spread.of([a.total / b.total for a, b in both]),
        "EWC, training of task 2, s": Spread.of([t.training[1] for t in timed["EWC"]]),
        "EWC, training of the last task, s": Spread.of([t.training[-1] for t in timed["EWC"]]),
        "EWC, consolidation a task, s": Spread.of([statistics.mean(t.consolidating) for t in timed["EWC"]]),
        f"exact Fisher over {n:,} examples, ten labels, s": seconds,
    }
    table = markdown(("what", "median (least - greatest)"), [[k, v.text()] for k, v in found.items()])
    note = f"{medians(args.rounds)} of {settings.tasks} tasks."
    publish("ewc", args, {"figures": found, "runs": timed}, table, chart(timed), note)


if __name__ == "__main__":
    main()
