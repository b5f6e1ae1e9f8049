"""What is gained against what it costs: the plane of stability and plasticity, and ACC against three costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import altair as alt
import numpy as np

from retain.report.curves import band, interval
from retain.report.figures import Points, Spec, spec
from retain.report.lines import Group
from retain.result import Result
from retain.statistics import ENOUGH

SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)
CORNERS = {"naive": "plain training, which only learns", "joint": "joint training, which keeps all data"}

COSTS: dict[str, Callable[[Result], float]] = {
    "seconds, total": lambda r: r.seconds.total,
    "bytes kept beside the network": lambda r: r.state_bytes,
    "raw examples stored": lambda r: r.examples_stored,
}
"""What a method costs, by the title of its axis."""


class Axis(NamedTuple):
    """One measure of a run, and how it is shown."""

    title: str
    of: Callable[[Result], float | None]
    format: str
    scale: Any
    values: list[float] | None = None  # of its ticks; None: as they come


def points(g: Group, x: Axis, y: Axis) -> Points:
    """A row for each line, its mean, and one for each of its seeds; none of a line with a value not measured.

    {method, kind: "mean" or "seed", seed, x, y}, and of a mean over three seeds or more x0, x1, y0, y1: the 95 %
    interval in each direction, that of the accuracy y within [0, 1].
    """
    out: Points = []
    for line in g.lines:
        values = [(x.of(r), y.of(r)) for r in line.runs]
        xs, ys = ([v for pair in values if (v := pair[k]) is not None] for k in (0, 1))
        if len(xs) < len(values) or len(ys) < len(values):
            continue
        out += [
            {"method": line.label, "kind": "seed", "seed": str(r.seed), "x": a, "y": b}
            for r, a, b in zip(line.runs, xs, ys, strict=True)
        ]
        mean: dict[str, Any] = {"x": float(np.mean(xs)), "y": float(np.mean(ys))}
        if len(values) >= ENOUGH:
            (x0, x1), (y0, y1) = interval(xs), band(ys)
            mean |= {"x0": x0, "x1": x1, "y0": y0, "y1": y1}
        out.append({"method": line.label, "kind": "mean", "seed": f"mean of {len(values)}", **mean})
    return out


class Plot(NamedTuple):
    """A figure and the rows that it shows."""

    spec: Spec
    rows: Points


def plane(g: Group) -> Plot | None:
    """Forgetting against learning accuracy; None where no line has both."""
    padded = alt.Scale(zero=False, nice=True, padding=14)
    left = Axis("forgetting (better to the left)", lambda r: r.forgetting, "~%", padded)
    up = Axis("learning accuracy", lambda r: r.learning_accuracy, "~%", padded)
    rows = points(g, left, up)
    return Plot(_scatter(g, rows, left, up, _marked(g, rows), height=320), rows) if rows else None


def _marked(g: Group, rows: Points) -> Points:
    """Where the means of plain and of joint training lie: the corners between which methods are seen."""
    names = {line.label: line.name for line in g.lines}
    return [p for p in rows if p["kind"] == "mean" and names[p["method"]] in CORNERS]


def corners(g: Group) -> str:
    """Which corners the plane marks, in words; empty: none."""
    there = {line.name for line in g.lines}
    return " and ".join(text for name, text in CORNERS.items() if name in there)


def cost(g: Group, kind: str) -> Plot:
    """ACC against one of `COSTS`."""
    of = COSTS[kind]
    values = [float(of(r)) for r in g.runs]
    unit, ticks = _ticks(values)
    scale = alt.Scale(type="symlog", constant=unit, domain=[0, max(*ticks, *values)], nice=False)
    x = Axis(kind, of, "~s", scale, ticks)
    y = Axis("ACC", lambda r: r.acc, "~%", alt.Scale(zero=False, nice=True, padding=10))
    rows = points(g, x, y)
    return Plot(_scatter(g, rows, x, y, [], height=230), rows)


def _ticks(values: Sequence[float]) -> tuple[float, list[float]]:
    """Where an axis that begins at zero and grows by factors turns from one to the other, and its ticks.

    >>> _ticks([0.0, 30.0, 20_000.0])
    (10.0, [0.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0])
    >>> _ticks([5.1, 6.0])
    (1.0, [0.0, 1.0, 2.0, 5.0, 10.0])
    """
    positive = [v for v in values if v > 0] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    high = max(high, low + 1)
    steps = (1, 2, 5) if high - low < 2 else (1,)
    return 10.0**low, [0.0, *(s * 10.0**k for k in range(low, high) for s in steps), 10.0**high]


def _scatter(g: Group, rows: Points, x: Axis, y: Axis, marked: Points, height: int) -> Spec:
    """Marks told apart by colour and by shape; seeds small, means large."""
    labels = [line.label for line in g.lines]
    shapes = [SHAPES[i % len(SHAPES)] for i in range(len(labels))]
    key = alt.Legend(title=None, orient="top", direction="horizontal", symbolOpacity=1)
    across = alt.X("x:Q", title=x.title, scale=x.scale).axis(grid=True, tickCount=6, **_ticked(x))
    up = alt.Y("y:Q", title=y.title, scale=y.scale).axis(format=y.format, tickCount=5)
    base = alt.Chart().encode(
        color=alt.Color(
            "method:N", scale=alt.Scale(domain=labels, range=[n.colour for n in g.lines]), legend=key
        ),
    )
    shape = alt.Shape("method:N", scale=alt.Scale(domain=labels, range=shapes), legend=key)
    tooltip = [
        alt.Tooltip("method:N"),
        alt.Tooltip("seed:N", title="seed"),
        alt.Tooltip("x:Q", title=x.title.partition(" (")[0], format=".1%" if x.format == "~%" else ",.1f"),
        alt.Tooltip("y:Q", title=y.title, format=".1%"),
    ]

    def marks(which: str, size: int, opacity: float) -> Any:
        mark = base.mark_point(filled=True, size=size, opacity=opacity).transform_filter(
            alt.datum.kind == which
        )
        return mark.encode(x=across, y=up, shape=shape, tooltip=tooltip)

    layers = [marks("seed", 22, 0.45), marks("mean", 130, 1)]
    if any("y0" in p for p in rows):
        whisker = base.mark_rule(strokeWidth=1.2, opacity=0.7).transform_filter("isValid(datum.y0)")
        layers.insert(0, whisker.encode(x=across, y="y0:Q", y2="y1:Q"))
        if x.values is None:
            layers.insert(0, whisker.encode(x="x0:Q", x2="x1:Q", y=up))
    for p in marked:
        rule = alt.Chart(alt.InlineData(values=[{}])).mark_rule(color="#8b929c", strokeDash=[1, 3])
        layers[:0] = [rule.encode(x=alt.datum(p["x"])), rule.encode(y=alt.datum(p["y"]))]
    return spec(alt.layer(*layers, data=alt.InlineData(values=rows)).properties(width=560, height=height))


def _ticked(x: Axis) -> Spec:
    if x.values is None:
        return {"format": x.format}
    return {"values": x.values, "labelOverlap": True, "labelExpr": f"format(datum.value, '{x.format}')"}
