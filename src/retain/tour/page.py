"""One page of the tour: a template of words in its language, filled with the numbers of the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from retain.embed import script_hash
from retain.lecture import Cells, Lecture
from retain.lecture.cells import Measure
from retain.tour.draw import COLOURS, Lined, stroke
from retain.tour.pictures import pictures, rounded
from retain.tour.words import LANGUAGES, WORDS, figure, percent, points

HERE = resources.files("retain.tour")


def render(lecture: Lecture, language: str, others: Sequence[str] = ()) -> str:
    """The whole page as HTML; `others` are the languages of the pages beside it."""
    env = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    env.filters |= {
        "percent": percent, "points": points, "figure": figure, "rounded": rounded, "worked": worked, "swatch": swatch,
    }  # fmt: skip
    scripts = [_read("tour.js"), _read("toy.js")]
    return env.get_template(f"{language}.html.j2").render(
        language=language,
        others={other: LANGUAGES[other] for other in others},
        style=Markup(_colours() + _read("tour.css")),  # ours
        scripts=[Markup(s) for s in scripts],
        hashes=[script_hash(s) for s in scripts],
        words=WORDS[language],
        pictures=pictures(lecture, language),
        lecture=lecture,
        setting=lecture.setting,
        toy=asdict(lecture.toy),
        uses=uses,
    )


def _read(name: str) -> str:
    return HERE.joinpath(name).read_text(encoding="utf-8")


def _colours() -> str:
    """The variables of both papers; print is on light paper."""

    def block(which: int) -> str:
        return ":root{" + "".join(f"--{name}:{both[which]};" for name, both in COLOURS.items()) + "}"

    dark = f"@media (prefers-color-scheme: dark) {{{block(1)}}}"
    return f":root{{color-scheme:light dark}}{block(0)}{dark}@media print {{{block(0)}}}\n"


def swatch(lined: Lined) -> Markup:
    """A short piece of a line, for a legend."""
    drawn = stroke([(0, 4), (30, 4)], lined[0], lined[1], 3)
    return Markup(f'<svg viewBox="0 0 30 8" aria-hidden="true">{drawn}</svg>')  # ours


def uses(cells: Cells, i: int, j: int) -> str:
    """How much each measure counts a cell, as JSON; what it does not use is left out."""
    return json.dumps({m.name: m.weights[i, j] for m in cells.measures if (i, j) in m.weights})


def worked(measure: Measure, cells: Cells) -> str:
    """The measure as one reads it off the matrix, in percent: the terms over how many, and the result."""
    weights = sorted(measure.weights.items(), key=lambda item: (item[1] < 0, item[0]))
    terms: list[Any] = [(w, 100 * cells.accuracy[i][j]) for (i, j), w in weights]
    text = "".join(f" {'−' if w < 0 else '+'} {value:.1f}" for w, value in terms).removeprefix(" + ")
    show = percent if measure.name == "ACC" else points
    shown = sum(w * round(value, 1) for w, value in terms) / 100
    equals = "=" if show(shown) == show(measure.value) else "≈"  # the terms are shown rounded
    return f"({text}) / {round(1 / abs(weights[0][1]))} {equals} {show(measure.value)}"
