"""GEM's training against a plain loop with one backward pass for each past task, in alternation.

    python benchmarks/gem.py
    python benchmarks/gem.py --rounds 5 --tasks 10
    python benchmarks/gem.py --quick

The recipe of Lopez-Paz & Ranzato 2017: permuted MNIST, 20 tasks of 1,000 images, 784-100-100-10,
batches of 10, one pass, 256 memories a task, margin 0.5. Both use the same solver; one core.
Evaluation is in neither figure. Seconds, their ratio in the same round, and both final accuracies.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import torch
import torch.nn.functional as nnf

import retain
from measure import Spread, alternate, markdown, medians, parser, publish, ready
from retain.experiment import Experiment, Settings
from retain.projection import project
from retain.record import Evaluator
from retain.streams import Stream

RECIPE = Settings(samples=1000, hidden=(100, 100), init="xavier", batch_size=10, lr=0.1, curve_every=0)


@dataclass(frozen=True)
class Timed:
    """One run; `evaluate` is 0 where evaluation was not timed."""

    train: float
    evaluate: float
    acc: float


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


def by_hand(experiment: Experiment, stream: Stream, method: retain.GEM, evaluator: Evaluator) -> Timed:
    seconds, model = plain(experiment, stream, method)
    judge = retain.Learner(model, retain.Naive())
    judge.follow(stream)
    judge.start(stream[0].train)
    return Timed(seconds, 0.0, statistics.mean(evaluator.row(judge)))


def by_retain(experiment: Experiment) -> Timed:
    result = experiment.run()
    s = result.seconds
    return Timed(s.train + s.consolidate, s.evaluate, result.acc)


def said(t: Timed) -> str:
    return f"training {t.train:.2f} s, evaluation {t.evaluate:.2f} s, ACC {t.acc:.4f}"


def chart(timed: dict[str, list[Timed]]) -> Any:
    points = [{"side": side, "seconds": t.train} for side, each in timed.items() for t in each]
    x, y = alt.X("seconds:Q", title="training, s"), alt.Y("side:N", title=None)
    base = alt.Chart(alt.InlineData(values=points)).mark_point(filled=True, size=70, color="#0072B2")
    return base.encode(x=x, y=y).properties(width=420, height=alt.Step(28))


def main() -> None:
    made = parser(__doc__, rounds=3)
    made.add_argument("--tasks", type=int, default=20)
    args = ready(made)
    tiny = {"samples": 100, "test_samples": 200} if args.quick else {}
    settings = replace(RECIPE, tasks=2 if args.quick else args.tasks, **tiny)
    method = retain.GEM(memory_per_task=256, margin=0.5)
    experiment = Experiment("permuted", method, settings)
    stream = experiment.build_stream()
    evaluator = Evaluator(stream, 1000)
    sides = {
        "retain": lambda: by_retain(experiment),
        "plain": lambda: by_hand(experiment, stream, method, evaluator),
    }
    timed = alternate(sides, args.rounds, said)
    ratios = [a.train / b.train for a, b in zip(timed["retain"], timed["plain"], strict=True)]
    table = markdown(
        ("side", "training, s", "evaluation, s", "accuracy, %"),
        [
            [side, Spread.of([t.train for t in each]).text(),
             Spread.of([t.evaluate for t in each]).text() if side == "retain" else "",
             f"{100 * statistics.mean(t.acc for t in each):.1f}"]
            for side, each in timed.items()
        ],
    )  # fmt: skip
    ratio = Spread.of(ratios)
    note = f"{medians(args.rounds)}; retain's training over the loop's: {ratio.text()}."
    publish("gem", args, {"ratio": ratio, "runs": timed}, table, chart(timed), note)


if __name__ == "__main__":
    main()
