"""Finding results on disk, and refusing those that a report could not show truthfully."""

from __future__ import annotations

import base64
import binascii
import math
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from retain.result import Result

MAX_SAMPLE_BYTES = 16 * 2**20  # of one record: 5,000 colour images of 32 x 32
MAX_COUNT = 2**63  # of bytes and examples


def find_results(folder: Path) -> list[Result]:
    """All `result.json` below `folder`, in the order of their paths.

    Raises:
        ValueError: no such folder, none in it, or a broken one; names it and says what to do.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give the folder that `retain run --out` wrote")
    paths = sorted(folder.rglob("result.json"))
    if not paths:
        raise ValueError(f"no result.json below {folder}: make one with `retain run ... --out {folder}`")
    return [_load(path) for path in paths]


def _load(path: Path) -> Result:
    try:
        result = Result.load(path)
        check(result)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError) as e:
        what = str(e).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: {what}. Delete this file, or run it again to replace it") from e
    return result


def check_all(results: Sequence[Result]) -> None:
    """Check each of them.

    Raises:
        ValueError: none at all, or a broken one; names its method and seed.
    """
    if not results:
        raise ValueError("no results to report: give at least one")
    for r in results:
        try:
            check(r)
        except ValueError as e:
            raise ValueError(f"the result of {r.method.get('name')!r}, seed {r.seed!r}: {e}") from e


def check(r: Result) -> None:
    """Refuse what `Result.from_json` lets pass and a report could not show.

    Raises:
        ValueError: says which field is wrong, and how.
    """
    _need(isinstance(r.seed, int), f"seed must be a whole number, got {r.seed!r}")
    _need(isinstance(r.tasks, list) and len(r.tasks) > 0, "tasks must be a list of at least one name")
    for name, count in (("state_bytes", r.state_bytes), ("examples_stored", r.examples_stored)):
        _need(isinstance(count, int) and 0 <= count < MAX_COUNT, f"{name} must be a count, got {count!r}")
    for name in ("train", "consolidate", "evaluate", "total"):
        value = getattr(r.seconds, name)
        _need(_number(value) and value >= 0, f"seconds.{name} must be a number from 0, got {value!r}")
    texts = isinstance(r.versions, dict) and all(isinstance(v, str) for v in r.versions.values())
    _need(texts, "versions must be an object of texts")
    _check_curve(r)
    _need(isinstance(r.diagnostics, dict), "diagnostics must be an object")
    _check_confusions(r)
    records = r.diagnostics.get("records", [])
    _need(isinstance(records, list), "diagnostics.records must be a list")
    for i, record in enumerate(records):
        _check_record(record, len(r.tasks), f"diagnostics.records[{i}]")


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def finite(v: object) -> bool:
    """Whether it is a number that a float holds: no truth value, NaN, infinity or larger whole number."""
    return isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= sys.float_info.max


def _number(v: Any) -> bool:
    return finite(v) and abs(v) < MAX_COUNT


def _ascending(steps: object) -> bool:
    """Whether it is a list of whole numbers from 0 in ascending order."""
    if not isinstance(steps, list) or not all(isinstance(s, int) and 0 <= s < MAX_COUNT for s in steps):
        return False
    return all(a <= b for a, b in pairwise(steps))


def _check_curve(r: Result) -> None:
    ends = r.boundaries
    fits = _ascending(ends) and len(ends) in (0, len(r.tasks)) and all(a < b for a, b in pairwise([0, *ends]))
    _need(fits, f"boundaries must be {len(r.tasks)} ascending steps, one a task, got {ends!r:.200}")
    _need(_ascending(r.curve.step), "curve.step must be ascending whole numbers")
    if r.curve.step:
        _need(bool(ends), "a curve cannot be drawn without boundaries, the step at which each task ended")
    values: Iterable[object] = (v for row in r.curve.task for v in row)
    _need(all(_number(v) and 0 <= v <= 1 for v in values), "curve: accuracies lie in [0, 1]")  # type: ignore[operator]


def _check_confusions(r: Result) -> None:
    """T + 1 square tables of counts, all of one size."""
    _need(isinstance(r.extras, dict), "extras must be an object")
    if "confusions" not in r.extras:
        return
    tables = r.extras["confusions"]
    rows = len(r.tasks) + 1
    _need(isinstance(tables, list) and len(tables) == rows, f"extras.confusions must be {rows} tables")
    _need(all(isinstance(t, list) and t for t in tables), "extras.confusions: each a list of rows")
    C = len(tables[0])
    for t in tables:
        square = len(t) == C and all(isinstance(row, list) and len(row) == C for row in t)
        _need(square, f"extras.confusions: each table must be {C} x {C}")
        counts = all(type(v) is int and 0 <= v < MAX_COUNT for row in t for v in row)
        _need(counts, "extras.confusions must be counts")


def _check_record(record: object, tasks: int, where: str) -> None:
    _need(isinstance(record, dict), f"{where} must be an object")
    assert isinstance(record, dict)
    step, task = record.get("step"), record.get("task")
    _need(_ascending([step]), f"{where}.step must be a whole number from 0, got {step!r:.80}")
    _need(
        isinstance(task, int) and 0 <= task < tasks,
        f"{where}.task must be in 0..{tasks - 1}, got {task!r:.80}",
    )
    assert isinstance(task, int)
    cosine = record.get("cosine", [])
    in_range = isinstance(cosine, list) and all(_number(c) and abs(c) <= 1 + 1e-4 for c in cosine)
    _need(in_range and len(cosine) <= task, f"{where}.cosine must be at most {task} numbers in [-1, 1]")
    pulls = record.get("multipliers", [])
    positive = isinstance(pulls, list) and all(finite(v) and v >= 0 for v in pulls)
    _need(
        positive and len(pulls) <= task,
        f"{where}.multipliers must be at most {task} numbers >= 0, got {pulls!r:.80}",
    )
    share = record.get("violations", 0.0)
    _need(_number(share) and 0 <= share <= 1, f"{where}.violations must be in [0, 1], got {share!r:.80}")
    if "samples" in record:
        pixels(record["samples"], f"{where}.samples")


def pixels(samples: Any, where: str = "samples") -> tuple[tuple[int, int, int, int], bytes]:
    """The shape (n, channels, h, w) and the bytes of generated images, row by row.

    >>> pixels({"shape": [1, 1, 1, 2], "uint8": "QUI="})
    ((1, 1, 1, 2), b'AB')

    Raises:
        ValueError: not such an object, too large, or of another size than its shape says.
    """
    _need(isinstance(samples, dict), f"{where} must be an object with shape and uint8")
    shape, text = samples.get("shape"), samples.get("uint8")
    sides = isinstance(shape, list) and len(shape) == 4
    _need(
        sides and all(isinstance(s, int) and 1 <= s <= 4096 for s in shape),
        f"{where}.shape must be [n, channels, h, w], each in 1..4096, got {shape!r:.80}",
    )
    size = math.prod(shape)
    _need(size <= MAX_SAMPLE_BYTES, f"{where}: {size} bytes of images, at most {MAX_SAMPLE_BYTES} are shown")
    _need(isinstance(text, str) and len(text) <= 2 * MAX_SAMPLE_BYTES, f"{where}.uint8 must be base64 text")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise ValueError(f"{where}.uint8 is not base64: {e}") from e
    _need(len(data) == size, f"{where}: shape {shape} needs {size} bytes, got {len(data)}")
    n, channels, h, w = shape
    return (n, channels, h, w), data
