"""Two updates side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retain.vault.errors import VaultError
from retain.vault.report.check import Record, learned, measure_of
from retain.vault.report.words import columns, decision, number, short

DATA = ("source", "sha256", "examples", "trained_on", "guards", "classes", "new_classes")
COST = ("seconds", "training_seconds", "epochs", "examples_stored", "bytes")


def difference(one: Record, two: Record) -> Record:
    """What differs between the updates that made two versions.

    Gives `versions`, `names`, `measure` and `decisions`, a pair each; `guards` and `classes`, by name the pair of
    measures, None where a version has none; `settings`, `data` and `cost`, by name the pair of values of
    those that are not equal; and `changed`, the second's changed predictions where it was learned from the first,
    else None.

    Raises:
        Damaged: one is no record; names the field.
        VaultError: one is of no update, or their numbers are of two kinds.
    """
    a, b = learned(one), learned(two)
    if measure_of(a) != measure_of(b):
        raise VaultError(
            f"version {a['version']} was measured by its {measure_of(a)}, version {b['version']} by its "
            f"{measure_of(b)}: compare versions of one vault"
        )
    guards = [dict(zip(r["matrix"]["guards"], r["matrix"]["candidate"], strict=True)) for r in (a, b)]
    classes = [{c["class"]: c["candidate"] for c in r["per_class"]} for r in (a, b)]
    return {
        "versions": [a["version"], b["version"]],
        "names": [a["name"], b["name"]],
        "measure": measure_of(a),
        "decisions": [decision(a), decision(b)],
        "guards": _side_by_side(*guards),
        "classes": _side_by_side(*classes),
        "settings": _apart(_settings(a), _settings(b)),
        "data": _apart(*({k: r["data"][k] for k in DATA} for r in (a, b))),
        "cost": _apart(*({k: r["cost"][k] for k in COST} for r in (a, b))),
        "changed": b["changed"] if b["parent"] == a["version"] else None,
    }


def _settings(r: Record) -> Record:
    """The method's, and the gate's."""
    gate = {f"gate.{k}": r["gate"][k] for k in ("alpha", "margin", "new_margin")}
    return {**{f"method.{k}": v for k, v in r["method"].items()}, **gate}


def _apart(a: Record, b: Record) -> Record:
    return {k: [a.get(k), b.get(k)] for k in {**a, **b} if a.get(k) != b.get(k)}


def _side_by_side(a: Record, b: Record) -> Record:
    return {k: [a.get(k), b.get(k)] for k in {**a, **b}}


def difference_text(d: Record) -> str:
    """The same for a terminal. `d` is what `difference` gives."""
    lines = list(d["decisions"])
    first, second = (f"version {v}" for v in d["versions"])
    for title, part in (("guard", d["guards"]), ("class", d["classes"])):
        if part:
            rows = [[short(k, 40), *_cells(pair, d["measure"])] for k, pair in part.items()]
            lines += columns([[title, first, second, "change", ""], *([*row, ""] for row in rows)])
    for title in ("settings", "data", "cost"):
        lines += [
            f"{title}: {short(k)}: {short(v[0], 200)} -> {short(v[1], 200)}" for k, v in d[title].items()
        ]
    if (c := d["changed"]) is not None:
        lines.append(
            f"predictions on the guards: {c['right_to_wrong']} right -> wrong, {c['wrong_to_right']} wrong -> right"
        )
    return "\n".join(lines)


def _cells(pair: Sequence[Any], measure: str) -> list[str]:
    a, b = pair
    found = [number(a, measure), number(b, measure)]
    if a is None or b is None:
        return [*found, "–"]
    return [*found, f"{100 * (b - a):+.1f}" if measure == "accuracy" else f"{b - a:+.4g}"]
