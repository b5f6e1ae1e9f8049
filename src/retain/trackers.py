"""Results sent to a tracker, through Accelerate's: their curves, accuracy matrices and tables arrive there."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from retain.missing import NotInstalled
from retain.report.lines import flat, group
from retain.result import Result

Name = Literal["tensorboard", "mlflow", "wandb"]
PACKAGE: dict[str, str] = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
PROJECT = "retain"


class NoTracker(NotInstalled):
    """A package that is needed is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"--track {name} needs packages that are not installed: pip install accelerate {PACKAGE[name]}"
        )


def check(name: Name) -> None:
    """Raise `NoTracker` unless Accelerate and the tracker's own package are there."""
    if any(importlib.util.find_spec(package) is None for package in ("accelerate", PACKAGE[name])):
        raise NoTracker(name)


def send(name: Name, results: Mapping[str, Result], folder: Path) -> None:
    """A run of the tracker for each result, under its name, and of several one more, `comparison`, with the table.

    TensorBoard's files go to `folder`/tensorboard. MLflow's go to `folder`/mlflow.db, a SQLite database, and
    `folder`/mlruns, unless MLFLOW_TRACKING_URI says where; W&B is told by its own variables. Each run has
    `accuracy/TASK`, the curve, and `matrix/TASK`, on all test examples, before the first task and where each ended,
    both over the optimiser's steps; the measures of its table, the accuracy matrix as an image, and the configuration.

    Raises:
        NoTracker: a package is missing.
    """
    check(name)
    for run, result in results.items():
        with _tracker(name, run, folder) as tracker:
            tracker.store_init_configuration(_config(result))
            _log_curves(tracker, result)
            _log_tables(name, tracker, {run: result})
    if len(results) > 1:
        with _tracker(name, "comparison", folder) as tracker:
            _log_tables(name, tracker, results)


@contextlib.contextmanager
def _tracker(name: Name, run: str, folder: Path) -> Iterator[Any]:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # without which Accelerate's trackers do not know which process they are in
    kind = LOGGER_TYPE_TO_CLASS[name]
    if name == "tensorboard":
        tracker = kind(run, folder / "tensorboard")
    elif name == "mlflow":
        import mlflow

        if "MLFLOW_TRACKING_URI" not in os.environ:
            mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
        tracker = kind(PROJECT, (folder / "mlruns").resolve().as_uri(), run_name=run)
    else:
        tracker = kind(PROJECT, name=run, dir=str(folder))
    tracker.start()
    try:
        yield tracker
    finally:
        tracker.finish()


def _config(r: Result) -> dict[str, Any]:
    """On one level: numbers, texts and truth values."""
    plain = {**flat(r.config), "method": r.method["name"], "seed": r.seed}
    return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in plain.items()}


def _log_curves(tracker: Any, r: Result) -> None:
    """Step after step, as some trackers want it."""
    names = [_word(t) for t in r.tasks]
    ends = [0, *(r.boundaries or range(1, len(r.tasks) + 1))]
    by_step: dict[int, dict[str, float]] = {}
    for step, row in zip(ends, r.accuracy, strict=True):
        by_step[step] = {f"matrix/{n}": v for n, v in zip(names, row, strict=True) if not math.isnan(v)}
    for step, values in zip(r.curve.step, zip(*r.curve.task, strict=True), strict=True):
        by_step.setdefault(step, {}).update({f"accuracy/{n}": v for n, v in zip(names, values, strict=True)})
    for step, found in sorted(by_step.items()):
        tracker.log(found, step=step)


def _log_tables(name: Name, tracker: Any, results: Mapping[str, Result]) -> None:
    """The numbers of a page, a mean over seeds each, and its matrices as an image."""
    from retain.report.export import numbers, png, table  # plotting is slow to import
    from retain.report.figures import sheet

    for g in group(list(results.values())):
        rows = numbers(g)
        if len(results) == 1:
            tracker.log({f"measure/{_word(row['measure'])}": row["mean"] for row in rows})
        image = png(sheet(g))
        head = list(rows[0])
        cells = [[row[k] for k in head] for row in rows]
        if name == "tensorboard":
            tracker.log({f"table/{g.label}": _markdown(head, cells)}, step=0)
            pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
            tracker.log_images({f"matrices/{g.label}": pixels[None]}, step=0, dataformats="NHWC")
        elif name == "mlflow":
            with tempfile.TemporaryDirectory() as place:
                Path(place, "matrices.png").write_bytes(image)
                Path(place, "table.csv").write_bytes(table(rows))
                tracker.log_artifacts(place, _word(g.label))
        else:
            tracker.log_table(f"table/{g.label}", columns=head, data=cells)
            tracker.log_images({f"matrices/{g.label}": [Image.open(io.BytesIO(image))]})


def _markdown(head: list[str], cells: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(str(v).replace("|", "/") for v in line) + " |" for line in lines)


def _word(text: str) -> str:
    """A name that every tracker takes.

    >>> _word("A (plain)")
    'A -plain-'
    """
    return re.sub(r"[^\w\-. /:]", "-", text)
