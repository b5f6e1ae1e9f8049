"""The figures as SVG and PNG files, and what they show as CSV files, written without a browser."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import vl_convert

from retain.files import write_atomically
from retain.report import confusion, curves, figures, inside, tradeoffs
from retain.report.lines import Group, group, names
from retain.report.table import MEASURES, NUMBERS, rows
from retain.result import Result


class Exported(NamedTuple):
    """One figure and its data; a table has no figure."""

    kind: str
    spec: figures.Spec | None
    rows: figures.Points


def write_pngs(results: Sequence[Result], folder: Path, folders: Sequence[str] = ()) -> list[Path]:
    """`curves-STREAM.png` and `matrices-STREAM.png` for each stream, in that order."""
    groups = group(results, folders)
    out: list[Path] = []
    for g, name in zip(groups, names(groups), strict=True):
        for kind, spec in (("curves", curves.figure(g)), ("matrices", figures.sheet(g))):
            out.append(folder / f"{kind}-{name}.png")
            write_atomically(out[-1], png(spec))
    return out


def write(results: Sequence[Result], folder: Path, folders: Sequence[str] = ()) -> list[Path]:
    """KIND-STREAM.svg, .png and .csv for every figure of each stream, and `numbers-STREAM.csv`."""
    groups = group(results, folders)
    out: list[Path] = []
    for g, name in zip(groups, names(groups), strict=True):
        for found in figures_of(g):
            files = {"csv": table(found.rows)}
            if found.spec is not None:
                files = {"svg": svg(found.spec), "png": png(found.spec), **files}
            for end, data in files.items():
                out.append(folder / f"{found.kind}-{name}.{end}")
                write_atomically(out[-1], data)
    return out


def figures_of(g: Group) -> Iterator[Exported]:
    """All that a page shows of a stream, in its order; the data are those of every seed, not thinned."""
    yield Exported("curves", curves.figure(g), _curves(g))
    yield Exported("matrices", figures.sheet(g), _cells(g))
    yield Exported("numbers", None, numbers(g))
    if (plane := tradeoffs.plane(g)) is not None:
        yield Exported("plane", plane.spec, plane.rows)
    for i, kind in enumerate(tradeoffs.COSTS, 1):
        cost = tradeoffs.cost(g, kind)
        yield Exported(f"cost-{i}", cost.spec, cost.rows)
    if confusion.lines(g):
        yield Exported("confusions", confusion.sheet(g), confusion.counts(g))
    for series, kind in ((inside.COSINES, "cosines"), (inside.MULTIPLIERS, "multipliers")):
        for i, (_, r) in enumerate(inside.with_series(g, series), 1):
            spec, rows = inside.over_time(g, r, series), inside.series_points(g, r, series)
            yield Exported(f"{kind}-{i}", spec, rows)
    for i, (line, held) in enumerate(inside.with_layers(g), 1):
        yield Exported(f"layers-{i}", inside.layers(g, line, held), inside.layer_points(g, line, held))


def _curves(g: Group) -> figures.Points:
    return [
        {"method": t.line.label, "accuracy on": t.panel, "seed": r.seed, "step": x, "accuracy": float(v)}
        for t in curves.traces(g)
        for r, values in zip(t.line.runs, t.y, strict=True)
        for x, v in zip(t.x, values, strict=True)
        if not math.isnan(v)
    ]


def _cells(g: Group) -> figures.Points:
    return [
        {"method": line.label, "seed": r.seed, "tasks learned": i, "task": task, "accuracy": value}
        for line in g.lines
        for r in line.runs
        for i, row in enumerate(r.accuracy)
        for task, value in zip(g.tasks, row, strict=True)
        if not math.isnan(value)
    ]


def numbers(g: Group) -> figures.Points:
    """Of each method and measure the mean over seeds, the sd, half of the 95 % interval, and how many seeds."""
    return [
        {"method": row.method, "measure": name, "mean": s.mean, "sd": s.sd, "95% +-": s.half, "seeds": s.n}
        for row in rows(g)
        for name, of in {**MEASURES, **NUMBERS}.items()
        if (s := of(row)) is not None
    ]  # fmt: skip


def table(found: figures.Points) -> bytes:
    """Rows as CSV: a head of all their names, an empty cell for what a row has not."""
    head = list(dict.fromkeys(name for row in found for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, head, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue().encode()


def png(spec: figures.Spec) -> bytes:
    """Drawn on white, at twice the size of the screen's points."""
    return bytes(vl_convert.vegalite_to_png(_on_white(spec), vl_version=figures.VL_VERSION, scale=2))


def svg(spec: figures.Spec) -> bytes:
    """Drawn on white."""
    return str(vl_convert.vegalite_to_svg(_on_white(spec), vl_version=figures.VL_VERSION)).encode()


def _on_white(spec: figures.Spec) -> dict[str, Any]:
    return {**spec, "config": {**spec["config"], "background": "#ffffff", "padding": 14}}
