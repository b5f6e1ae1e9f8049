"""How a step, a consolidation and the state grow with tasks, parameters, memory size and classes.

    python benchmarks/growth.py
    python benchmarks/growth.py --axes tasks --methods ewc,gem
    python benchmarks/growth.py --quick

Small nets on made-up tasks (64 Gaussian inputs; the label is the largest of some fixed linear functions of
the inputs, which change places from task to task), batches of 10, SGD, one core. One axis grows, the rest
stays: the third task, 64-32-10, 500 examples in memory. Along `tasks`, where GEM keeps 10 examples a task,
one learner goes through all of them and is timed where it passes 10, 30, 100, 300 and 1,000. Each figure is
the median over the rounds of the median step (or of one consolidation); the exponent is the slope of its
logarithm over the axis's logarithm, over all points and over the last three: 0 is constant, 1 is linear.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import altair as alt
import torch
from torch import Tensor

import retain
from measure import Spread, alternate, exponent, markdown, medians, parser, publish, ready
from retain.models import MLP
from retain.streams import Stream

INPUTS, BATCH, STEPS = 64, 10, 40  # numbers in an example, examples of a timed step, timed steps
SHORT = 60  # examples of a task where there are many; of a task for the Fisher
LAST = 3  # points over which the second exponent is fitted


@dataclass(frozen=True)
class Work:
    """What a point of an axis is run with."""

    tasks: int = 3
    hidden: int = 32  # width of the hidden layer
    memory: int = 500  # examples kept in all
    per_task: int = 250  # GEM: of each task
    classes: int = 10
    examples: int = 250  # of a task: so many that the memory is full in the third


AXES: dict[str, tuple[int, ...]] = {
    "tasks": (10, 30, 100, 300, 1000),
    "hidden": (32, 128, 512, 2048, 8192),
    "memory": (100, 1_000, 10_000, 100_000),
    "classes": (10, 30, 100, 300, 1000),
}
TINY = {"tasks": (3, 6), "hidden": (32, 64), "memory": (100, 200), "classes": (10, 20)}
TITLES = {"tasks": "tasks", "hidden": "parameters", "memory": "examples in memory", "classes": "classes"}
METHODS = ("naive", "ewc", "gem", "replay", "der-pp")
KEEPS = ("gem", "replay", "der-pp")  # have a memory, whose size can grow
MEASURES = {"step": "step, ms", "consolidation": "consolidation, ms", "state": "state, kB"}


@dataclass(frozen=True)
class Point:
    """What was measured at one place on an axis."""

    x: int
    step: float  # ms
    consolidation: float  # ms
    state: float  # kB


def method_of(name: str, w: Work) -> retain.Method[Any]:
    made: dict[str, retain.Method[Any]] = {
        "naive": retain.Naive(),
        "ewc": retain.EWC(lam=1, examples=SHORT),
        "gem": retain.GEM(memory_per_task=w.per_task, margin=0.5),
        "replay": retain.Replay(memory=w.memory),
        "der-pp": retain.DERpp(memory=w.memory),
    }
    return made[name]


def teach(inputs: Tensor, classes: int) -> Tensor:
    """Labels [N] of inputs [N, INPUTS], the same in every call."""
    rng = torch.Generator().manual_seed(1)
    return (inputs @ torch.randn(INPUTS, classes, generator=rng)).argmax(1)


def stream_of(w: Work) -> Stream:
    """The tasks: the same examples' distribution, each with the inputs in another order."""
    rng = torch.Generator().manual_seed(0)
    tasks = []
    for _ in range(w.tasks):
        x = torch.randn(w.examples, INPUTS, generator=rng)
        y = teach(x, w.classes)
        x = x[:, torch.randperm(INPUTS, generator=rng)]
        y[0] = w.classes - 1  # so that the network has an output for each class
        tasks.append((x, y, x[:1], y[:1]))
    return Stream.from_arrays(tasks)


def go(name: str, w: Work, at: tuple[int, ...]) -> Iterator[tuple[retain.Learner, float, float]]:
    """The learner, its median step and its consolidation in ms, in each task whose number is in `at`."""
    stream = stream_of(w)
    torch.manual_seed(0)
    net = MLP((INPUTS,), w.classes, (w.hidden,))
    learner = retain.Learner(net, method_of(name, w), retain.Optim(lr=0.01))
    learner.follow(stream)
    for number, task in enumerate(stream, 1):
        learner.begin_task(task)
        steps = []
        for x, y in portions(task, number in at):
            start = time.perf_counter()
            learner.observe(x, y)
            steps.append(time.perf_counter() - start)
        start = time.perf_counter()
        learner.end_task()
        if number in at:
            yield learner, 1e3 * statistics.median(steps), 1e3 * (time.perf_counter() - start)


