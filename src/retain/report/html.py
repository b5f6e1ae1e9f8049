"""The report: one HTML file with everything inside. Its words are in `template.html.j2`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from retain.embed import data_uri, script_hash
from retain.report import confusion, curves, figures, inside, tradeoffs
from retain.report.check import pixels
from retain.report.lines import Group, Line, clean, group, names
from retain.report.table import COLUMNS, cell, rows
from retain.report.words import between_folders, compared, left_out, sentence_of, suspicious
from retain.result import Result

SAMPLES = 240  # generated images shown of one run, all tasks together
TASKS = 8  # tasks after which samples are shown: the last ones of more
TEXT = 20_000  # characters of one configuration

SCRIPTS = [resources.files("retain.report").joinpath(name) for name in ("draw.js", "choose.js")]
STYLE = resources.files("retain.report").joinpath("style.css")
TEMPLATE = resources.files("retain.report").joinpath("template.html.j2")


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed: about 0.9 MB of JavaScript."""
    return str(vl_convert.javascript_bundle(vl_version=figures.VL_VERSION))  # type: ignore[call-arg]


def render(results: Sequence[Result], folders: Sequence[str] = ()) -> str:
    """The whole report as HTML; `folders` as `group` takes them.

    Raises:
        ValueError: no results, or one whose parts do not fit each other.
    """
    groups = group(results, folders)
    scripts = [_bundle(), *(path.read_text(encoding="utf-8") for path in SCRIPTS)]
    if any("</script" in s.lower() or "<!--" in s for s in scripts):
        raise RuntimeError("the plotting library's JavaScript would end its own script element")
    env = Environment(autoescape=True, undefined=StrictUndefined)
    env.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return env.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        groups=[_section(g, name) for g, name in zip(groups, names(groups), strict=True)],
        style=Markup(STYLE.read_text(encoding="utf-8")),
        scripts=[Markup(s) for s in scripts],  # ours, not the user's
        hashes=[script_hash(s) for s in scripts],
        columns=list(COLUMNS),
    )


def _section(g: Group, name: str) -> dict[str, Any]:
    shown = curves.panels(g)
    return {
        "label": g.label,
        "name": name,
        "about": g.about,
        "sentence": sentence_of(g),
        "tasks": g.tasks,
        "lines": g.lines,
        "floor": f"{100 * figures.floor(g):.0f} %",
        "numbered": g.numbered,
        "curves": curves.figure(g, page=True),
        "values": curves.plain(g),
        "seeds": sorted({r.seed for r in g.runs}),
        "intervals": curves.intervals(g),
        "thinned": curves.budget(g) if curves.thinned(g) else None,
        "panels": len(shown),
        "averaged": curves.MEAN in shown,
        "from_curve": any(r.curve.step for r in g.runs),
        "spread": any(len(line.runs) > 1 for line in g.lines),
        "joint": any(line.joint for line in g.lines),
        "partial": g.partial,
        "left_out": left_out(g),
        "compared": compared(g),
        "suspicious": suspicious(g),
        "folders": g.folders,
        "between": between_folders(g),
        "matrices": [(line, figures.matrix(g, line)) for line in g.lines],
        "worked": _worked(g),
        "rows": [
            (line, [cell(name, r, interval=True) for name in COLUMNS], r)
            for line, r in zip(g.lines, rows(g), strict=True)
        ],
        "plane": plane.spec if (plane := tradeoffs.plane(g)) else None,
        "corners": tradeoffs.corners(g),
        "costs": [tradeoffs.cost(g, kind).spec for kind in tradeoffs.COSTS],
        "kinds": list(tradeoffs.COSTS),
        "confusions": [(line, confusion.plain(g, line)) for line in confusion.lines(g)],
        "confusion": confusion.figure(g),
        "moments": confusion.moments(g),
        "samples": [(line, shots) for line in g.lines if (shots := _samples(g, line))],
        "gradients": _gradients(g),
        "layers": [(line, held, inside.layers(g, line, held)) for line, held in inside.with_layers(g)],
        "setup": [(line, _config(line), _versions(line)) for line in g.lines],
    }


