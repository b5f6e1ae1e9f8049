"""The figures of an update's report, as positions in percent: losses on the guards, and the map of all updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retain.vault.report.check import Record, measure_of
from retain.vault.report.words import lost, nearest, number, points, unit

ROWS = 40  # tests in one figure: of more, those nearest to failing
FAR = 5.0  # margins that the axis reaches at most
LEVELS = 8  # shades of the map
RANGE = {
    "accuracy": 0.1,
    "loss": 0.2,
}  # that the shades span at least: points / 100, and a share of the highest
CELLS = 12  # updates and guards up to which the matrix is a table with all its numbers


def losses(tests: Sequence[Record], measure: str) -> dict[str, Any] | None:
    """A row for each test that has a margin: its change, how far it may reach down, and the margin.

    None: there are none. Positions are in percent of the width; a gain is to the right.
    """
    with_margin = [t for t in tests if t["margin"] is not None]
    if not with_margin:
        return None
    shown = nearest(with_margin, measure, ROWS)
    margin = max(t["margin"] for t in shown)
    down = [v for t in shown for v in (t["margin"], t["bound"], lost(t, measure)) if v is not None]
    up = [-v for t in shown if (v := lost(t, measure)) is not None]
    left = 1.08 * min(max(down), FAR * margin) or 1.0
    right = min(max(1.08 * max(up, default=0.0), 0.3 * left), left)

    def at(value: float | None) -> float | None:
        """Where a loss is drawn; one off the axis, at its edge."""
        return None if value is None else round(min(max(100 * (left - value) / (left + right), 1.0), 99.0), 2)

    rows = [
        {"test": t, "said": _said(t, measure), "way": way(t, measure), "at": at(lost(t, measure)),
         "reach": at(t["bound"]), "margin": at(t["margin"])}
        for t in shown
    ]  # fmt: skip
    span = {"left": f"−{points(left)}", "right": f"+{points(right)}", "unit": unit(measure)}
    return {"rows": rows, "zero": at(0.0), "cut": len(with_margin) - len(shown), **span}


def way(t: Record, measure: str) -> str:
    """From the served version to the candidate, in words."""
    served, candidate = number(t["served"], measure), number(t["candidate"], measure)
    return f"{served.removesuffix(' %')} → {candidate}"


def _said(t: Record, measure: str) -> str:
    by = lost(t, measure)
    what = "no loss to compare with" if by is None else f"{'lost' if by > 0 else 'gained'} {points(abs(by))}"
    what = "no change" if by == 0 else what
    most = "" if t["bound"] is None else f", lost at most {points(t['bound'])}"
    return f"{what}{most}; margin {points(t['margin'])}"


def matrix(updates: Sequence[Record]) -> dict[str, Any]:
    """The measure on each guard after each update: a table of the last ones, and a map where there are more.

    Args:
        updates: records, oldest first, the reported one last; all have the same measure.
    """
    names = list(dict.fromkeys(g for u in updates for g in u["matrix"]["guards"]))
    rows = [dict(zip(u["matrix"]["guards"], u["matrix"]["candidate"], strict=True)) for u in updates]
    values = [v for row in rows for v in row.values() if v is not None]
    measure = measure_of(updates[-1])
    low, high = _span(values, measure)

    def share(value: float) -> float:
        """0 the worst, 1 the best."""
        s = (value - low) / (high - low)
        return 1 - s if measure == "loss" else s

    last = names[-CELLS:]
    table = [
        {"of": u, "cells": [(v, round(100 * share(v)) if v is not None else 0) for v in map(row.get, last)]}
        for u, row in list(zip(updates, rows, strict=True))[-CELLS:]
    ]
    many = len(updates) > CELLS or len(names) > CELLS
    ends = (low, high) if measure == "accuracy" else (high, low)
    return {"names": last, "table": table, "ends": ends, "guards": len(names), "updates": len(updates),
            "map": _map(updates, rows, names, share) if many else None}  # fmt: skip


def _span(values: Sequence[float], measure: str) -> tuple[float, float]:
    """Where the shades begin and end."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if measure == "accuracy":
        return max(min(low, high - RANGE[measure]), 0.0), max(high, RANGE[measure])
    return min(low, high * (1 - RANGE[measure])), max(high, 1e-12)


def _map(
    updates: Sequence[Record], rows: Sequence[Record], names: Sequence[str], share: Any
) -> dict[str, Any]:
    """One path a shade, each run of equal cells one stroke: small for hundreds of updates."""
    paths: list[list[str]] = [[] for _ in range(LEVELS)]
    for y, row in enumerate(rows):
        levels = [
            None if (v := row.get(n)) is None else min(int(share(v) * LEVELS), LEVELS - 1) for n in names
        ]
        start = 0
        for x in range(1, len(levels) + 1):
            if x == len(levels) or levels[x] != levels[start]:
                if (level := levels[start]) is not None:
                    paths[level].append(f"M{start} {y}h{x - start}v1h{start - x}z")
                start = x
    refused = "".join(f"M-1.6 {y}h1v1h-1z" for y, u in enumerate(updates) if not u["promoted"])
    return {
        "paths": ["".join(p) for p in paths],
        "refused": refused,
        "width": len(names),
        "height": len(rows),
    }


def summary(u: Record) -> dict[str, Any]:
    """An update in a row of numbers: its own guard, and the mean and the worst over all guards."""
    m, measure = u["matrix"], measure_of(u)
    found = [v for v in m["candidate"] if v is not None]
    worst = (min if measure == "accuracy" else max)(found, default=None)
    mean = sum(found) / len(found) if found else None
    return {"of": u, "new": m["candidate"][-1] if m["candidate"] else None, "mean": mean, "worst": worst}
