"""How near each method comes to what the processor could do: matrix products and nothing else.

    python benchmarks/limit.py
    python benchmarks/limit.py --methods naive,ewc,generative-replay --rounds 3
    python benchmarks/limit.py --quick

Permuted MNIST, 3 tasks of 60,000 images, 784-256-256-10, batches of 128, one pass, SGD 0.1, one core.
The floating-point operations of all matrix products of a step, of consolidation and of evaluation are
counted; divided by the speed of the best 2048 x 2048 x 2048 float32 product in the same process, in the
same round, they give the least time. The share is that time over the time measured. Element-wise work
(a penalty's pull, soft-max, the optimiser) is not counted: it is part of what keeps a share below 1.

`by hand` is naive's training with its derivatives written out: no autograd, no module, no learner; batches are read
as ever. What it falls short of the limit is products of these shapes on this processor, and reading a batch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import altair as alt
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import retain
from measure import Spread, alternate, markdown, medians, parser, product_speed, publish, ready, tell
from retain.experiment import Experiment, Settings
from retain.methods import discover

PARTS = ("train", "consolidate", "evaluate")
METHODS = "naive,l2,ewc,si,mas,lwf,replay,der,der-pp,agem,gem,generative-replay"
FULL = Settings(tasks=3, curve_every=0, curve_samples=1, drop_last=True)
BY_HAND = "by hand"
COUNTED = 2048  # images a task of the stream on which operations are counted: fills every memory


@dataclass(frozen=True)
class Timed:
    """One run: its seconds, and the speed of a product just before it."""

    seconds: dict[str, float]
    speed: float


def count(method: retain.Method[Any], settings: Settings) -> dict[str, float]:
    """FLOP of the matrix products in a whole run with these settings, by part.

    Counted in a step of each task, a consolidation and a prediction on a smaller stream, and multiplied.
    """
    full = Experiment("permuted", method, settings).build_stream()
    steps = [settings.order.steps(len(task.train)) for task in full]
    small = replace(settings, samples=min(COUNTED, len(full[0].train)), test_samples=100)
    experiment = Experiment("permuted", method, small)
    stream = experiment.build_stream()
    learner = experiment.build_learner(stream)
    learner.follow(stream)
    learner.start(stream[0].train)  # as `run` does it, before its clock counts
    found = dict.fromkeys(PARTS, 0.0)
    for task, n in zip(stream, steps, strict=True):
        with FlopCounterMode(display=False) as begin:
            learner.begin_task(task, n)
        for x, y in retain.batches(task.train, small.order, task=task.index):
            with FlopCounterMode(display=False) as step:
                learner.observe(x, y)
        with FlopCounterMode(display=False) as end:
            learner.end_task()
        found["train"] += n * step.get_total_flops()
        found["consolidate"] += begin.get_total_flops() + end.get_total_flops()
    with FlopCounterMode(display=False) as predict:
        learner.predict(torch.zeros(1, *stream.shape), stream[0])
    tests = sum(len(task.test) for task in full if task.test is not None)
    found["evaluate"] = float(predict.get_total_flops() * tests * (len(full) + 1))
    return found


def time_run(method: retain.Method[Any], settings: Settings) -> Timed:
    speed = product_speed()
    seconds = Experiment("permuted", method, settings).run().seconds
    return Timed({part: getattr(seconds, part) for part in PARTS}, speed)


def by_hand(settings: Settings) -> Timed:
    """Naive's training with nothing around its arithmetic."""
    speed = product_speed()
    experiment = Experiment("permuted", retain.Naive(), settings)
    stream = experiment.build_stream()
    params = [p.detach() for p in experiment.build_model(stream).parameters()]
    start = time.perf_counter()
    for task in stream:
        for x, y in retain.batches(task.train.materialise(), settings.order, task=task.index):
            descend(params, x.flatten(1), y, settings.lr)
    return Timed(dict.fromkeys(PARTS, 0.0) | {"train": time.perf_counter() - start}, speed)


