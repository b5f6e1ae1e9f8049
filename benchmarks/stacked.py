"""Runs of EWC that differ in their seed, stacked, against one run and against the same runs one by one.

    python benchmarks/stacked.py
    python benchmarks/stacked.py --device cuda --runs 32
    python benchmarks/stacked.py --quick

Permuted MNIST, 3 tasks of 10,000 images, 784-256-256-10, batches of 128, one pass, SGD 0.1, lam 10; all test
sets after every task, no curve. Seconds of one run, of the runs stacked, of the stacked training alone, and, on
the processor, of the runs one by one. On a CUDA device `retain compare` stacks by itself: there one run is to be
compared with all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import altair as alt
import torch

from measure import Spread, alternate, markdown, medians, parser, publish, ready
from retain import EWC
from retain.experiment import Experiment, Settings
from retain.stacked import run_together

WORK = Settings(tasks=3, samples=10_000, curve_every=0)


@dataclass(frozen=True)
class Timed:
    """Seconds of some runs, all together and of their training."""

    total: float
    training: float


def train(settings: Settings, runs: int, stacked: bool) -> Timed:
    experiments = [Experiment("permuted", EWC(lam=10), replace(settings, seed=seed)) for seed in range(runs)]
    courses = [e.course() for e in experiments]
    start = time.perf_counter()
    found: list[Any] = run_together(courses) if stacked else [c.run(False, None, None) for c in courses]
    if settings.device == "cuda":
        torch.cuda.synchronize()
    return Timed(time.perf_counter() - start, sum(r.seconds.train for r in found))


def said(t: Timed) -> str:
    return f"{t.total:.2f} s, training {t.training:.2f} s"


def main() -> None:
    made = parser(__doc__, rounds=3)
    made.add_argument("--runs", type=int, default=8, help="seeds (8)")
    made.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where (cpu)")
    args = ready(made)
    settings = replace(WORK, samples=640, test_samples=200) if args.quick else WORK
    settings = replace(settings, device=args.device)
    one, together, apart = "one run", f"{args.runs} stacked", f"{args.runs} one by one"
    sides = {
        one: partial(train, settings, 1, False),
        together: partial(train, settings, args.runs, True),
        apart: partial(train, settings, args.runs, False),
    }
    timed = alternate(sides, args.rounds, said)
    rows = [
        [name, Spread.of([t.total for t in each]).text(), Spread.of([t.training for t in each]).text(),
         Spread.of([t.total / o.total for t, o in zip(each, timed[one], strict=True)]).text(),
         Spread.of([t.training / o.training for t, o in zip(each, timed[one], strict=True)]).text()]
        for name, each in timed.items()
    ]  # fmt: skip
    head = ("runs", "seconds", "of these training", "over one run", "training over one run's")
    values = [{"runs": name, "seconds": t.total} for name, each in timed.items() for t in each]
    chart = alt.Chart(alt.InlineData(values=values)).mark_point()
    chart = chart.encode(x="seconds:Q", y=alt.Y("runs:N", title=None)).properties(width=420)
    publish("stacked", args, {"runs": timed}, markdown(head, rows), chart, f"{medians(args.rounds)}.")


if __name__ == "__main__":
    main()
