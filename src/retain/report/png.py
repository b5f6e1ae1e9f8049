"""The figures as PNG files, drawn without a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import vl_convert

from retain.files import write_atomically
from retain.report import curves, figures
from retain.report.lines import group, names
from retain.result import Result


def write(results: Sequence[Result], folder: Path) -> list[Path]:
    """`curves-STREAM.png` and `matrices-STREAM.png` for each stream, in that order."""
    groups = group(results)
    out: list[Path] = []
    for g, name in zip(groups, names(groups), strict=True):
        for kind, spec in (("curves", curves.figure(g)), ("matrices", figures.sheet(g))):
            spec["config"] = {**spec["config"], "background": "#ffffff", "padding": 14}
            png = vl_convert.vegalite_to_png(spec, vl_version=figures.VL_VERSION, scale=2)
            out.append(folder / f"{kind}-{name}.png")
            write_atomically(out[-1], png)
    return out
