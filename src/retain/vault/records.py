"""Records of events: whole in a version's folder, brief in the history. docs/vault-record.md says what is in one."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

from retain.vault.gate import Test

REPORT = "report.json"
BRIEF = 9000  # bytes of a record in the history; the store refuses more than 10 KB


def test_of(t: Test) -> dict[str, Any]:
    """A test of the gate, JSON-able."""
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in dataclasses.asdict(t).items()}


def event(kind: str, version: int | None, reason: str, **more: Any) -> dict[str, Any]:
    """A record of something other than an update."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return {"schema": 1, "event": kind, "version": version, "time": time, "reason": reason, **more}


def brief(record: dict[str, Any]) -> dict[str, Any]:
    """The record less what grows without bound: it fits into the history whatever the update was.

    The gate's tests that failed stay, then as much as there is room for; what was cut is counted.
    """
    short: dict[str, Any] = json.loads(json.dumps(record))
    if short.get("changed"):
        short["changed"]["examples"] = []
    for key in ("served", "candidate"):
        short["matrix"][key] = [None if v is None else round(v, 4) for v in short["matrix"][key]]
    tests = short["gate"]["tests"]
    short["gate"]["tests"] = sorted(tests, key=lambda t: t["passed"])  # failed ones first
    short["per_class"].sort(key=lambda c: abs((c["served"] or 0) - c["candidate"]), reverse=True)
    lists = (
        ("per_class", short, "per_class"), ("tests", short["gate"], "tests"), ("notes", short["data"], "notes"),
        ("findings", short["drift"], "findings"), ("drift_tests", short["drift"], "tests"),
        ("new_classes", short["data"], "new_classes"),
    )  # fmt: skip
    cut: dict[str, int] = {}
    while _bytes(short) > BRIEF:
        name, home, key = max(lists, key=lambda at: _bytes(at[1][at[2]]))
        if not home[key]:
            break
        keep = len(home[key]) // 2
        cut[name] = cut.get(name, 0) + len(home[key]) - keep
        home[key] = home[key][:keep]
    if _bytes(short) > BRIEF:
        cut["classes"], short["data"]["classes"] = len(short["data"]["classes"]), {}
    matrix = short["matrix"]
    while (
        _bytes(short) > BRIEF and len(matrix["guards"]) > 1
    ):  # the oldest guards go; the report has them all
        cut["guards"] = cut.get("guards", 0) + len(matrix["guards"]) // 2
        for key in ("guards", "served", "candidate"):
            matrix[key] = matrix[key][len(matrix[key]) // 2 :]
    if cut:
        short["cut"] = cut
    return short


def _bytes(d: Any) -> int:
    return len(json.dumps(d, ensure_ascii=False).encode())