def descend(params: list[Tensor], x: Tensor, y: Tensor, lr: float) -> None:
    """Move linear layers (weight, bias, weight, ...) with ReLUs between down the mean cross-entropy's gradient."""
    weights, taken = params[::2], [x]
    for w, b in zip(weights, params[1::2], strict=True):
        taken.append(torch.addmm(b, taken[-1], w.T))
        if w is not weights[-1]:
            taken[-1].relu_()
    *taken, out = taken
    delta = out.softmax(1).scatter_add_(1, y[:, None], out.new_full((len(y), 1), -1)).div_(len(y))
    grads: list[Tensor] = []
    for w, h in zip(reversed(weights), reversed(taken), strict=True):
        grads += [delta.sum(0), delta.T @ h]
        if w is not weights[0]:
            delta = torch.ops.aten.threshold_backward(delta @ w, h, 0)
    torch._foreach_add_(params, grads[::-1], alpha=-lr)


def said(t: Timed) -> str:
    parts = ", ".join(f"{part} {t.seconds[part]:.2f} s" for part in PARTS)
    return f"{parts}; product {t.speed / 1e9:.1f} GFLOP/s"


def share(flop: float, part: str, timed: list[Timed]) -> Spread:
    """The least time over the time measured."""
    return Spread.of([flop / t.speed / max(t.seconds[part], 1e-9) for t in timed])


def figures_of(flop: dict[str, float], timed: list[Timed], steps: int) -> dict[str, Any]:
    return {
        "flop": flop,
        "mflop_a_step": flop["train"] / steps / 1e6,
        "seconds": {part: Spread.of([t.seconds[part] for t in timed]) for part in PARTS},
        "share": {part: share(flop[part], part, timed) for part in PARTS},
    }


def chart(found: dict[str, Any]) -> Any:
    rows = [
        {"method": name, "share": f["share"]["train"].median, "low": f["share"]["train"].low,
         "high": f["share"]["train"].high}
        for name, f in found.items()
    ]  # fmt: skip
    y = alt.Y("method:N", sort=list(found), title=None)
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=y)
    axis = alt.X("share:Q", title="training, share of the limit", scale=alt.Scale(domain=[0, 1]))
    bars = base.mark_bar(color="#0072B2").encode(x=axis.axis(format="%"))
    spread = base.mark_rule(color="#1b1f24").encode(x="low:Q", x2="high:Q")
    return (bars + spread).properties(width=420, height=alt.Step(20))


def row(name: str, f: dict[str, Any]) -> list[str]:
    cells = [name, f"{f['mflop_a_step']:.0f}"]
    for part in PARTS:
        cells += [f["seconds"][part].text(), f["share"][part].text(".0%")] if f["flop"][part] else ["", ""]
    return cells


def main() -> None:
    made = parser(__doc__, rounds=5)
    made.add_argument("--methods", default=METHODS, help=f"names with commas ({METHODS})")
    args = ready(made)
    settings = replace(FULL, samples=1280, test_samples=200) if args.quick else FULL
    known = discover()
    if unknown := [m for m in args.methods.split(",") if m not in known]:
        made.error(f"no method is called {unknown[0]!r}; there are {', '.join(known)}")
    methods = {name: known[name]() for name in args.methods.split(",")}
    counted = {}
    for name, m in methods.items():
        counted[name] = count(m, settings)
        tell(f"{name}: {counted[name]['train'] / 1e9:.0f} GFLOP to train")
    sides = {name: partial(time_run, m, settings) for name, m in methods.items()}
    if "naive" in methods:
        sides[BY_HAND] = partial(by_hand, settings)
        counted[BY_HAND] = dict.fromkeys(PARTS, 0.0) | {"train": counted["naive"]["train"]}
    timed = alternate(sides, args.rounds, said)
    steps = sum(settings.order.steps(settings.samples or 60_000) for _ in range(settings.tasks or 0))
    found = {name: figures_of(counted[name], timed[name], steps) for name in sides}
    speed = Spread.of([t.speed / 1e9 for each in timed.values() for t in each])
    head = ("method", "MFLOP a step", "training, s", "of the limit", "consolidation, s", "of the limit",
            "evaluation, s", "of the limit")  # fmt: skip
    table = markdown(head, [row(name, f) for name, f in found.items()])
    note = f"{medians(args.rounds)}; the product: {speed.text('.1f')} GFLOP/s."
    publish("limit", args, {"methods": found, "product_gflops": speed}, table, chart(found), note)


if __name__ == "__main__":
    main()
