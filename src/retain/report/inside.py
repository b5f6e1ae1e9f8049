"""What methods show of themselves: the angles and multipliers of gradients, and what holds each layer."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import altair as alt
import numpy as np

from retain.report.check import finite
from retain.report.figures import MANY, Points, Spec, edges, on_axis, phases, spec
from retain.report.lines import FEW, Group, Line
from retain.result import Result

SMOOTHED = 9  # records of a task that a running mean is over, at most
PAST = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00"]  # of past tasks


ROOT = "network"  # a layer without a name: the whole model


class Series(NamedTuple):
    """A number for each past task, at steps of a run, under this name in its records."""

    key: str
    title: str  # of its axis
    word: str  # for one value
    furthest: str  # of many past tasks, the one that is shown beside their mean
    domain: list[float] | None  # of its axis; None: from 0, as the values have it


COSINES = Series("cosine", "cosine of the angle to g", "cosine", "lowest", [-1, 1])
MULTIPLIERS = Series("multipliers", "multiplier v of each g_k", "multiplier", "highest", None)


def with_series(g: Group, series: Series) -> list[tuple[Line, Result]]:
    """The lines with runs that recorded it, each with the first of these runs."""
    found = []
    for line in g.lines:
        runs = [r for r in line.runs if any(x.get(series.key) for x in _records(r))]
        found += [(line, runs[0])] if runs else []
    return found


def series_points(g: Group, r: Result, series: Series) -> Points:
    """Rows {x, y, smooth, past}: a value, and its running mean over at most `SMOOTHED` records of a task.

    More than six tasks: the mean and the furthest over the past tasks, instead of each.
    """
    at = edges(g)
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for record in _records(r):
        values = record.get(series.key) or []
        if not values:
            continue
        x = float(on_axis(r, at, [record["step"]])[0]) if r.boundaries else float(record["step"])
        named = dict(zip(g.tasks, values, strict=False))
        if len(g.tasks) > FEW:
            furthest = min(values) if series.furthest == "lowest" else max(values)
            named = {
                "mean of the past tasks": float(np.mean(values)),
                f"{series.furthest} of the past tasks": furthest,
            }
        for name, v in named.items():
            found.setdefault((name, record["task"]), []).append((x, v))
    most = max(2_400 // max(len(found), 1), 8)
    return [p for (name, task), pairs in found.items() for p in _smooth(name, task, pairs, most)]


def _smooth(name: str, task: int, pairs: list[tuple[float, float]], most: int) -> Points:
    y = np.array([v for _, v in pairs])
    kernel = np.ones(min(SMOOTHED, max(len(y) // 6, 1)) // 2 * 2 + 1)
    smooth = np.convolve(y, kernel, "same") / np.convolve(np.ones(len(y)), kernel, "same")
    keep = np.unique(np.linspace(0, len(y) - 1, min(len(y), most)).round().astype(int))
    return [
        {
            "x": round(pairs[i][0]),
            "y": float(f"{y[i]:.4g}"),
            "smooth": float(f"{smooth[i]:.4g}"),
            "past": name,
            "t": task,
        }
        for i in keep
    ]


def over_time(g: Group, r: Result, series: Series) -> Spec:
    """A series of a run over its steps: dots, and their running means as lines."""
    at, points = edges(g), series_points(g, r, series)
    top = max([p["y"] for p in points], default=0.0) or 1.0
    domain = series.domain or [0.0, 1.08 * top]
    end = max([at[-1], *(p["x"] for p in points)])  # of a run without boundaries steps are known alone
    x = alt.X("x:Q", title="training step", scale=alt.Scale(domain=[0, end], nice=False))
    scale = alt.Scale(domain=domain, nice=False)
    past = list(dict.fromkeys(p["past"] for p in points))
    legend = alt.Legend(
        title="past task", orient="top", direction="horizontal", symbolType="stroke", symbolOpacity=1
    )
    colour = alt.Color("past:N", scale=alt.Scale(domain=past, range=PAST), legend=legend)
    base = alt.Chart().encode(x=x.axis(format=",d", tickCount=6, grid=False), color=colour)
    tooltip = [
        alt.Tooltip("past:N", title="past task"),
        alt.Tooltip("y:Q", title=series.word),
        alt.Tooltip("x:Q", title="step"),
    ]
    zero = alt.Chart(alt.InlineData(values=[{}])).mark_rule(color="#8b929c").encode(y=alt.datum(0))
    dots = base.mark_point(filled=True, size=9, opacity=0.35, clip=True)
    dots = dots.encode(y=alt.Y("y:Q", title=series.title, scale=scale).axis(tickCount=5), tooltip=tooltip)
    line = base.mark_line(strokeWidth=2, clip=True).encode(
        y=alt.Y("smooth:Q", title=series.title), detail="t:N"
    )
    layers = [*phases(g, at, domain[1]), zero, dots, line]
    return spec(alt.layer(*layers, data=alt.InlineData(values=points)).properties(width=640, height=220))


class Held(NamedTuple):
    """By what a method holds each layer, as one of its records tells it."""

    key: str
    title: str
    share: bool  # a share of the layer in [0, 1]; else a number that is compared by factors
    about: str  # for the eye


HELD = (
    Held("importance", "mean importance", False, "the mean importance of a layer's parameters"),
    Held("kept", "share taken", True, "the share of a layer's input directions that may move no more"),
    Held("used", "share taken", True, "the share of a layer's units that past tasks use"),
    Held("free", "share taken", True, "the share of a layer's weights that past tasks own"),
)


def with_layers(g: Group) -> list[tuple[Line, Held]]:
    """The lines that recorded what holds each layer."""
    return [
        (line, held)
        for line in g.lines
        for held in HELD
        if any(told(held, x) for r in line.runs for x in _records(r))
    ]


def told(held: Held, record: dict[str, Any]) -> dict[str, Any]:
    """By layer what a record holds of it; empty where that has another form, such as a user's own entry."""
    found = record.get(held.key)
    if not isinstance(found, dict):
        return {}
    if held.key == "kept":
        fits = all(
            isinstance(v, list) and len(v) == 2 and all(map(_number, v)) and v[0] <= v[1]
            for v in found.values()
        )
    else:
        fits = all(_number(v) and (v <= 1 or not held.share) for v in found.values())
    return found if fits else {}


