"""Records as updates write them, of simulated predictions; counted and tested by the vault's own code."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from functools import cache
from typing import Any

import torch
from torch import Tensor

from retain.vault.calibrate import calibrate
from retain.vault.gate import Gate, judge
from retain.vault.guards import Guard
from retain.vault.judge import Seen, changed, per_class
from retain.vault.records import brief, test_of

Record = dict[str, Any]
MONTHS = ("january", "february", "march", "april", "may")
SHOES = ("boot", "sandal", "sneaker", "pump", "clog", "loafer", "mule", "brogue", "slipper", "oxford")
CHURN = ("leaves", "stays", "pauses")
GATE = Gate(margin=0.05, fewest=200)
LABELS = {"n": 120, "agree": 110, "expected": 0.92, "chance": 0.51, "p": 1.0, "passed": True}


def _logits(pred: Tensor, classes: int, rng: torch.Generator) -> Tensor:
    return 4.0 * torch.nn.functional.one_hot(pred, classes) + torch.randn(len(pred), classes, generator=rng)


def _answers(y: Tensor, right: float, among: int, rng: torch.Generator) -> Tensor:
    """Predictions of classes [0, among), a share `right` of them right where the class is among these."""
    hit = (torch.rand(len(y), generator=rng) < right) & (y < among)
    other = (y + torch.randint(1, max(among, 2), y.shape, generator=rng)) % among
    return torch.where(hit, y, torch.where(other == y, (other + 1) % among, other))


def _moved(pred: Tensor, y: Tensor, share: float, known: int, rng: torch.Generator) -> Tensor:
    """The same predictions, of which a share changes to any of the known classes."""
    moves = torch.rand(len(y), generator=rng) < share
    return torch.where(moves, torch.randint(0, known, y.shape, generator=rng), pred)


def _seen(known: int, to: int, guards: list[Guard], moved: float, new: float, seed: int) -> list[Seen]:
    """Both versions' logits: old guards change by the share `moved`, the new one is right in the share `new`."""
    rng = torch.Generator().manual_seed(seed)
    found = []
    for i, g in enumerate(guards):
        is_new = i == len(guards) - 1
        was = _answers(g.y, 0.92, max(known, 1), rng)
        now = _answers(g.y, new, to, rng) if is_new else _moved(was, g.y, moved, to, rng)
        served = None if known == 0 else _logits(was, known, rng)
        if served is not None:
            served = torch.cat([served, served.new_full((len(g.y), to - known), -torch.inf)], 1)
        found.append(Seen(g, served, _logits(now, to, rng)))
    return found


def _base(version: int, parent: int | None, name: str, seen: list[Seen], target: str) -> Record:
    """The fields that need no network."""
    return {
        "schema": 1, "event": "learn", "version": version, "parent": parent, "name": name,
        "time": f"2026-{version:02}-28T05:00:00+00:00", "promoted": True, "forced": False,
        "data": {
            "source": f"/data/{name}", "sha256": hashlib.sha256(name.encode()).hexdigest(), "examples": 3000,
            "trained_on": 2600, "guards": len(seen[-1].guard.y), "classes": {}, "new_classes": [], "notes": [],
        },
        "method": {"name": "replay", "memory": 2500, "select": "random", "memory_file": None},
        "why": "replay: examples may be stored, 2500 of them fill 2MB, and every network learns with it",
        "drift": {"drifted": False, "findings": ["nothing to compare: all classes are new"], "tests": []},
        "matrix": {
            "measure": "accuracy" if target == "class" else "loss",
            "guards": [s.guard.name for s in seen],
            "served": [s.measure(target, served=True) for s in seen],
            "candidate": [s.measure(target, served=False) for s in seen],
        },
        "cost": {
            "seconds": 11.5 + version, "training_seconds": 9.25, "epochs": 3, "examples_stored": 2500,
            "bytes": 3_100_000 + 1000 * version,
        },
        "scratch": None,
    }  # fmt: skip


def _judged(r: Record, seen: list[Seen], target: str, known: int, names: tuple[str, ...]) -> Record:
    """With the gate's verdict, and what changed."""
    verdict = None
    if r["parent"] is not None:
        *old, new = [s.compared(target, range(known)) for s in seen]
        if target == "class":
            g, out = seen[-1].guard, seen[-1].candidate
            new = type(new)(new.name, new.served, out.argmax(1) == g.y, new.classes, None)
        verdict = judge(old, new, GATE, names)
    r["promoted"] = verdict is None or verdict.passed
    r["reason"] = (
        "the first version: there was nothing to compare with" if verdict is None else verdict.reason
    )
    r["gate"] = {
        "alpha": GATE.alpha, "margin": None if verdict is None else verdict.margin, "new_margin": GATE.new_margin,
        "tests": [] if verdict is None else [test_of(t) for t in verdict.tests],
        "labels": LABELS if r["name"] == "april" else None,
    }  # fmt: skip
    is_class = target == "class"
    r["per_class"] = per_class(seen, names) if is_class else []
    r["changed"] = changed(seen, names) if is_class else None
    r["calibration"] = None
    if is_class:
        y = torch.cat([s.guard.y for s in seen])
        r["calibration"] = calibrate(torch.cat([s.candidate for s in seen]), y)._asdict()
    return r


