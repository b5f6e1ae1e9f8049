"""The figures, as Vega-Lite specifications with their data inside."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from retain.report.lines import Group, Line
from retain.result import Result

Spec = dict[str, Any]
Points = list[dict[str, Any]]

ROWS = 4_200  # curve points in one figure: above it, curves are thinned to keep the file small
FEW = 6  # tasks that get a panel each, and past tasks that get a line each
MANY = 100  # tasks up to which a cell of a matrix keeps its size
MEAN = "mean of all tasks"
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


def panels(g: Group) -> dict[str, list[int]]:
    """The panels of the curves' figure: a title, and the tasks whose mean is shown.

    More than six tasks: the first, the middle, the last, and the mean over all where all were measured.
    """
    T = len(g.tasks)
    if T <= FEW:
        return {name: [j] for j, name in enumerate(g.tasks)}
    some = {g.tasks[j]: [j] for j in (0, (T - 1) // 2, T - 1)}
    return some if g.partial else {**some, MEAN: list(range(T))}


def _on_axis(r: Result, at: list[int], steps: list[int]) -> NDArray[np.float64]:
    """A run's steps on the figure's axis: each of its tasks takes the same width as everybody's."""
    own = [0, *r.boundaries]
    return np.asarray(steps, dtype=np.float64) if own == at else np.interp(steps, own, at)


def _steps_of_matrix(line: Line, js: list[int], at: list[int]) -> Points:
    """A level per task learned: what the matrix says, from the moment the last task of `js` is learned.

    Where no run measured it there is no point.
    """
    out: Points = []
    first = 0 if len(js) > 1 else js[0]
    for i in range(first + 1, len(at)):
        means = [float(np.mean([r.accuracy[i][j] for j in js])) for r in line.runs]
        values = [v for v in means if not math.isnan(v)]
        if not values:
            continue
        ends = (at[i - 1], at[i]) if line.joint else (at[i],)
        out += [_point(x, values, line) for x in ends]
    return out


def _point(x: float, values: list[float], line: Line) -> dict[str, Any]:
    y, low, high = (round(float(v), 4) for v in (np.mean(values), min(values), max(values)))
    return {"x": round(float(x)), "y": y, "low": low, "high": high, "method": line.label}


def _curve(line: Line, js: list[int], at: list[int], most: int) -> Points:
    runs = [r for r in line.runs if r.curve.step]
    if line.joint or not runs:
        return _steps_of_matrix(line, js, at)
    grid = _on_axis(runs[0], at, runs[0].curve.step)
    ys = [
        np.interp(grid, _on_axis(r, at, r.curve.step), np.mean([r.curve.task[j] for j in js], axis=0))
        for r in runs
    ]
    keep = np.unique(np.linspace(0, len(grid) - 1, min(len(grid), most)).round().astype(int))
    return [_point(grid[i], [float(y[i]) for y in ys], line) for i in keep]


