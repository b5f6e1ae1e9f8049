"""What a record must hold before anything is said about it. docs/vault-record.md describes each field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from retain.vault.errors import Damaged, VaultError

Record = dict[str, Any]
SCHEMAS = (1,)
WHATS = ("guard", "class", "to new classes", "new data")
MEASURES = ("accuracy", "loss")
MOST = 2**63  # of counts


@dataclass(frozen=True)
class Value:
    """One value of a record."""

    says: str  # what it must be
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class OrNone:
    """A field that may be null."""

    rule: Any


@dataclass(frozen=True)
class Absent:
    """A field that may be missing."""

    rule: Any


def _number(v: object) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < MOST  # NaN is not


def _count(v: object) -> bool:
    return isinstance(v, int) and not isinstance(v, bool) and 0 <= v < MOST


def _one_of(*words: object) -> Value:
    return Value(
        "one of " + ", ".join(map(repr, words)), lambda v: v in words and type(v) in map(type, words)
    )


TEXT = Value("text", lambda v: isinstance(v, str))
BOOL = Value("true or false", lambda v: isinstance(v, bool))
COUNT = Value("a whole number from 0", _count)
VERSION = Value("a whole number from 1", lambda v: _count(v) and v >= 1)
NUMBER = Value("a finite number", _number)
POSITIVE = Value("a finite number from 0", lambda v: _number(v) and v >= 0)
SHARE = Value("a number in [0, 1]", lambda v: _number(v) and 0 <= v <= 1)
COUNTS = Value("an object of whole numbers", lambda v: isinstance(v, dict) and all(map(_count, v.values())))
OBJECT = Value("an object", lambda v: isinstance(v, dict))

EVENT: Record = {
    "schema": _one_of(*SCHEMAS),
    "event": TEXT,
    "version": OrNone(VERSION),
    "time": TEXT,
    "reason": TEXT,
    "number": Absent(COUNT),
}
OTHER: Record = {  # events that are no update
    **EVENT,
    "parent": Absent(OrNone(VERSION)),
    "removed": Absent([TEXT]),
    "kept": Absent([TEXT]),
}
TEST: Record = {
    "name": TEXT,
    "what": _one_of(*WHATS),
    "n": VERSION,
    "served": NUMBER,  # a share of examples, or a mean loss
    "candidate": NUMBER,
    "losses": COUNT,
    "gains": COUNT,
    "margin": OrNone(POSITIVE),
    "p": SHARE,
    "bound": OrNone(NUMBER),
    "gated": BOOL,
    "passed": BOOL,
}
LEARN: Record = {
    **EVENT,
    "version": VERSION,
    "parent": OrNone(VERSION),
    "name": TEXT,
    "promoted": BOOL,
    "forced": BOOL,
    "data": {
        "source": TEXT,
        "sha256": TEXT,
        "examples": COUNT,
        "trained_on": COUNT,
        "guards": COUNT,
        "classes": COUNTS,
        "new_classes": [TEXT],
        "notes": [TEXT],
    },
    "method": OBJECT,
    "why": TEXT,
    "drift": {
        "drifted": BOOL,
        "findings": [TEXT],
        "tests": [{"name": TEXT, "p": SHARE, "statistic": NUMBER}],
    },
    "gate": {
        "alpha": SHARE,
        "margin": OrNone(POSITIVE),
        "new_margin": POSITIVE,
        "tests": [TEST],
        "labels": Absent(
            OrNone(
                {"n": COUNT, "agree": COUNT, "expected": SHARE, "chance": SHARE, "p": SHARE, "passed": BOOL}
            )
        ),
    },
    "matrix": {
        "measure": Absent(_one_of(*MEASURES)),
        "guards": [TEXT],
        "served": [OrNone(NUMBER)],
        "candidate": [OrNone(NUMBER)],
    },
    "per_class": [{"class": TEXT, "n": COUNT, "served": OrNone(SHARE), "candidate": SHARE}],
    "changed": OrNone(
        {
            "right_to_wrong": COUNT,
            "wrong_to_right": COUNT,
            "examples": [{"guard": TEXT, "row": COUNT, "label": TEXT, "was": TEXT, "now": TEXT}],
        }
    ),
    "calibration": OrNone(
        {"temperature": POSITIVE, "ece": SHARE, "ece_calibrated": SHARE, "note": Absent(OrNone(TEXT))}
    ),
    "cost": {
        "seconds": POSITIVE,
        "training_seconds": POSITIVE,
        "epochs": COUNT,
        "examples_stored": COUNT,
        "bytes": COUNT,
    },
    "scratch": OrNone(
        {
            "examples": COUNT,
            "guards": [TEXT],
            "accuracy": Absent([OrNone(NUMBER)]),
            "loss": Absent([OrNone(NUMBER)]),
        }
    ),
    "cut": Absent(COUNTS),
}
PAST = {
    k: LEARN[k] for k in (*EVENT, "name", "promoted", "forced", "data", "matrix", "cost")
}  # shown of earlier ones


def checked(record: object) -> Record:
    """The record of an event, once it is known to be one.

    >>> checked({"schema": 1, "event": "learn", "version": "4"})
    Traceback (most recent call last):
    retain.vault.errors.Damaged: the record of version '4' is damaged: version must be a whole number from 1, got '4'

    Raises:
        Damaged: a field is missing, or is not what it must be; names the field, the value and the rule.
    """
    return _checked(record, LEARN)


def _checked(record: object, rules: Record) -> Record:
    """By the rules where it is of an update, else by those of other events."""
    if not isinstance(record, dict):
        raise Damaged(f"a record must be an object, got {_said(record)}")
    where = f"the record of version {_said(record.get('version'))} is damaged: "
    is_update = record.get("event") == "learn"
    if found := _wrong(record, rules if is_update else OTHER):
        raise Damaged(f"{where}{found[0].removeprefix('.')} {found[1]}")
    if is_update:
        _check_lengths(record, where)
    return record


def _check_lengths(record: Record, where: str) -> None:
    """One number a guard."""
    m, scratch, measure = record["matrix"], record.get("scratch"), measure_of(record)
    for name in ("served", "candidate"):
        _as_long(m[name], m["guards"], f"matrix.{name}", where)
    if scratch is not None:
        if scratch.get(measure) is None:
            raise Damaged(f"{where}scratch.{measure} is missing")
        _as_long(scratch[measure], scratch["guards"], f"scratch.{measure}", where)


def learned(record: object) -> Record:
    """The record of an update.

    Raises:
        Damaged: as `checked`.
        VaultError: it is of another event.
    """
    found = checked(record)
    if found["event"] != "learn":
        raise VaultError(
            f"only updates have a report, and this is the record of a {_said(found['event'])} event"
        )
    return found


def updates(history: Sequence[object]) -> list[Record]:
    """The updates among the events of a history, in their order, checked as far as a later report shows them.

    Raises:
        Damaged: as `checked`.
    """
    return [e for e in (_checked(e, PAST) for e in history) if e["event"] == "learn"]


def measure_of(record: Record) -> str:
    """What the numbers in an update's matrix are: accuracy, or loss."""
    return str(record["matrix"].get("measure", "accuracy"))


