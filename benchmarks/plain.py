"""What the library costs over a loop written by hand for the same work.

    python benchmarks/plain.py
    python benchmarks/plain.py --batch 128 --rounds 9
    python benchmarks/plain.py --quick

Naive training on permuted MNIST with SGD 0.1, one pass, all test sets after every task, one core:
at batch 128 10 tasks of 60,000 on 784-256-256-10; at batch 10 10 tasks of 6,000 on 784-100-100-10.
Two loops: `plain` is what anybody would write (a task's images as one float tensor, x[i], torch's SGD as
it comes); `tuned` takes the quickest call that torch has for each line (index_select, fused SGD). The
overhead is retain's time over a loop's in the same round, less 1.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

import retain
from limit import count
from measure import Spread, alternate, markdown, medians, parser, product_speed, publish, ready
from retain.experiment import Experiment, Settings

WORKS = {
    "128": Settings(tasks=10, curve_every=0, curve_samples=1),
    "10": Settings(tasks=10, samples=6000, hidden=(100, 100), batch_size=10, curve_every=0, curve_samples=1),
}
TINY = {"tasks": 2, "samples": 1280, "test_samples": 200}
OURS, LOOPS = "retain", ("plain", "tuned")


@dataclass(frozen=True)
class Timed:
    """One run, and the speed of a matrix product just before it."""

    train: float
    evaluate: float
    acc: float
    speed: float  # FLOP a second

    @property
    def total(self) -> float:
        """Both together."""
        return self.train + self.evaluate


def by_hand(settings: Settings, tuned: bool) -> Timed:
    """A task's images are made right before it, which counts as training; the test sets, as evaluation."""
    speed = product_speed()
    experiment = Experiment("permuted", retain.Naive(), settings)
    stream = experiment.build_stream()
    net = experiment.build_model(stream)
    optimizer = torch.optim.SGD(net.parameters(), lr=settings.lr, fused=True if tuned else None)
    start = time.perf_counter()
    tests = [t.test.batch(torch.arange(len(t.test))) for t in stream if t.test is not None]
    accuracies = evaluate(net, tests)
    training, evaluating = 0.0, time.perf_counter() - start
    for task in stream:
        start = time.perf_counter()
        x, y = task.train.batch(torch.arange(len(task.train)))
        (epoch_tuned if tuned else epoch)(net, optimizer, x, y, settings.batch_size)
        middle = time.perf_counter()
        accuracies = evaluate(net, tests)
        training += middle - start
        evaluating += time.perf_counter() - middle
    return Timed(training, evaluating, sum(accuracies) / len(accuracies), speed)


def epoch(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, size: int) -> None:
    for i in torch.randperm(len(x)).split(size):
        optimizer.zero_grad()
        nnf.cross_entropy(net(x[i]), y[i]).backward()
        optimizer.step()


def epoch_tuned(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, size: int) -> None:
    for i in torch.randperm(len(x)).split(size):
        optimizer.zero_grad()
        nnf.cross_entropy(net(x.index_select(0, i)), y.index_select(0, i)).backward()
        optimizer.step()


@torch.no_grad()
def evaluate(net: nn.Module, tests: list[tuple[Tensor, Tensor]]) -> list[float]:
    return [float((net(x).argmax(1) == y).float().mean()) for x, y in tests]


def by_retain(settings: Settings) -> Timed:
    """What is neither training nor consolidation counts as evaluation: making the test sets, say."""
    speed = product_speed()
    result = Experiment("permuted", retain.Naive(), settings).run()
    s = result.seconds
    train = s.train + s.consolidate
    return Timed(train, s.total - train, result.acc, speed)


def said(t: Timed) -> str:
    return f"training {t.train:.2f} s, evaluation {t.evaluate:.2f} s, ACC {t.acc:.4f}"


def measure(settings: Settings, rounds: int) -> dict[str, Any]:
    """Each side's figures at one batch size, and how much more time retain takes than either loop."""
    sides = {
        OURS: lambda: by_retain(settings),
        "plain": lambda: by_hand(settings, tuned=False),
        "tuned": lambda: by_hand(settings, tuned=True),
    }
    flop = count(retain.Naive(), settings)["train"]
    timed = alternate(sides, rounds, said)
    found: dict[str, Any] = {
        side: {
            **{of: Spread.of([getattr(t, of) for t in each]) for of in ("train", "evaluate", "total", "acc")},
            "share": Spread.of([flop / t.speed / t.train for t in each]),
        }
        for side, each in timed.items()
    }
    for loop in LOOPS:
        found[loop] |= {
            f"over_{of}": Spread.of(
                [getattr(a, of) / getattr(b, of) - 1 for a, b in zip(timed[OURS], timed[loop], strict=True)]
            )
            for of in ("train", "total")
        }
    return found


def rows(batch: str, found: dict[str, Any]) -> list[list[str]]:
    return [
        [batch, side, f["train"].text(), f["share"].text(".0%"), f["evaluate"].text(),
         f"{100 * f['acc'].median:.1f}", *(f[k].text("+.1%") if k in f else "" for k in ("over_train", "over_total"))]
        for side, f in found.items()
    ]  # fmt: skip


def chart(data: dict[str, Any]) -> Any:
    points = [
        {"batch": f"batch {batch}", "side": side, "what": what, "seconds": f[of].median}
        for batch, found in data.items()
        for side, f in found.items()
        for what, of in (("training", "train"), ("evaluation", "evaluate"))
    ]
    colour = alt.Color("what:N", scale=alt.Scale(range=["#9cc3e4", "#0072B2"]), title=None)
    base = alt.Chart(alt.InlineData(values=points)).mark_bar()
    x = alt.X("seconds:Q", title="seconds")
    y = alt.Y("side:N", sort=[OURS, *LOOPS], title=None)
    bars = base.encode(x=x, y=y, color=colour).properties(width=280, height=alt.Step(22))
    return bars.facet(
        column=alt.Column("batch:N", sort=[f"batch {b}" for b in data], title=None)
    ).resolve_scale(x="independent")


def main() -> None:
    made = parser(__doc__, rounds=5)
    made.add_argument("--batch", choices=tuple(WORKS), help="one of the two batch sizes (both)")
    args = ready(made)
    tiny = TINY if args.quick else {}
    data = {
        batch: measure(replace(settings, **tiny), args.rounds)
        for batch, settings in WORKS.items()
        if args.batch in (None, batch)
    }
    head = ("batch", "side", "training, s", "of the limit", "evaluation, s", "accuracy, %",
            "retain takes more: training", "in all")  # fmt: skip
    table = markdown(head, [row for batch, found in data.items() for row in rows(batch, found)])
    note = f"{medians(args.rounds)}."
    publish("plain", args, {"batches": data}, table, chart(data), note)


if __name__ == "__main__":
    main()
