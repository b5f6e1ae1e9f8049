"""A method's traits in words, for `retain list methods` and the pages of the docs."""

from __future__ import annotations

import re
from typing import Any, get_args

from retain.method import Method
from retain.types import Scenario

GROWTH = {"constant": "no", "with tasks": "tasks", "with classes": "classes"}


def letters(kind: type[Method[Any]]) -> str:
    """Its scenarios by their first letters; in brackets where it runs but is known to fail.

    >>> from retain.methods.ewc import EWC
    >>> letters(EWC)
    'T D (C)'
    """
    marks = []
    for s in get_args(Scenario):
        if s in kind.traits.scenarios:
            marks.append(f"({s[0].upper()})" if s in kind.traits.fails_in else s[0].upper())
    return " ".join(marks)


def short_paper(paper: str) -> str:
    """Authors and year of the first source that is named.

    >>> short_paper("van de Ven, Siegelmann & Tolias 2020, doi:1; weights: Hsu et al. 2018")
    'van de Ven, Siegelmann & Tolias 2020'
    >>> short_paper("the baseline; catastrophic interference: McCloskey & Cohen 1989")
    'McCloskey & Cohen 1989'
    """
    year = re.search(r"\b(19|20)\d\d\b", paper)
    return paper if year is None else re.split(r"[;:]", paper[: year.end()])[-1].strip()


def facts(kind: type[Method[Any]]) -> list[tuple[str, str]]:
    """What it needs, keeps and costs: (what, in words)."""
    t = kind.traits
    fails = f"; known to fail in {', '.join(t.fails_in)}" if t.fails_in else ""
    kept = {
        "nothing": "nothing of the data",
        "statistics": "statistics of the data",
        "generator": "a generator of the data",
        "examples": "examples",
    }[t.stores]
    grows = "does not grow" if t.growth == "constant" else f"grows {t.growth}"
    told = (
        "must be told where a task begins and ends"
        if t.boundaries
        else "needs none: runs with --no-boundaries"
    )
    return [
        ("scenarios", ", ".join(t.scenarios) + fails),
        ("keeps", f"{kept}; what it keeps {grows}"),
        ("cost of a step", t.cost),
        ("boundaries", told),
    ]
