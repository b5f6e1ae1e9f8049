"""The figures, as Vega-Lite specifications with their data inside."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from retain.report.lines import FEW, Group, Line, row_names
from retain.result import Result

Spec = dict[str, Any]
Points = list[dict[str, Any]]

MANY = 100  # tasks up to which a cell of a matrix keeps its size
UNMEASURED = "#d3d6db"  # cells of a matrix, against the lightest of those that were measured
VL_VERSION = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])

CONFIG: Spec = {
    "background": "transparent",
    "font": "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "#5b616b",
        "titleColor": "#5b616b",
        "titleFontWeight": "normal",
        "gridColor": "#e4e6ea",
        "domainColor": "#b9bec6",
        "tickColor": "#b9bec6",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "labelLimit": 110,
    },
    "legend": {
        "labelFontSize": 12,
        "labelLimit": 220,
        "symbolStrokeWidth": 3,
        "symbolSize": 220,
        "columns": 8,
    },
    "header": {"labelFontSize": 13, "labelFontWeight": "bold", "labelLimit": 260, "title": None},
}


def spec(chart: Any) -> Spec:
    """The chart as a dictionary, with the house's look."""
    out: Spec = chart.to_dict(validate=False)
    out["config"] = CONFIG
    return out


def edges(g: Group) -> list[int]:
    """Where tasks begin and end on the x axis, [T + 1]: the steps of the first run not of joint training."""
    runs = [r for line in g.lines if not line.joint for r in line.runs] + g.runs
    ends = next((r.boundaries for r in runs if r.boundaries), None)
    return [0, *(ends or range(1, len(g.tasks) + 1))]


def floor(g: Group) -> float:
    """Where the y axis and the colours begin: below the worst accuracy on a task that was learned before."""
    seen = [float(np.nanmin(line.matrix[1:][np.tril_indices(len(g.tasks))])) for line in g.lines]
    return min(max(math.floor((min(seen) - 0.015) * 20) / 20, 0.0), 0.95)


def on_axis(r: Result, at: list[int], steps: list[int]) -> NDArray[np.float64]:
    """A run's steps on the figure's axis: each of its tasks takes the same width as everybody's."""
    own = [0, *r.boundaries]
    return np.asarray(steps, dtype=np.float64) if own == at else np.interp(steps, own, at)


def phases(g: Group, at: list[int], top: float) -> list[Any]:
    """Rules where a task ends, and above them what is learned in between; of many tasks neither."""
    if len(g.tasks) > MANY:
        return []
    rules = alt.Chart(alt.InlineData(values=[{"x": x} for x in at[1:-1]]))
    out = [rules.mark_rule(color="#8b929c", strokeDash=[1, 3]).encode(x="x:Q")] if len(at) > 2 else []
    if len(g.tasks) > FEW:
        return out
    shown = range(1, len(at)) if g.numbered else g.tasks
    middle = [{"x": (a + b) / 2, "text": f"learn {t}"} for a, b, t in zip(at, at[1:], shown, strict=False)]
    text = alt.Chart(alt.InlineData(values=middle))
    mark = text.mark_text(baseline="bottom", dy=-4, color="#7b828c", fontSize=10, limit=270 // len(g.tasks))
    return [*out, mark.encode(x="x:Q", y=alt.datum(top), text="text:N")]


def _sides(g: Group) -> tuple[list[str], list[str]]:
    """The names of a matrix's columns and of its rows."""
    return list(g.short), row_names(g.short)


def _cells(g: Group, line: Line) -> Points:
    """Those that were measured, row by row."""
    tasks, rows = _sides(g)
    return [
        {
            "after": rows[i],
            "task": tasks[j],
            "value": round(100 * float(line.matrix[i, j]), 2),
            "new": bool(i == j + 1),
        }
        for i, j in np.argwhere(~np.isnan(line.matrix))
    ]


def _matrix(g: Group, line: Line) -> Any:
    T, low, cells = len(g.tasks), 100 * floor(g), _cells(g, line)
    tasks, rows = _sides(g)
    side = 46 if T <= FEW else 34 if T <= 10 else 14 if T <= MANY else 14 * MANY / T
    look: Spec = {"labelFontSize": 9 if T > 10 else 11, **({"labelOverlap": True} if T > MANY else {})}
    base = alt.Chart(alt.InlineData(values=cells)).encode(
        x=alt.X("task:N", sort=tasks, title=None).axis(
            orient="top", labelAngle=0, domain=False, ticks=False, **look
        ),
        y=alt.Y("after:N", sort=rows, title=None).axis(domain=False, ticks=False, **look),
        tooltip=[
            alt.Tooltip("after:N", title="network"),
            alt.Tooltip("task:N", title="accuracy on"),
            alt.Tooltip("value:Q", title="mean, %", format=".1f"),
        ],
    )
    shade = alt.Scale(domain=[low, 100], range=["#eef3f9", "#9cc3e4", "#0b5394"], clamp=True)
    colour = alt.Color("value:Q", scale=shade, legend=None)
    filled = base.mark_rect(stroke="#ffffff", strokeWidth=1 if T <= MANY else 0).encode(color=colour)
    diagonal = base.mark_rect(filled=False, stroke="#D55E00", strokeWidth=1.6).transform_filter("datum.new")
    layers = [filled, diagonal] if T <= MANY else [filled]  # an outline would hide a cell that small
    if T <= 10:
        dark = alt.condition(
            alt.datum.value > low + 0.62 * (100 - low), alt.value("#ffffff"), alt.value("#1b1f24")
        )
        numbers = base.mark_text(fontSize=12 if T <= FEW else 9.5, aria=False)
        layers.append(numbers.encode(text=alt.Text("value:Q", format=".1f"), color=dark))
    chart = alt.layer(*layers).properties(width=alt.Step(side), height=alt.Step(min(side, 34)))
    return chart.properties(view={"fill": UNMEASURED}) if line.partial else chart


def matrix(g: Group, line: Line) -> Spec:
    """One accuracy matrix, mean over seeds, as a heat map; all of a stream share the colours."""
    return spec(_matrix(g, line))


def sheet(g: Group) -> Spec:
    """All accuracy matrices of a stream on one sheet."""
    title = {"anchor": "start", "fontSize": 13}
    charts = [_matrix(g, line).properties(title={"text": line.label, **title}) for line in g.lines]
    return spec(alt.concat(*charts, columns=4 if len(g.tasks) <= FEW else 2, spacing=26))
