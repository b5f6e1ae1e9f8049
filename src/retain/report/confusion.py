"""Which class is taken for which, from before the first task to after the last, where runs recorded it."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from retain.report.figures import Points, Spec, spec
from retain.report.lines import Group, Line, row_names

CLASSES = 30  # up to which a table is drawn: of more no cell could be told from its neighbours
VALUES = 150_000  # shares in one page: above it, it leaves out moments
DATA = "cells"  # the name of the figure's rows


def lines(g: Group) -> list[Line]:
    """Those whose confusions are drawn: every run recorded them, and all have as many classes, not too many."""
    return [line for line in recorded(g) if len(_tables(line)[0]) <= CLASSES]


def recorded(g: Group) -> list[Line]:
    """Those of which every run recorded confusions, of as many classes."""
    return [
        line
        for line in g.lines
        if all("confusions" in r.extras for r in line.runs)
        and len({len(r.extras["confusions"][0]) for r in line.runs}) == 1
    ]


def _tables(line: Line) -> NDArray[np.int64]:
    """Counts [T + 1, C, C], the sum over seeds: class by row, what it was taken for by column."""
    found: NDArray[np.int64] = np.sum(
        [np.asarray(r.extras["confusions"], dtype=np.int64) for r in line.runs], axis=0
    )
    return found


def _shares(line: Line) -> NDArray[np.float64]:
    """The same in percent of each row; a class without examples: 0."""
    tables = _tables(line).astype(np.float64)
    shares: NDArray[np.float64] = 100 * tables / np.maximum(tables.sum(2, keepdims=True), 1)
    return shares


def _kept(g: Group) -> list[int]:
    """The rows of the matrix that a page shows: all, or the first, the last and some between, evenly taken."""
    found = lines(g)
    each = sum(len(_tables(line)[0]) ** 2 for line in found)
    T = len(g.tasks)
    most = T + 1 if each * (T + 1) <= VALUES else max(VALUES // max(each, 1), 2)
    kept: list[int] = np.unique(np.linspace(0, T, min(most, T + 1)).round().astype(int)).tolist()
    return kept


def moments(g: Group) -> list[str]:
    """Their names."""
    names = row_names(g.tasks)
    return [names[i] for i in _kept(g)] if lines(g) else []


def plain(g: Group, line: Line) -> dict[str, Any]:
    """What the page's script makes rows from: shares in percent, [moments, C, C]."""
    return {"data": DATA, "shares": _shares(line)[_kept(g)].round(1).tolist()}


def figure(g: Group) -> Spec | None:
    """A table without rows, which the script gives it; None where no run recorded any."""
    found = lines(g)
    return spec(_table(alt.NamedData(DATA), max(len(_tables(line)[0]) for line in found))) if found else None


def sheet(g: Group) -> Spec:
    """The tables of all lines, before the first task, half-way and after the last, on one sheet."""
    T = len(g.tasks)
    names = row_names(g.tasks)
    charts = []
    for line in lines(g):
        shares = _shares(line)
        for i in sorted({0, (T + 1) // 2, T}):
            data = alt.InlineData(values=_rows(shares[i]))
            charts.append(_table(data, len(shares[i])).properties(title=f"{line.label}, {names[i]}"))
    return spec(alt.concat(*charts, columns=3, spacing=24))


def _rows(shares: NDArray[np.float64]) -> Points:
    return [
        {"label": a, "taken": b, "share": round(float(v), 1)}
        for a, row in enumerate(shares)
        for b, v in enumerate(row)
    ]


def counts(g: Group) -> Points:
    """Every count of every seed that is not zero, for a CSV file."""
    return [
        {
            "method": line.label,
            "seed": r.seed,
            "tasks learned": i,
            "class": a,
            "taken for": b,
            "examples": table[a][b],
        }
        for line in recorded(g)
        for r in line.runs
        for i, table in enumerate(r.extras["confusions"])
        for a in range(len(table))
        for b in range(len(table))
        if table[a][b]
    ]


def _table(data: Any, classes: int) -> Any:
    side = 22 if classes <= 12 else 12
    order = list(range(classes))
    look: Spec = {"domain": False, "ticks": False, "labelFontSize": 9 if classes > 12 else 11}
    shade = alt.Scale(domain=[0, 100], range=["#eef3f9", "#9cc3e4", "#0b5394"])
    across = alt.X("taken:O", title="taken for", scale=alt.Scale(domain=order))
    down = alt.Y("label:O", title="class", scale=alt.Scale(domain=order))
    chart = alt.Chart(data).mark_rect(stroke="#ffffff", strokeWidth=0.6)
    return chart.encode(
        x=across.axis(orient="top", labelAngle=0, **look),
        y=down.axis(**look),
        color=alt.Color("share:Q", scale=shade, legend=None),
        tooltip=[
            alt.Tooltip("label:O", title="class"),
            alt.Tooltip("taken:O", title="taken for"),
            alt.Tooltip("share:Q", title="share, %", format=".1f"),
        ],
    ).properties(width=alt.Step(side), height=alt.Step(side))