def portions(task: retain.Task, measured: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Steps to be timed; or one step with the whole task, which only fills the state."""
    if not measured:
        return retain.batches(task.train, retain.Order(batch_size=len(task.train)))
    return retain.batches(task.train, retain.Order(iterations=STEPS, batch_size=BATCH))


def along(name: str, axis: str, values: tuple[int, ...]) -> list[Point]:
    """One method, one axis."""
    if axis == "tasks":
        w = Work(tasks=max(values), per_task=10, examples=SHORT)
        passed = go(name, w, values)
        return [Point(x, step, end, learner.state_bytes / 1e3)
                for x, (learner, step, end) in zip(values, passed, strict=True)]  # fmt: skip
    points = []
    for v in values:
        w = replace(Work(), **{axis: v})
        if axis == "memory":
            w = replace(w, per_task=v // 2, examples=max(v // 2, SHORT))
        learner, step, end = next(go(name, w, (w.tasks,)))
        x = sum(p.numel() for p in learner.model.parameters()) if axis == "hidden" else v
        points.append(Point(x, step, end, learner.state_bytes / 1e3))
    return points


def median_of(rounds: list[list[Point]]) -> list[dict[str, Any]]:
    """Point by point, the median over rounds with its spread."""
    out: list[dict[str, Any]] = []
    for points in zip(*rounds, strict=True):
        out.append({"x": points[0].x} | {m: Spread.of([asdict(p)[m] for p in points]) for m in MEASURES})
    return out


def fitted(points: list[dict[str, Any]], measure: str) -> tuple[float, float] | None:
    """The exponents over all points and over the last ones; None where there is nothing to grow."""
    x, y = [p["x"] for p in points], [p[measure].median for p in points]
    if min(y) <= 0:
        return None
    return exponent(x, y), exponent(x[-LAST:], y[-LAST:])


def said(points: list[Point]) -> str:
    return ", ".join(f"{p.x:g}: {p.step:.3f} ms a step" for p in points)


def row(axis: str, name: str, points: list[dict[str, Any]]) -> list[str]:
    cells = [TITLES[axis], f"{points[0]['x']:,.0f} - {points[-1]['x']:,.0f}", name]
    for m in MEASURES:
        fit = fitted(points, m)
        ends = " - ".join(f"{points[i][m].median:.3g}" for i in (0, -1))
        cells += [ends if fit else "", "" if fit is None else f"{fit[0]:.2f} ({fit[1]:.2f})"]
    return cells


def chart(found: dict[str, dict[str, list[dict[str, Any]]]]) -> Any:
    values = [
        {"axis": TITLES[axis], "method": name, "x": p["x"], "ms": p["step"].median}
        for axis, methods in found.items()
        for name, points in methods.items()
        for p in points
    ]
    colour = alt.Color("method:N", sort=list(METHODS), scale=alt.Scale(
        range=["#8b929c", "#0072B2", "#D55E00", "#009E73", "#CC79A7"]), title=None)  # fmt: skip
    x = alt.X("x:Q", scale=alt.Scale(type="log", nice=False), title=None).axis(format="~s", tickCount=4)
    y = alt.Y("ms:Q", scale=alt.Scale(type="log"), title="a step, ms").axis(format="~g", tickCount=4)
    line = alt.Chart(alt.InlineData(values=values)).mark_line(point=True).encode(x=x, y=y, color=colour)
    panels = line.properties(width=230, height=200)
    shown = alt.Facet("axis:N", sort=[TITLES[a] for a in found], title=None)
    return panels.facet(facet=shown, columns=2).resolve_scale(x="independent", y="independent")


def main() -> None:
    made = parser(__doc__, rounds=5)
    made.add_argument("--axes", default=",".join(AXES), help=f"with commas ({','.join(AXES)})")
    made.add_argument("--methods", default=",".join(METHODS), help=f"with commas ({','.join(METHODS)})")
    args = ready(made)
    axes, methods = args.axes.split(","), args.methods.split(",")
    if unknown := (set(axes) - set(AXES)) | (set(methods) - set(METHODS)):
        made.error(f"axes are {', '.join(AXES)}, methods {', '.join(METHODS)}; got {', '.join(unknown)}")
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for axis in axes:
        values = (TINY if args.quick else AXES)[axis]
        names = [m for m in methods if axis != "memory" or m in KEEPS]
        sides = {f"{axis}, {m}": partial(along, m, axis, values) for m in names}
        timed = alternate(sides, args.rounds, said)
        found[axis] = {m: median_of(timed[f"{axis}, {m}"]) for m in names}
    head = ["axis", "from - to", "method"]
    head += [cell for title in MEASURES.values() for cell in (title, "exponent")]
    table = markdown(head, [row(axis, m, p) for axis, each in found.items() for m, p in each.items()])
    exponents = {axis: {m: {k: fitted(p, k) for k in MEASURES} for m, p in each.items()}
                 for axis, each in found.items()}  # fmt: skip
    note = f"{medians(args.rounds)}; exponents over all points (over the last {LAST})."
    publish("growth", args, {"points": found, "exponents": exponents}, table, chart(found), note)


if __name__ == "__main__":
    main()
