"""Results on stdout: tables for a terminal, a line of JSON a run for everything else."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.text import Text

from retain.cli import names
from retain.report import sentence, table
from retain.report.lines import clean, group
from retain.report.text import matrix
from retain.report.words import caveats, left_out
from retain.result import Result

WIDTH = 110  # of tables where there is no terminal to ask


def console(stderr: bool = False) -> Console:
    """Prints tables; as wide as the terminal, if it is one."""
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=WIDTH)


def line(r: Result) -> str:
    """A result's key numbers as one line of JSON; `result.json` has all."""
    return json.dumps(
        {
            "stream": r.stream.get("name"),
            "method": r.method.get("name"),
            "seed": r.seed,
            "tasks": r.tasks,
            "final": r.accuracy[-1],
            "acc": r.acc,
            "bwt": r.bwt,
            "fwt": r.fwt,
            "forgetting": r.forgetting,
            "learning_accuracy": r.learning_accuracy,
            "seconds": r.seconds.total,
            "state_bytes": r.state_bytes,
            "examples_stored": r.examples_stored,
        }
    )


def print_run(r: Result) -> None:
    """One run."""
    if not sys.stdout.isatty():
        print(line(r))
        return
    if len(r.tasks) <= 10:
        console().print(matrix([clean(t) for t in r.tasks], np.array(r.accuracy)))
    console().print(table([r]))
    for said in left_out(group([r])[0]):
        console().print(Text(f"note: {said}"))


def print_comparison(results: Sequence[Result], quiet: bool) -> None:
    """Many runs; the table is for people, and goes to stderr where stdout is not a terminal."""
    apart = not sys.stdout.isatty()
    if apart:
        for r in results:
            print(line(r))
    if apart and quiet:
        return
    here = console(stderr=apart)
    here.print(table(results, interval=True))
    said = [sentence(results)]
    if len({r.seed for r in results}) > 1:
        said.append("In the table: mean ± half of the 95% interval over seeds (Student's t).")
    said += [f"note: {text}" for text in caveats(results)]
    for text in said:
        indent = " " * len("note: ") if text.startswith("note: ") else ""
        here.print(Text(textwrap.fill(text, min(names.WIDTH, here.width), subsequent_indent=indent)))
