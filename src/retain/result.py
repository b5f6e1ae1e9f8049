"""The frozen record of one run, to and from JSON. The schema is public: docs/result-schema.md."""

from __future__ import annotations

import io
import json
import math
import reprlib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from retain import metrics
from retain.files import write_atomically

SCHEMA = 1


@dataclass(frozen=True)
class Curve:
    """Accuracy on every task while training: `task[j][i]` on task j at optimiser step `step[i]`."""

    step: list[int] = field(default_factory=list)
    task: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class Seconds:
    """Wall seconds of a run; `total` also holds what is none of the three."""

    train: float = 0.0
    consolidate: float = 0.0  # begin_task and end_task: a Fisher pass, say
    evaluate: float = 0.0
    total: float = 0.0


@dataclass(frozen=True)
class Result:
    """What a run leaves behind. Accuracies in [0, 1]; `accuracy` has T + 1 rows of T (row 0: untrained).

    A cell that was not measured is NaN, null in JSON; the last row always was. A measure that needs such
    a cell is None.
    """

    stream: dict[str, Any]
    method: dict[str, Any]  # "name" and the hyper-parameters
    seed: int
    tasks: list[str]
    accuracy: list[list[float]]
    curve: Curve
    seconds: Seconds
    state_bytes: int
    examples_stored: int
    config: dict[str, Any]  # the whole resolved configuration: the run can be repeated from it
    versions: dict[str, str]
    boundaries: list[int] = field(default_factory=list)  # the step at which each task ended
    diagnostics: dict[str, Any] = field(default_factory=dict)  # what a method shows of itself
    extras: dict[str, Any] = field(default_factory=dict)  # what the run was asked to record beside

    @property
    def acc(self) -> float:
        """`metrics.acc`, the mean of the last row."""
        return metrics.acc(self.accuracy)

    @property
    def bwt(self) -> float | None:
        """`metrics.bwt`; None for a stream of one task, or where a cell that it needs was not measured."""
        return metrics.bwt(self.accuracy)

    @property
    def fwt(self) -> float | None:
        """`metrics.fwt`; None as `bwt`."""
        return metrics.fwt(self.accuracy)

    @property
    def forgetting(self) -> float | None:
        """`metrics.forgetting_max`; None as `bwt`."""
        return metrics.forgetting_max(self.accuracy)

    @property
    def learning_accuracy(self) -> float | None:
        """`metrics.learning_accuracy`, the mean of the diagonal; None where that was not measured."""
        return metrics.learning_accuracy(self.accuracy)

    @property
    def average_incremental_accuracy(self) -> float | None:
        """`metrics.average_incremental_accuracy`; None where a cell that it needs was not measured."""
        return metrics.average_incremental_accuracy(self.accuracy)

    def to_json(self) -> dict[str, Any]:
        """The dictionary that `result.json` holds."""
        derived = {
            "acc": self.acc,
            "bwt": self.bwt,
            "fwt": self.fwt,
            "forgetting": self.forgetting,
            "learning_accuracy": self.learning_accuracy,
            "average_incremental_accuracy": self.average_incremental_accuracy,
        }
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        own |= {"curve": dict(vars(self.curve)), "seconds": dict(vars(self.seconds))}
        if not self.extras:
            del own["extras"]  # a run that was asked for none leaves the file it always left
        own["accuracy"] = [[None if math.isnan(v) else v for v in row] for row in self.accuracy]
        return {"schema": SCHEMA, **own, **derived}

    def save(self, path: Path) -> None:
        """Write `result.json` atomically: the old file or the new one is there, never half of one."""
        text = io.StringIO()  # of a large matrix it takes in pieces what `dumps` would first hold as a list
        json.dump(self.to_json(), text, indent=1, allow_nan=False)
        write_atomically(path, text.getvalue().encode())

    @classmethod
    def from_json(cls, data: object) -> Result:
        """Check and read what `to_json` gave. Measures are computed anew from the matrix.

        Raises:
            ValueError: not a result of this schema; says what is wrong with it.
        """
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        if not isinstance(data, dict) or type(found) is not int or found != SCHEMA:
            raise ValueError(f"not a result of schema {SCHEMA} (found: {reprlib.repr(found)})")
        try:
            result = cls(
                **{k: data[k] for k in _PLAIN},
                curve=Curve(**data["curve"]),
                seconds=Seconds(**data["seconds"]),
                boundaries=data.get("boundaries", []),
                diagnostics=data.get("diagnostics", {}),
                extras=data.get("extras", {}),
            )
        except KeyError as e:
            raise ValueError(f"a result lacks the field {e}") from e
        except TypeError as e:
            raise ValueError(f"a result mistypes curve or seconds: {e}") from e
        _check(result)
        measured = [[math.nan if v is None else v for v in row] for row in result.accuracy]
        return replace(result, accuracy=measured)

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read one `result.json`.

        Raises:
            ValueError: the file is no result; names the file.
            OSError: it cannot be read.
        """
        text = path.read_bytes()
        try:
            return cls.from_json(json.loads(text, parse_constant=_finite, parse_float=_finite))
        except RecursionError as e:
            raise ValueError(f"{path}: nested too deeply for a result") from e
        except ValueError as e:
            raise ValueError(f"{path}: {e}") from e


_PLAIN = (
    "stream",
    "method",
    "seed",
    "tasks",
    "accuracy",
    "state_bytes",
    "examples_stored",
    "config",
    "versions",
)


_DEPTH = 32  # of lists and objects inside one another: a configuration has few, an attack many


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"JSON holds no {text}, and a result only finite numbers")
    return value


def _check(r: Result) -> None:
    """Refuse a record whose fields have the wrong type, or do not fit each other."""
    for name in ("stream", "method", "config", "versions", "diagnostics", "extras"):
        value = getattr(r, name)
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be an object, got {reprlib.repr(value)}")
        _check_json(value, name)
    if not isinstance(r.method.get("name"), str):
        raise ValueError("method must have a name")
    if not all(isinstance(v, str) for v in r.versions.values()):
        raise ValueError("versions must be strings")
    if not isinstance(r.tasks, list) or not all(isinstance(t, str) for t in r.tasks):
        raise ValueError("tasks must be a list of names")
    _check_numbers([r.seed], "seed", whole=True, low=-(2.0**63))
    _check_numbers([r.state_bytes], "state_bytes", whole=True)
    _check_numbers([r.examples_stored], "examples_stored", whole=True)
    for name, seconds in vars(r.seconds).items():
        _check_numbers([seconds], f"seconds: {name}")
    _check_accuracies(r)
    _check_numbers(r.boundaries, "boundaries", whole=True)
    if r.boundaries and (len(r.boundaries) != len(r.tasks) or sorted(r.boundaries) != r.boundaries):
        raise ValueError("boundaries: one a task, ascending")


def _check_accuracies(r: Result) -> None:
    for name, rows in (("accuracy", r.accuracy), ("curve: task", r.curve.task)):
        if not isinstance(rows, list):
            raise ValueError(f"{name} must be a list of lists, got {reprlib.repr(rows)}")
        for row in rows:
            if name == "accuracy" and isinstance(row, list):
                row = [v for v in row if v is not None]  # null: not measured
            _check_numbers(row, name, high=1)
    metrics.acc(r.accuracy)
    if len(r.accuracy[0]) != len(r.tasks):
        raise ValueError(f"{len(r.tasks)} tasks, but a matrix of {len(r.accuracy[0])} columns")
    _check_numbers(r.curve.step, "curve: step", whole=True)
    if {len(row) for row in r.curve.task} - {len(r.curve.step)}:
        raise ValueError("curve: one value a step")
    if r.curve.step and len(r.curve.task) != len(r.tasks):
        raise ValueError("curve: one row a task")
    if sorted(r.curve.step) != r.curve.step:
        raise ValueError("curve: steps must ascend")


def _check_numbers(
    values: object, name: str, whole: bool = False, low: float = 0, high: float = 2.0**63
) -> None:
    """Refuse what is no list of numbers, or of integers, in [low, high]."""
    kinds = {int} if whole else {int, float}  # bool is neither
    if not isinstance(values, list) or not all(type(v) in kinds for v in values):
        raise ValueError(
            f"{name} must hold {'integers' if whole else 'numbers'} only, got {reprlib.repr(values)}"
        )
    for v in values:
        if not low <= v <= high:  # so is NaN
            raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {reprlib.repr(v)}")


def _check_json(value: object, name: str, depth: int = 0) -> None:
    """Refuse what `save` could not write: other types than JSON's, NaN, endless nesting."""
    if depth > _DEPTH:
        raise ValueError(f"{name} is nested more than {_DEPTH} deep")
    if isinstance(value, dict):
        if not all(isinstance(k, str) for k in value):
            raise ValueError(f"{name} has a key that is not a string")
        for v in value.values():
            _check_json(v, name, depth + 1)
    elif isinstance(value, list | tuple):
        for v in value:
            _check_json(v, name, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} holds {value}, and a result only finite numbers")
    elif not isinstance(value, str | int | float | None):
        raise ValueError(f"{name} holds a {type(value).__name__}, which JSON does not know")
