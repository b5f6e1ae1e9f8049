"""The numbers: every mean and spread that a report, a table or a sentence shows is computed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from retain import metrics, statistics
from retain.report.lines import Group, Line, group
from retain.result import Result
from retain.statistics import Difference, point

HELD_BACK = 3.0  # points by which a method must learn the last task worse than naive to be named for it


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
    some run did not measure, or exactly one joint run of the same stream and seed (intransigence, over
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
    lacking = [] if line.joint else [v for r in line.runs if (v := _intransigence(g, r)) is not None]

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


def _intransigence(g: Group, r: Result) -> float | None:
    joint = [j for line in g.lines if line.joint for j in line.runs if j.seed == r.seed]
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
}


def table(results: Sequence[Result], interval: bool = False) -> Table:
    """The columns that fit a terminal. Accuracies in percent.

    Args:
        results: of at least one run.
        interval: behind ± stands half of the 95% interval of the mean, not the sd over seeds.

    Raises:
        ValueError: no results, or broken ones.
    """
    groups = group(results)
    out = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    out.add_column("method", overflow="fold", min_width=10)
    for name in SHORT:
        out.add_column(name.removeprefix("total "), justify="right", no_wrap=True)
    for g in groups:
        if len(groups) > 1:
            out.add_row(Text(g.label, style="bold"))
        for row in rows(g):
            out.add_row(Text(row.method), *(_cell(c, row, interval) for c in SHORT))
        out.add_section()
    return out


def _cell(column: str, row: Row, interval: bool) -> str:
    if not interval or column not in MEASURES:
        return COLUMNS[column](row)
    return percent(MEASURES[column](row), signed=column.endswith("WT"), interval=True)


PROSE = {
    "naive": "plain training",
    "l2": "L2",
    "ewc": "EWC",
    "gem": "GEM",
    "generative-replay": "generative replay",
    "joint": "joint training",
}


def sentence(results: Sequence[Result]) -> str:
    """What the numbers show: how much of the first task each method lost; one sentence a stream.

    Raises:
        ValueError: no results, or broken ones.
    """
    groups = group(results)
    return " ".join((f"On {g.label}: " if len(groups) > 1 else "") + sentence_of(g) for g in groups)


def sentence_of(g: Group) -> str:
    """The sentence about one stream."""
    kept = [line for line in g.lines if not line.joint]
    joint = [line for line in g.lines if line.joint]
    if len(g.tasks) == 1:
        known = [f"{_prose(line)} reaches {_mean(line)}" for line in g.lines]
        return f"On {g.tasks[0]}, the only task, {_join(known)}."
    upper = _join([f"{_prose(line)}, which keeps all data, reaches {_mean(line)}" for line in joint])
    if not kept:
        return f"After {g.tasks[-1]}, over all tasks, {upper}."
    end = f"over all tasks it reaches {_mean(kept[0])}" if len(kept) == 1 else _best(kept)
    return f"After {g.tasks[-1]}, {_losses(g, kept)}; {end}{', while ' + upper if joint else ''}."


def _best(lines: Sequence[Line]) -> str:
    """Which comes best over all tasks, and whether that can be said at all."""
    found = differences(lines)
    best = max(lines, key=lambda line: float(np.mean(list(_accs(line).values()))))
    text = f"over all tasks {_prose(best)} comes first with {_mean(best)}"
    tested = [d for d in found if d.p is not None]
    if not tested:
        return text + " (one seed: chance is not ruled out)"
    unsure = [d.b for d in tested if d.unsure and d.a == _prose(best)]
    others = [d.b if d.a == _prose(best) else d.a for d in tested if not d.told_apart]
    close = [m for m in others if m not in unsure]
    if unsure:
        text += f", above {_few(unsure, ' and ')} but not surely"
    if close:
        text += f", {'and' if unsure else 'but'} cannot be told apart from {_few(close, ' or ')}"
    if others:
        return f"{text} ({_seeds(tested)})"
    nearest = min(tested, key=lambda d: d.interval.mean)
    by = f"{point(100 * nearest.interval.mean)} points, {statistics.span(nearest.interval)}"
    return f"over all tasks {_prose(best)} comes best with {_mean(best)} (above {nearest.b} by {by})"


def _few(names: Sequence[str], last: str) -> str:
    return _join(names, last) if len(names) <= 3 else f"{len(names)} others"


def _seeds(found: Sequence[Difference]) -> str:
    counts = sorted({d.interval.n for d in found})
    return f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"


def _accs(line: Line) -> dict[int, float]:
    return {r.seed: r.acc for r in line.runs}


def differences(lines: Sequence[Line]) -> list[Difference]:
    """Of the ACC of the best line and every other, on equal seeds; joint training, the upper bound, stays out.

    The one family of comparisons of a page: whatever is said there of two methods is corrected for these.
    """
    kept = {_prose(line): _accs(line) for line in lines if not line.joint}
    return statistics.compare(kept, "best")


def left_out(g: Group) -> list[str]:
    """Which measures are missing since accuracy matrices were measured in part, each in a sentence."""
    whose: dict[str, list[str]] = {}
    for line, row in zip(g.lines, rows(g), strict=True):
        stats = {
            **{name: of(row) for name, of in MEASURES.items()},
            "learning accuracy": row.learning_accuracy,
        }
        names = [name for name, stat in stats.items() if stat is None]
        if line.partial and names:
            whose.setdefault(_join(names, " or "), []).append(_prose(line))
    return [
        f"no {names} of {_join(lines)}: that takes cells of the accuracy matrix that were not measured"
        for names, lines in whose.items()
    ]


def caveats(results: Sequence[Result]) -> list[str]:
    """What the numbers do not show: what the best is not surely above by ACC, measures that cannot be given,
    and what looks suspicious.

    Raises:
        ValueError: no results, or broken ones.
    """
    groups = group(results)
    return [
        (f"On {g.label}: " if len(groups) > 1 else "") + text
        for g in groups
        for text in [
            *(statistics.sentence(d) for d in differences(g.lines) if d.p is not None and not d.told_apart),
            *left_out(g),
            *statistics.doubts({_prose(line): {r.seed: r.accuracy for r in line.runs} for line in g.lines}),
        ]
    ]


def _prose(line: Line) -> str:
    return PROSE.get(line.name, line.given) + line.label[len(line.given) :]


def _mean(line: Line) -> str:
    return f"{point(100 * float(line.matrix[-1].mean()))} %"


def _losses(g: Group, kept: Sequence[Line]) -> str:
    """For example: plain training has lost 9.1 points on A, EWC 1.2 and GEM 0.9."""
    parts: list[str] = []
    before = ""
    for line in kept:
        if np.isnan(line.matrix[1, 0]):
            known = point(100 * float(line.matrix[-1, 0]))
            parts.append(f"{_prose(line)} knows {g.tasks[0]} to {known} %{_held_back(g, line)}")
            continue
        lost = round(100 * float(line.matrix[1, 0] - line.matrix[-1, 0]), 1)
        verb = "lost" if lost >= 0 else "gained"
        points = point(abs(lost))
        if not before:
            text = f"{_prose(line)} has {verb} {points} points on {g.tasks[0]}"
        else:
            text = f"{_prose(line)} {points if verb == before else f'{verb} {points}'}"
        parts.append(text + _held_back(g, line))
        before = verb
    return _join(parts)


def _held_back(g: Group, line: Line) -> str:
    """The other way to fail: keeping the old by not learning the new."""
    naive = [other.matrix[-1, -1] for other in g.lines if other.name == "naive"]
    mine = line.matrix[-1, -1]
    if not naive or 100 * (max(naive) - mine) < HELD_BACK:
        return ""
    return f" (but learned {g.tasks[-1]} only to {point(100 * float(mine))} %)"


def _join(parts: Sequence[str], last: str = " and ") -> str:
    return ", ".join(parts[:-1]) + (last if len(parts) > 1 else "") + "".join(parts[-1:])
