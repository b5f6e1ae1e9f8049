"""The report for a terminal, a pipe or a mail: the same numbers and sentences, and no figures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from retain.report.fitted import Fitted
from retain.report.lines import Group, row_names
from retain.report.table import COLUMNS, cell, rows
from retain.report.words import between_folders, compared, left_out, sentence_of, suspicious
from retain.statistics import point

READABLE = 88  # characters of a line of prose at most


@dataclass(frozen=True)
class Said:
    """Prose, in lines that fit."""

    text: str
    bullet: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Filled to the width."""
        width = min(options.max_width, READABLE)
        indent = " " * len(self.bullet)
        yield Text(textwrap.fill(self.text, width, initial_indent=self.bullet, subsequent_indent=indent))


def matrix(tasks: Sequence[str], R: NDArray[np.float64]) -> Fitted:
    """An accuracy matrix [T + 1, T] in percent, a row after each task; a dash: not measured."""
    return Fitted(
        ("accuracy in %", *tasks),
        tuple(
            (name, *("–" if math.isnan(v) else point(100 * float(v)) for v in row))
            for name, row in zip(row_names(tasks), R, strict=True)
        ),
    )


def report(groups: Sequence[Group]) -> Iterator[RenderableType]:
    """All of it, stream after stream."""
    for g in groups:
        yield Text(f"\n{g.label}", style="bold")
        yield Said(" · ".join(filter(None, [f"{len(g.tasks)} task{'s' * (len(g.tasks) > 1)}", g.about])))
        yield Text()
        yield Said(sentence_of(g))
        yield Text()
        yield Fitted(
            ("method", *COLUMNS, "seeds"),
            tuple(
                (row.method, *(cell(name, row, interval=True) for name in COLUMNS), str(len(row.seeds)))
                for row in rows(g)
            ),
        )
        if any(len(line.runs) > 1 for line in g.lines):
            yield Said("Accuracies in percent: mean ± half of the 95% interval over seeds (Student's t).")
        yield from _sentences(g)
        yield from _matrices(g)


def _sentences(g: Group) -> Iterator[RenderableType]:
    said = [*compared(g), *between_folders(g), *left_out(g), *suspicious(g)]
    if said:
        yield Text()
    for text in dict.fromkeys(said):
        yield Said(text, "- ")


def _matrices(g: Group) -> Iterator[RenderableType]:
    """The mean over seeds, method after method; the tasks by number where their names are many or long."""
    for line in g.lines:
        yield Text(f"\n{line.label}, {line.seeds}", style="bold")
        yield matrix(g.short, line.matrix)
    if list(g.short) != list(g.tasks):
        yield Text()
        yield Said("Tasks: " + ", ".join(f"{n} is {t}" for n, t in zip(g.short, g.tasks, strict=True)) + ".")