def _worked(g: Group) -> dict[str, str] | None:
    """ACC, BWT and FWT of the first method, figure by figure, as one reads them off its matrix."""
    T = len(g.tasks)
    if not 2 <= T <= 4 or any(r.bwt is None or r.fwt is None for r in g.lines[0].runs):
        return None
    R = 100 * g.lines[0].matrix  # the figures are shown rounded, the result is the table's

    def differences(pairs: list[tuple[Any, Any]]) -> str:
        total = np.mean([a - b for a, b in pairs])
        terms = " + ".join(f"({a:.1f} − {b:.1f})" for a, b in pairs)
        equals = (
            "=" if f"{np.mean([round(a, 1) - round(b, 1) for a, b in pairs]):.1f}" == f"{total:.1f}" else "≈"
        )
        return f"{terms if T == 2 else f'[{terms}] / {T - 1}'} {equals} {total:+.1f}".replace("-", "−")

    return {
        "method": g.lines[0].label,
        "acc": f"({' + '.join(f'{v:.1f}' for v in R[-1])}) / {T} = {R[-1].mean():.1f}",
        "bwt": differences([(R[T, j], R[j + 1, j]) for j in range(T - 1)]),
        "fwt": differences([(R[j, j], R[0, j]) for j in range(1, T)]),
    }


def _samples(g: Group, line: Line) -> list[dict[str, Any]]:
    """A contact sheet after each task, of the first seed that has any."""
    for r in line.runs:
        found = [x for x in r.diagnostics.get("records", []) if "samples" in x][-TASKS:]
        each = max(min(SAMPLES // max(len(found), 1), 40), 8)
        sheets = [{"after": g.tasks[x["task"]], "seed": r.seed, **_sheet(x["samples"], each)} for x in found]
        if sheets:
            return sheets
    return []


def _sheet(samples: Any, most: int) -> dict[str, Any]:
    """Up to `most` images on one PNG, eight in a row, as a data URI, with its width and height."""
    (n, channels, h, w), data = pixels(samples)
    images = np.frombuffer(data, np.uint8).reshape(n, channels, h, w)[:most]
    if channels == 3:
        images = images.transpose(0, 2, 3, 1)
    else:  # other numbers of channels: side by side, in grey
        images = images.transpose(0, 2, 1, 3).reshape(len(images), h, channels * w, 1)
    n, h, w, depth = images.shape
    across = min(8, n)
    down = -(-n // across)
    sheet = np.zeros((down * across, h + 1, w + 1, depth), np.uint8)  # a dark line between images
    sheet[:n, :h, :w] = images
    sheet = sheet.reshape(down, across, h + 1, w + 1, depth).transpose(0, 2, 1, 3, 4)
    sheet = sheet.reshape(down * (h + 1), across * (w + 1), depth)
    uri = data_uri(Image.fromarray(sheet if depth == 3 else sheet[..., 0]))
    return {"uri": uri, "n": n, "width": sheet.shape[1], "height": sheet.shape[0]}


def _gradients(g: Group) -> list[dict[str, Any]]:
    """Of each line that recorded angles: their figure, that of the multipliers, and how often g was turned."""
    both = {line.label: r for line, r in inside.with_series(g, inside.MULTIPLIERS)}
    found = []
    for line, first in inside.with_series(g, inside.COSINES):
        r = both.get(line.label, first)  # one that told both, if there is one
        pulls = inside.over_time(g, r, inside.MULTIPLIERS) if line.label in both else None
        found.append(
            {
                "line": line,
                "seed": r.seed,
                "cosines": inside.over_time(g, r, inside.COSINES),
                "multipliers": pulls,
                "turned": inside.turned(g, line),
            }
        )
    return found


def _config(line: Line) -> str:
    """The method and the whole configuration of the first run, as text."""
    r = line.runs[0]
    text = json.dumps(
        {"method": r.method, "stream": r.stream, "config": r.config},
        indent=1,
        ensure_ascii=False,
        default=str,
    )
    return text if len(text) <= TEXT else text[:TEXT] + "\n… cut here: the whole is in result.json"


def _versions(line: Line) -> str:
    found = dict.fromkeys(
        ", ".join(f"{clean(k)} {clean(v)}" for k, v in r.versions.items()) for r in line.runs
    )
    return "; ".join(found)