def _wrong(value: Any, rule: Any) -> tuple[str, str] | None:
    """The path of the first part that breaks its rule, and what is wrong with it; None: nothing is."""
    if isinstance(rule, OrNone):
        return None if value is None else _wrong(value, rule.rule)
    if isinstance(rule, list):
        return _wrong_list(value, rule[0])
    if isinstance(rule, dict):
        return _wrong_fields(value, rule)
    return None if rule.holds(value) else ("", f"must be {rule.says}, got {_said(value)}")


def _wrong_list(values: Any, rule: Any) -> tuple[str, str] | None:
    if not isinstance(values, list):
        return "", f"must be a list, got {_said(values)}"
    for i, v in enumerate(values):
        if found := _wrong(v, rule):
            return f"[{i}]{found[0]}", found[1]
    return None


def _wrong_fields(value: Any, rules: Record) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return "", f"must be an object, got {_said(value)}"
    for name, of in rules.items():
        optional = isinstance(of, Absent)
        if name not in value:
            if optional:
                continue
            return f".{name}", "is missing"
        if found := _wrong(value[name], of.rule if optional else of):
            return f".{name}{found[0]}", found[1]
    return None


def _as_long(values: Sequence[Any], names: Sequence[str], at: str, where: str) -> None:
    if len(values) != len(names):
        raise Damaged(f"{where}{at} must hold {len(names)} numbers, one a guard, got {len(values)}")


def _said(value: object) -> str:
    """A value in a message: short, and on one line."""
    text = repr(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:59]}…"
