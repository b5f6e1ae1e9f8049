"""The numbers: every mean and spread that a report, a table or a sentence shows is computed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retain import metrics, statistics
from retain.report.fitted import Fitted
from retain.report.lines import Group, Line, group
from retain.result import Result
from retain.statistics import point


@dataclass(frozen=True)
class Stat:
    """Mean over seeds, and the sample standard deviation (n - 1); no spread for one seed."""

    mean: float
    sd: float | None
    n: int
    half: float | None = None  # of the width of the 95% interval of the mean (Student's t)

    @classmethod
    def of(cls, values: Sequence[float]) -> Stat:
        """Of at least one value.

        >>> s = Stat.of([1.0, 3.0])
        >>> s.mean, round(s.sd, 4), s.n, round(s.half, 4)
        (2.0, 1.4142, 2, 12.7062)
        """
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return cls(float(np.mean(values)), sd, len(values), statistics.t_interval(values).half)


@dataclass(frozen=True)
class Row:
    """One method with one setting on one stream, over its seeds. Accuracies in [0, 1].

    None: the measure needs more than one task (BWT, FWT, forgetting), a cell of the accuracy matrix that
    some run did not measure, or exactly one joint run of the same stream, folder and seed (intransigence, over
    the seeds that have it).
    """

    stream: str
    method: str
    name: str
    seeds: tuple[int, ...]
    acc: Stat
    bwt: Stat | None
    fwt: Stat | None
    forgetting: Stat | None
    learning_accuracy: Stat | None
    intransigence: Stat | None
    train: Stat  # seconds, as the next three
    consolidate: Stat
    evaluate: Stat
    total: Stat
    state_bytes: Stat
    examples_stored: Stat


def summarise(results: Sequence[Result]) -> list[Row]:
    """One row for each stream, method and setting: streams as they come, naive first, joint last.

    Raises:
        ValueError: no results, or broken ones.
    """
    return [row for g in group(results) for row in rows(g)]


def rows(g: Group) -> list[Row]:
    """The rows of one stream."""
    return [_row(g, line) for line in g.lines]


def _row(g: Group, line: Line) -> Row:
    lacking = (
        [] if line.joint else [v for r in line.runs if (v := _intransigence(g, r, line.folder)) is not None]
    )

    def over(measure: Callable[[Result], float | None]) -> Stat | None:
        values = [v for r in line.runs if (v := measure(r)) is not None]
        return Stat.of(values) if len(values) == len(line.runs) else None  # never of some seeds alone

    def each(measure: Callable[[Result], float]) -> Stat:
        return Stat.of([measure(r) for r in line.runs])

    return Row(
        stream=g.label,
        method=line.label,
        name=line.name,
        seeds=tuple(r.seed for r in line.runs),
        acc=each(lambda r: r.acc),
        bwt=over(lambda r: r.bwt),
        fwt=over(lambda r: r.fwt),
        forgetting=over(lambda r: r.forgetting),
        learning_accuracy=over(lambda r: r.learning_accuracy),
        intransigence=Stat.of(lacking) if lacking else None,
        train=each(lambda r: r.seconds.train),
        consolidate=each(lambda r: r.seconds.consolidate),
        evaluate=each(lambda r: r.seconds.evaluate),
        total=each(lambda r: r.seconds.total),
        state_bytes=each(lambda r: float(r.state_bytes)),
        examples_stored=each(lambda r: float(r.examples_stored)),
    )


def _intransigence(g: Group, r: Result, folder: str) -> float | None:
    joint = [
        j for line in g.lines if line.joint and line.folder == folder for j in line.runs if j.seed == r.seed
    ]
    return metrics.intransigence(r.accuracy, joint[0].accuracy) if len(joint) == 1 else None


def percent(s: Stat | None, signed: bool = False, interval: bool = False) -> str:
    """An accuracy, or a difference of two, in percent; with its sd, or half of its 95% interval.

    >>> percent(Stat(0.961, 0.002, 3)), percent(Stat(-0.05, None, 1), signed=True), percent(None)
    ('96.1 ± 0.2', '−5.0', '–')
    """
    if s is None:
        return "–"
    text = point(100 * s.mean, signed)
    spread = s.half if interval else s.sd
    return text if spread is None else f"{text} ± {100 * spread:.1f}"


def seconds(s: Stat) -> str:
    """Seconds for the eye.

    >>> seconds(Stat(0.0421, None, 1)), seconds(Stat(12.34, 1.0, 2)), seconds(Stat(0.001, None, 1))
    ('0.04', '12.3', '<0.01')
    """
    v = s.mean
    return (
        "0"
        if v == 0
        else "<0.01"
        if v < 0.01
        else f"{v:.2f}"
        if v < 10
        else f"{v:.1f}"
        if v < 100
        else f"{v:,.0f}"
    )


def size(s: Stat) -> str:
    """Bytes for the eye.

    >>> size(Stat(0.0, None, 1)), size(Stat(1_234_567.0, None, 1))
    ('0', '1.2 MB')
    """
    v = s.mean
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if v >= 10**power:
            return f"{v / 10**power:.1f} {unit}"
    return "0" if v == 0 else f"{v:.0f} B"


def count(s: Stat) -> str:
    """Examples for the eye: "60,000"."""
    return f"{s.mean:,.0f}"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "ACC": lambda r: percent(r.acc),
    "BWT": lambda r: percent(r.bwt, signed=True),
    "FWT": lambda r: percent(r.fwt, signed=True),
    "forgetting": lambda r: percent(r.forgetting),
    "learned": lambda r: percent(r.learning_accuracy),
    "intransigence": lambda r: percent(r.intransigence, signed=True),
    "train s": lambda r: seconds(r.train),
    "consolidate s": lambda r: seconds(r.consolidate),
    "evaluate s": lambda r: seconds(r.evaluate),
    "total s": lambda r: seconds(r.total),
    "state": lambda r: size(r.state_bytes),
    "stored": lambda r: count(r.examples_stored),
}
"""The columns of the whole table, as texts of a row."""

SHORT = ("ACC", "BWT", "FWT", "forgetting", "total s", "state", "stored")


MEASURES: dict[str, Callable[[Row], Stat | None]] = {
    "ACC": lambda r: r.acc,
    "BWT": lambda r: r.bwt,
    "FWT": lambda r: r.fwt,
    "forgetting": lambda r: r.forgetting,
    "learned": lambda r: r.learning_accuracy,
    "intransigence": lambda r: r.intransigence,
}
NUMBERS: dict[str, Callable[[Row], Stat]] = {
    "train s": lambda r: r.train,
    "consolidate s": lambda r: r.consolidate,
    "evaluate s": lambda r: r.evaluate,
    "total s": lambda r: r.total,
    "state bytes": lambda r: r.state_bytes,
    "examples stored": lambda r: r.examples_stored,
}
SIGNED = ("BWT", "FWT", "intransigence")


def table(results: Sequence[Result], interval: bool = False) -> Fitted:
    """The columns that matter most. Accuracies in percent.

    Args:
        results: of at least one run.
        interval: behind ± stands half of the 95% interval of the mean, not the sd over seeds.

    Raises:
        ValueError: no results, or broken ones.
    """
    groups = group(results)
    lines: list[tuple[str, ...]] = []
    for g in groups:
        if len(groups) > 1:
            lines.append((g.label,))
        lines += [(row.method, *(cell(c, row, interval) for c in SHORT)) for row in rows(g)]
    return Fitted(("method", *(name.removeprefix("total ") for name in SHORT)), tuple(lines))


def cell(column: str, row: Row, interval: bool) -> str:
    """One of `COLUMNS`, a measure with half of its 95% interval where that is asked for."""
    if not interval or column not in MEASURES:
        return COLUMNS[column](row)
    return percent(MEASURES[column](row), signed=column in SIGNED, interval=True)