def curve_points(g: Group) -> Points:
    """Rows {x, y, low, high, method, panel, kind}: mean, least and greatest over seeds at each step."""
    at, shown = edges(g), panels(g)
    most = max(ROWS // (len(g.lines) * len(shown)), 8)
    return [
        {**p, "panel": title, "kind": "level" if line.joint else "curve"}
        for title, js in shown.items()
        for line in g.lines
        for p in _curve(line, js, at, most)
    ]


def curves(g: Group) -> Spec:
    """Accuracy on each task while the tasks are learned: Fig. 2A of Kirkpatrick et al. 2017."""
    at, points = edges(g), curve_points(g)
    domain = _y_domain(g, points)
    pick = alt.selection_point(name="pick", fields=["method"], bind="legend", toggle="true")
    legend = alt.Legend(title=None, orient="top", direction="horizontal", symbolType="stroke")
    scale = alt.Scale(domain=[line.label for line in g.lines], range=[line.colour for line in g.lines])
    base = alt.Chart().encode(
        x=alt.X("x:Q", title=_x_title(g), scale=alt.Scale(domain=[0, at[-1]], nice=False)).axis(
            format=",d", tickCount=4, grid=False
        ),
        color=alt.Color("method:N", scale=scale, legend=legend),
    )
    layers = [*_phases(g, at, domain[1]), *_strokes(base, domain, pick)]
    chart = alt.layer(*layers, data=alt.InlineData(values=points)).properties(width=300, height=230)
    column = alt.Facet("panel:N", title=None, sort=list(panels(g)))
    return spec(chart.facet(facet=column, columns=4 if len(g.tasks) > FEW else 3, spacing=22))


def _x_title(g: Group) -> str:
    return "training step" if any(r.boundaries for r in g.runs) else "tasks learned"


def _y_domain(g: Group, points: Points) -> list[float]:
    low = floor(g)
    top = max([p["high"] for p in points if p["y"] >= low], default=1.0)
    return [low, min(1.0, math.ceil((top + 0.002) * 50) / 50)]


def _strokes(base: Any, domain: list[float], pick: Any) -> list[Any]:
    """The band, the lines, and unseen dots that answer the pointer."""

    def y(field: str) -> Any:
        axis = alt.Y(
            f"{field}:Q", title="test accuracy", scale=alt.Scale(domain=domain, nice=False, zero=False)
        )
        return axis.axis(format="~%", tickCount=5, grid=True)

    def opacity(picked: float, other: float) -> Any:
        return alt.condition(pick, alt.value(picked), alt.value(other))

    tooltip = [
        alt.Tooltip("method:N"),
        alt.Tooltip("panel:N", title="accuracy on"),
        alt.Tooltip("y:Q", title="mean", format=".1%"),
        alt.Tooltip("low:Q", title="lowest seed", format=".1%"),
        alt.Tooltip("high:Q", title="highest seed", format=".1%"),
        alt.Tooltip("x:Q", title="step", format=","),
    ]
    line = base.encode(y=y("y"), opacity=opacity(1, 0.07))
    is_level = alt.datum.kind == "level"
    return [  # the first layer with a legend must hold the selection, or Vega-Lite's legend takes no clicks
        base.mark_area(clip=True)
        .encode(y=y("low"), y2="high:Q", fillOpacity=opacity(0.16, 0.01))
        .add_params(pick),
        line.mark_line(clip=True, strokeWidth=1.6, strokeDash=[5, 3]).transform_filter(is_level),
        line.mark_line(clip=True, strokeWidth=1.8, strokeJoin="round").transform_filter(~is_level),
        base.mark_point(clip=True, filled=True, size=70).encode(
            y=y("y"), opacity=alt.value(0), tooltip=tooltip
        ),
    ]


def _phases(g: Group, at: list[int], top: float) -> list[Any]:
    """Rules where a task ends, and above them what is learned in between; of many tasks neither."""
    if len(g.tasks) > MANY:
        return []
    rules = alt.Chart(alt.InlineData(values=[{"x": x} for x in at[1:-1]]))
    out = [rules.mark_rule(color="#8b929c", strokeDash=[1, 3]).encode(x="x:Q")] if len(at) > 2 else []
    if len(g.tasks) > FEW:
        return out
    shown = range(1, len(at)) if numbered(g) else g.tasks
    middle = [{"x": (a + b) / 2, "text": f"learn {t}"} for a, b, t in zip(at, at[1:], shown, strict=False)]
    text = alt.Chart(alt.InlineData(values=middle))
    mark = text.mark_text(baseline="bottom", dy=-4, color="#7b828c", fontSize=10, limit=270 // len(g.tasks))
    return [*out, mark.encode(x="x:Q", y=alt.datum(top), text="text:N")]


def numbered(g: Group) -> bool:
    """Whether the tasks' numbers are shown where there is no room for their names."""
    return len(g.tasks) > FEW or max(map(len, g.tasks)) > 7


def _sides(g: Group) -> tuple[list[str], list[str]]:
    """The names of a matrix's columns and of its rows."""
    tasks = [str(j + 1) for j in range(len(g.tasks))] if numbered(g) else list(g.tasks)
    return tasks, ["untrained", *(f"after {t}" for t in tasks)]


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


def has_cosines(r: Result) -> bool:
    """Whether the run recorded angles between gradients."""
    return any(record.get("cosine") for record in r.diagnostics.get("records", []))


def cosine_points(g: Group, r: Result, window: int = 9) -> Points:
    """Rows {x, y, smooth, past}: a cosine, and its running mean over at most `window` records of a task.

    More than six tasks: the mean and the least over the past tasks, instead of each.
    """
    at = edges(g)
    series: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for record in r.diagnostics["records"]:
        cosine = record.get("cosine") or []
        if not cosine:
            continue
        x = float(_on_axis(r, at, [record["step"]])[0]) if r.boundaries else float(record["step"])
        named = dict(zip(g.tasks, cosine, strict=False))
        if len(g.tasks) > FEW:
            named = {
                "mean of the past tasks": float(np.mean(cosine)),
                "lowest of the past tasks": min(cosine),
            }
        for name, c in named.items():
            series.setdefault((name, record["task"]), []).append((x, c))
    most = max(2_400 // max(len(series), 1), 8)
    return [p for (name, task), pairs in series.items() for p in _smooth(name, task, pairs, window, most)]


def _smooth(name: str, task: int, pairs: list[tuple[float, float]], window: int, most: int) -> Points:
    y = np.array([c for _, c in pairs])
    kernel = np.ones(min(window, max(len(y) // 6, 1)) // 2 * 2 + 1)
    smooth = np.convolve(y, kernel, "same") / np.convolve(np.ones(len(y)), kernel, "same")
    keep = np.unique(np.linspace(0, len(y) - 1, min(len(y), most)).round().astype(int))
    return [
        {
            "x": round(pairs[i][0]),
            "y": round(float(y[i]), 3),
            "smooth": round(float(smooth[i]), 3),
            "past": name,
            "t": task,
        }
        for i in keep
    ]


def cosines(g: Group, r: Result) -> Spec:
    """Cosine between the step's gradient g and each past task's gradient g_k, over time."""
    at, points = edges(g), cosine_points(g, r)
    x = alt.X("x:Q", title="training step", scale=alt.Scale(domain=[0, at[-1]], nice=False))
    y = alt.Y("y:Q", title="cosine of the angle to g", scale=alt.Scale(domain=[-1, 1])).axis(tickCount=5)
    past = list(dict.fromkeys(p["past"] for p in points))
    range_ = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00"]
    legend = alt.Legend(
        title="past task", orient="top", direction="horizontal", symbolType="stroke", symbolOpacity=1
    )
    colour = alt.Color("past:N", scale=alt.Scale(domain=past, range=range_), legend=legend)
    base = alt.Chart().encode(x=x.axis(format=",d", tickCount=6, grid=False), color=colour)
    tooltip = [
        alt.Tooltip("past:N", title="past task"),
        alt.Tooltip("y:Q", title="cosine"),
        alt.Tooltip("x:Q", title="step"),
    ]
    zero = alt.Chart(alt.InlineData(values=[{}])).mark_rule(color="#8b929c").encode(y=alt.datum(0))
    dots = base.mark_point(filled=True, size=9, opacity=0.35).encode(y=y, tooltip=tooltip)
    line = base.mark_line(strokeWidth=2).encode(
        y=alt.Y("smooth:Q", title="cosine of the angle to g"), detail="t:N"
    )
    layers = [*_phases(g, at, 1.0), zero, dots, line]
    return spec(alt.layer(*layers, data=alt.InlineData(values=points)).properties(width=640, height=220))