def _number(v: Any) -> bool:
    return finite(v) and v >= 0


def taken(held: Held, value: Any) -> float:
    """A layer's number as it is shown: of directions kept out of so many their share, of what is free the rest."""
    if held.key == "kept":
        return float(value[0]) / max(float(value[1]), 1.0)
    return 1.0 - float(value) if held.key == "free" else float(value)


def layer_points(g: Group, line: Line, held: Held) -> Points:
    """Rows {after, layer, value}: the mean over seeds, after each task that told it."""
    found: dict[tuple[int, str], list[float]] = {}
    for r in line.runs:
        for record in _records(r):
            for layer, value in told(held, record).items():
                found.setdefault((record["task"], layer or ROOT), []).append(taken(held, value))
    return [
        {"after": g.short[task], "layer": layer, "value": float(f"{np.mean(values):.4g}")}
        for (task, layer), values in sorted(found.items(), key=lambda item: item[0][0])
    ]


def layers(g: Group, line: Line, held: Held) -> Spec:
    """What holds each layer after each task, as a heat map."""
    points = layer_points(g, line, held)
    positive = [p["value"] for p in points if p["value"] > 0] or [1.0]
    colours = ["#eef3f9", "#9cc3e4", "#0b5394"]
    if held.share:
        shade = alt.Scale(domain=[0, 1], range=colours, clamp=True)
    else:
        low, high = min(positive), max(positive)
        ends = [low, math.sqrt(low * high), high] if high > low else [low / 2, low, high * 2]
        shade = alt.Scale(type="log", domain=ends, range=colours, clamp=True)
    tasks, names = list(g.short), list(dict.fromkeys(p["layer"] for p in points))
    side = 46 if len(tasks) <= FEW else 34 if len(tasks) <= 10 else 14 if len(tasks) <= MANY else 4
    format = ".0%" if held.share else ".1e"
    look: Spec = {"domain": False, "ticks": False, "labelOverlap": True}
    base = alt.Chart(alt.InlineData(values=points)).encode(
        x=alt.X("after:N", sort=tasks, title="after").axis(orient="top", labelAngle=0, **look),
        y=alt.Y("layer:N", sort=names, title=None).axis(**look),
        tooltip=[
            alt.Tooltip("layer:N"),
            alt.Tooltip("after:N"),
            alt.Tooltip("value:Q", title=held.title, format=format),
        ],
    )
    drawn = [
        base.mark_rect(stroke="#ffffff", strokeWidth=1 if len(tasks) <= MANY else 0).encode(
            color=alt.Color("value:Q", scale=shade, legend=None)
        )
    ]
    if len(tasks) <= FEW:
        edge = 0.62 if held.share else min(positive) * (max(positive) / min(positive)) ** 0.62
        dark = alt.condition(alt.datum.value > edge, alt.value("#ffffff"), alt.value("#1b1f24"))
        text = base.mark_text(fontSize=10.5, aria=False)
        drawn.append(text.encode(text=alt.Text("value:Q", format=format), color=dark))
    height = 26 if len(names) <= 12 else 12
    return spec(alt.layer(*drawn).properties(width=alt.Step(side), height=alt.Step(height)))


def turned(g: Group, line: Line) -> str:
    """In which share of a task's steps g had to be turned: each task's last record, the mean over seeds."""
    shares: dict[int, dict[int, float]] = {}
    for r in line.runs:
        for record in _records(r):
            if "violations" in record and record["task"] > 0:
                shares.setdefault(record["task"], {})[r.seed] = record["violations"]
    means = {t: 100 * float(np.mean(list(by_seed.values()))) for t, by_seed in sorted(shares.items())}
    return ", ".join(f"{share:.0f} % of the steps while learning {g.tasks[t]}" for t, share in means.items())


def _records(r: Result) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = r.diagnostics.get("records", [])
    return records