@cache
def _classes() -> tuple[Record, ...]:
    rng = torch.Generator().manual_seed(7)
    guards: list[Guard] = []
    records: list[Record] = []
    parent, known = None, 0
    for i, name in enumerate(MONTHS):
        y = torch.randint(2 * i, 2 * i + 2, (400,), generator=rng)
        tried = [*guards, Guard.of(name, y, y, 0)]
        bad = name == "april"
        seen = _seen(known, 2 * i + 2, tried, 0.2 if bad else 0.01, 0.91, seed=i)
        r = _judged(_base(i + 1, parent, name, seen, "class"), seen, "class", known, SHOES)
        new = SHOES[2 * i : 2 * i + 2]
        r["data"] |= {"classes": dict(Counter(SHOES[c] for c in y.tolist())), "new_classes": list(new)}
        if bad:
            r["drift"] = {
                "drifted": True,
                "findings": ["the features of boot differ (p = 0.003 after Holm's correction for 3 tests)"],
                "tests": [{"name": "the features of boot", "p": 0.001, "statistic": 0.21}],
            }
        if name == "may":
            values = [0.95] * len(tried)
            r["scratch"] = {"examples": 13000, "guards": [g.name for g in tried], "accuracy": values}
        records.append(r)
        if r["promoted"]:
            parent, known, guards = i + 1, 2 * i + 2, tried
    return tuple(records)


def class_vault() -> list[Record]:
    """Five updates of two new classes each; the fourth is refused."""
    return copy.deepcopy(list(_classes()))


def table_vault() -> list[Record]:
    """Three months of a table: a class and a category come in the third, and the data have drifted."""
    rng = torch.Generator().manual_seed(3)
    guards, records = [], []
    for i, name in enumerate(MONTHS[:3]):
        y = torch.randint(0, 2 if i < 2 else 3, (300,), generator=rng)
        guards.append(Guard.of(name, y, y, 0))
        known, to = (0, 2, 2)[i], (2, 2, 3)[i]
        seen = _seen(known, to, guards, 0.01, 0.94, seed=20 + i)
        r = _judged(_base(i + 1, i or None, name, seen, "class"), seen, "class", known, CHURN)
        r["data"] |= {"source": f"/data/{name}.csv", "classes": dict(Counter(CHURN[c] for c in y.tolist()))}
        if i == 2:
            notes = ["column plan: 12 rows have the category 'family', which was never seen"]
            r["data"] |= {"new_classes": ["pauses"], "notes": notes}
            findings = ["a class that was never seen: pauses", *notes]
            tests = [{"name": "the shares of the classes", "p": 0.002, "statistic": 12.5}]
            r["drift"] = {"drifted": True, "findings": findings, "tests": tests}
        records.append(r)
    return copy.deepcopy(records)


def regression_vault() -> list[Record]:
    """Two updates that predict a number; what is compared are losses."""
    rng = torch.Generator().manual_seed(5)
    guards, records = [], []
    for i, name in enumerate(MONTHS[:2]):
        y = torch.randn(300, 1, generator=rng)
        guards.append(Guard.of(name, y, y, 0))
        noise = [torch.randn(300, 1, generator=rng) for _ in guards]
        served = [
            g.y + 0.5 * e + (0.8 if j == 1 else 0) for j, (g, e) in enumerate(zip(guards, noise, strict=True))
        ]
        again = [torch.randn(300, 1, generator=rng) for _ in guards]
        now = [g.y + 0.5 * e + 0.03 * a for g, e, a in zip(guards, noise, again, strict=True)]
        before = served if i else [None] * len(guards)
        seen = [Seen(g, a, b) for g, a, b in zip(guards, before, now, strict=True)]
        r = _judged(_base(i + 1, i or None, name, seen, "regression"), seen, "regression", 0, ())
        r["scratch"] = (
            None if i == 0 else {"examples": 6000, "guards": ["january", "february"], "loss": [0.12, 0.13]}
        )
        records.append(r)
    return copy.deepcopy(records)


VAULTS = {"class": class_vault, "table": table_vault, "regression": regression_vault}


def history_of(records: list[Record]) -> list[Record]:
    """As a vault keeps them, with an event of another kind among them."""
    events = [{**brief(r), "number": i + 1} for i, r in enumerate(records)]
    back = {"schema": 1, "event": "rollback", "version": 1, "time": "2026-12-01T00:00:00+00:00", "parent": 2}
    return [*events, {**back, "reason": "rolled back from version 2", "number": len(events) + 1}]


def many(updates: int, name: str = "update", classes: int = 2) -> list[Record]:
    """A vault of many updates, each with the guards of all before it, and tests of their classes."""
    template = class_vault()[2]
    of = {t["what"]: t for t in template["gate"]["tests"]}
    records = []
    for i in range(updates):
        r: Record = copy.copy(template)
        guards = [f"{name} {j}" for j in range(i + 1)]
        values = [0.9 - 0.0005 * (i - j) for j in range(i + 1)]
        tests = [{**of["guard"], "name": g} for g in guards[:-1]]
        tests += [{**of["class"], "name": f"{g}/{c}"} for g in guards[:-1] for c in range(classes)]
        tests += [{**of["new data"], "name": guards[-1]}]
        r |= {
            "version": i + 1,
            "parent": i or None,
            "name": guards[-1],
            "gate": {**r["gate"], "tests": tests},
        }
        r["matrix"] = {"measure": "accuracy", "guards": guards, "served": values, "candidate": values}
        records.append(r)
    return records


def forgotten() -> Record:
    """The record of forgetting a class."""
    removed = ["40 of 400 examples of the guard of january", "12 examples that the method had kept"]
    kept = [
        "the weights of the network, which keep traces of what they learned: train anew to be rid of them"
    ]
    event = {"schema": 1, "event": "forget", "version": 6, "parent": 5, "time": "2026-12-02T00:00:00+00:00"}
    return {**event, "reason": "forgot class boot", "removed": removed, "kept": kept}
