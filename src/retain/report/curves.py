"""The learning curves: every seed's values on one axis, and what is drawn of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import altair as alt
import numpy as np
from numpy.typing import NDArray

from retain.report.figures import Points, Spec, edges, floor, on_axis, phases, spec
from retain.report.lines import FEW, Group, Line
from retain.statistics import ENOUGH, t_factor

ROWS = 2_400  # points in one figure: above it, curves are thinned (a panel is a few hundred pixels wide)
MEAN = "mean of all tasks"
DATA = "curves"  # the name of the figure's rows


class Trace(NamedTuple):
    """One line in one panel: every seed's accuracy, [seeds, points], on the figure's axis; NaN: not measured."""

    line: Line
    panel: str
    x: list[int]
    y: NDArray[np.float64]


def panels(g: Group) -> dict[str, list[int]]:
    """The panels of the figure: a title, and the tasks whose mean is shown.

    More than six tasks: the first, the middle, the last, and the mean over all where all were measured.
    """
    T = len(g.tasks)
    if T <= FEW:
        return {name: [j] for j, name in enumerate(g.tasks)}
    some = {g.tasks[j]: [j] for j in (0, (T - 1) // 2, T - 1)}
    return some if g.partial else {**some, MEAN: list(range(T))}


def traces(g: Group, shown: dict[str, list[int]] | None = None, most: int | None = None) -> list[Trace]:
    """All lines of all panels.

    Args:
        g: the results of one stream.
        shown: panels as `panels` gives them, which is the default.
        most: points of a line, evenly taken from those that there are; None: all.
    """
    shown, at = shown or panels(g), edges(g)
    return [_trace(line, title, js, at, most) for title, js in shown.items() for line in g.lines]


def budget(g: Group) -> int:
    """How many points a line may have in a page."""
    return max(ROWS // (len(g.lines) * len(panels(g))), 8)


def thinned(g: Group) -> bool:
    """Whether some run has more points than a page shows of it."""
    return any(len(r.curve.step) > budget(g) for line in g.lines if not line.joint for r in line.runs)


def _trace(line: Line, title: str, js: list[int], at: list[int], most: int | None) -> Trace:
    runs = [r for r in line.runs if r.curve.step]
    if line.joint or len(runs) < len(line.runs):
        return _levels(line, title, js, at)
    grid = on_axis(runs[0], at, runs[0].curve.step)
    y = np.array([
        np.interp(grid, on_axis(r, at, r.curve.step), np.mean([r.curve.task[j] for j in js], axis=0))
        for r in runs
    ])  # fmt: skip
    keep = np.unique(np.linspace(0, len(grid) - 1, min(len(grid), most or len(grid))).round().astype(int))
    return Trace(line, title, grid[keep].round().astype(int).tolist(), y[:, keep])


def _levels(line: Line, title: str, js: list[int], at: list[int]) -> Trace:
    """A level per task learned: what the matrix says, from the moment the last task of `js` is learned.

    Where no run measured it there is no point.
    """
    R = np.asarray([r.accuracy for r in line.runs], dtype=np.float64)  # [seeds, T + 1, T]
    first = 1 if len(js) > 1 else js[0] + 1
    x: list[int] = []
    y: list[NDArray[np.float64]] = []
    for i in range(first, len(at)):
        values = R[:, i, js].mean(1)
        if np.isnan(values).all():
            continue
        for end in (at[i - 1], at[i]) if line.joint else (at[i],):
            x.append(round(end))
            y.append(values)
    return Trace(line, title, x, np.array(y).reshape(len(x), len(line.runs)).T)


def band(values: Sequence[float]) -> tuple[float, float]:
    """What is shaded around the mean: its 95 % interval (Student's t) in [0, 1]; of fewer than three, the range."""
    if len(values) < ENOUGH:
        return min(values), max(values)
    low, high = interval(values)
    return max(low, 0.0), min(high, 1.0)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of two values or more."""
    half = t_factor(len(values)) * float(np.std(values, ddof=1))
    mean = float(np.mean(values))
    return mean - half, mean + half


def intervals(g: Group) -> bool:
    """Whether 95 % intervals are shaded, rather than ranges."""
    return max(len(line.runs) for line in g.lines) >= ENOUGH


def curve_points(g: Group) -> Points:
    """Rows {x, y, low, high, method, panel, kind}: mean over seeds at each step, and what is shaded around it."""
    return [p for t in traces(g, most=budget(g)) for p in _rows(t)]


def _rows(t: Trace) -> Points:
    kind = "level" if t.line.joint else "curve"
    out: Points = []
    for x, column in zip(t.x, t.y.T, strict=True):
        values = column[~np.isnan(column)].tolist()
        low, high = band(values)
        y = [round(float(v), 4) for v in (np.mean(values), low, high)]
        row = {"x": x, "y": y[0], "low": y[1], "high": y[2]}
        out.append({**row, "method": t.line.label, "panel": t.panel, "kind": kind})
    return out


def plain(g: Group) -> dict[str, Any]:
    """What the page's script makes the same rows from, for any choice of methods and seeds.

    `factor[n]` is that by which the sd over n seeds is half of the interval; accuracies in 1 / 10,000, null: not
    measured.
    """
    most = max(len(line.runs) for line in g.lines)
    panel = list(panels(g))
    return {
        "data": DATA,
        "enough": ENOUGH,
        "factor": [0, 0, *(round(t_factor(n), 6) for n in range(2, most + 1))],
        "panels": panel,
        "lines": [
            {"label": line.label, "kind": "level" if line.joint else "curve", "seeds": [r.seed for r in line.runs]}
            for line in g.lines
        ],
        "traces": [
            {
                "line": g.lines.index(t.line),
                "panel": panel.index(t.panel),
                "x": t.x,
                "y": [[None if math.isnan(v) else round(1e4 * v) for v in row] for row in t.y.tolist()],
            }
            for t in traces(g, most=budget(g))
        ],
    }  # fmt: skip


def figure(g: Group, page: bool = False) -> Spec:
    """Accuracy on each task while the tasks are learned: Fig. 2A of Kirkpatrick et al. 2017.

    In a page there are no rows yet and no legend: the script and the boxes to tick stand for them.
    """
    at, points = edges(g), curve_points(g)
    domain = _y_domain(g, points)
    labels = [line.label for line in g.lines]
    legend = (
        None if page else alt.Legend(title=None, orient="top", direction="horizontal", symbolType="stroke")
    )
    scale = alt.Scale(domain=labels, range=[line.colour for line in g.lines])
    base = alt.Chart().encode(
        x=alt.X("x:Q", title=_x_title(g), scale=alt.Scale(domain=[0, at[-1]], nice=False)).axis(
            format=",d", tickCount=4, grid=False
        ),
        color=alt.Color("method:N", scale=scale, legend=legend),
    )
    dash = alt.StrokeDash(
        "method:N", scale=alt.Scale(domain=labels, range=[list(line.dash) for line in g.lines]), legend=legend
    )
    layers = [*phases(g, at, domain[1]), *_strokes(base, domain, dash)]
    data = alt.NamedData(DATA) if page else alt.InlineData(values=points)
    chart = alt.layer(*layers, data=data).properties(width=300, height=230)
    column = alt.Facet("panel:N", title=None, sort=list(panels(g)))
    return spec(chart.facet(facet=column, columns=4 if len(g.tasks) > FEW else 3, spacing=22))


def _x_title(g: Group) -> str:
    return "training step" if any(r.boundaries for r in g.runs) else "tasks learned"


def _y_domain(g: Group, points: Points) -> list[float]:
    low = floor(g)
    top = max([p["high"] for p in points if p["y"] >= low], default=1.0)
    return [low, min(1.0, math.ceil((top + 0.002) * 50) / 50)]


def _strokes(base: Any, domain: list[float], dash: Any) -> list[Any]:
    """The band, the lines, and unseen dots that answer the pointer."""

    def y(field: str) -> Any:
        axis = alt.Y(
            f"{field}:Q", title="test accuracy", scale=alt.Scale(domain=domain, nice=False, zero=False)
        )
        return axis.axis(format="~%", tickCount=5, grid=True)

    tooltip = [
        alt.Tooltip("method:N"),
        alt.Tooltip("panel:N", title="accuracy on"),
        alt.Tooltip("y:Q", title="mean", format=".1%"),
        alt.Tooltip("low:Q", title="shaded from", format=".1%"),
        alt.Tooltip("high:Q", title="to", format=".1%"),
        alt.Tooltip("x:Q", title="step", format=","),
    ]
    return [
        base.mark_area(clip=True, opacity=0.16).encode(y=y("low"), y2="high:Q"),
        base.mark_line(clip=True, strokeWidth=1.8, strokeJoin="round").encode(y=y("y"), strokeDash=dash),
        base.mark_point(clip=True, filled=True, size=70, opacity=0).encode(y=y("y"), tooltip=tooltip),
    ]
