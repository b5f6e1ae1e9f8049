"""Records: each field is documented, and a damaged one is named before anything is said of it."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from tests.vault import record_examples as examples

from retain.vault import Damaged, VaultError, init
from retain.vault.records import brief
from retain.vault.report import checked, html, text
from retain.vault.report.check import EVENT, LEARN, OTHER, Absent, OrNone

Record = dict[str, Any]
DOC = Path(__file__).parents[2] / "docs/vault-record.md"


def leaves(value: Any, at: str = "") -> dict[str, list[tuple[Any, Any]]]:
    """By the path as messages write it: where each part of a record lies, as (container, key)."""
    out: dict[str, list[tuple[Any, Any]]] = {}
    pairs: list[tuple[Any, Any]] = list(value.items() if isinstance(value, dict) else enumerate(value[:1]))
    for k, v in pairs:
        path = f"{at}[{k}]" if isinstance(value, list) else f"{at}.{k}" if at else k
        out[path] = [(value, k)]
        if isinstance(v, dict | list) and path not in ("method", "data.classes"):
            out |= leaves(v, path)
    return out


def test_a_damaged_record_is_refused_and_the_field_named() -> None:
    whole = examples.class_vault()[4]
    paths = list(leaves(whole))
    assert len(paths) > 70
    for path in paths:
        for bad in (float("nan"), ["\ud800", {}], {"a": -1}):
            r = copy.deepcopy(whole)
            [(home, key)] = leaves(r)[path]
            if path == "method" and isinstance(bad, dict):
                continue  # any object
            home[key] = bad
            expected = "only updates have|damaged" if path == "event" else "is damaged: "
            with pytest.raises(VaultError, match=expected) as e:
                html(r, [])
            assert "\n" not in str(e.value) and len(str(e.value)) < 400
            if path != "event":
                assert path.split("[")[0] in str(e.value)
        r = copy.deepcopy(whole)
        [(home, key)] = leaves(r)[path]
        if isinstance(home, dict):
            del home[key]
            if path not in ("matrix.measure", "calibration.note", "gate.labels", "event"):
                with pytest.raises(Damaged, match=re.escape(path) + " is missing"):
                    text(r)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "4"}, "version must be a whole number from 1, got '4'"),
        ({"version": True}, "version must be a whole number from 1, got True"),
        ({"schema": 9}, "schema must be one of 1, got 9"),
        ({"promoted": 1}, "promoted must be true or false, got 1"),
        ({"parent": 10**30}, "parent must be a whole number from 1"),
    ],
)
def test_each_kind_of_damage_has_its_rule(change: Record, message: str) -> None:
    with pytest.raises(Damaged, match=re.escape(message)):
        checked(examples.class_vault()[0] | change)


def test_lists_that_do_not_fit_each_other_are_refused() -> None:
    r = examples.class_vault()[4]
    r["matrix"]["served"].pop()
    with pytest.raises(Damaged, match=r"matrix\.served must hold 4 numbers, one a guard, got 3"):
        html(r, [])
    r = examples.class_vault()[4]
    r["scratch"] = {"examples": 1, "guards": ["january"], "loss": [0.1]}
    with pytest.raises(Damaged, match=r"scratch\.accuracy is missing"):
        html(r, [])
    with pytest.raises(Damaged, match="a record must be an object, got list"):
        text([])  # type: ignore[arg-type]
    with pytest.raises(VaultError, match="only updates have a report"):
        html(examples.forgotten(), [])
    with pytest.raises(VaultError, match="give the history of one vault"):
        html(examples.class_vault()[4], examples.regression_vault())


# What is documented


def paths(value: Any, at: str = "") -> set[str]:
    """The fields of a record, as docs/vault-record.md writes them."""
    if at in ("method", "data.classes", "cut"):
        return {f"{at}.*"}
    if isinstance(value, dict):
        return {p for k, v in value.items() for p in paths(v, f"{at}.{k}" if at else k)}
    if isinstance(value, list):
        return {p for v in value for p in paths(v, f"{at}[]")}
    return {at}


def ruled(rule: Any, at: str = "") -> set[str]:
    """The fields that are checked."""
    if isinstance(rule, OrNone | Absent):
        own = {at} if isinstance(rule, OrNone) and isinstance(rule.rule, dict) else set()
        return own | ruled(rule.rule, at)
    if at in ("method", "data.classes", "cut"):
        return {f"{at}.*"}
    if isinstance(rule, dict):
        return {p for k, v in rule.items() for p in ruled(v, f"{at}.{k}" if at else k)}
    return ruled(rule[0], f"{at}[]") if isinstance(rule, list) else {at}


def documented() -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", DOC.read_text(encoding="utf-8"), re.M)


def test_every_field_is_documented_and_no_other() -> None:
    records = [r for vault in examples.VAULTS.values() for r in vault()]
    events = [
        *records,
        *examples.history_of(records),
        brief(examples.many(3, classes=200)[-1]),
        examples.forgotten(),
    ]
    written = set().union(*map(paths, events))
    assert len(documented()) == len(set(documented()))
    assert written == set(documented())
    assert ruled(LEARN) | ruled(OTHER) | ruled(EVENT) == set(documented())


def test_what_a_vault_writes_is_what_is_documented(tmp_path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)

    def data(classes: tuple[int, ...]) -> tuple[Any, Any]:
        y = np.repeat(classes, 60)
        return (rng.normal(size=(len(y), 4)) + 3 * y[:, None]).astype("float32"), y

    vault = init(tmp_path / "numbers", "mlp:16", epochs=1, guard=30, margin=50.0, new_margin=90.0)
    vault.learn(data((0, 1)))
    done = vault.learn(data((1, 2)), force=True)
    assert paths(checked(done.record)) <= set(documented())
    page = vault.report_path(done.version).read_text(encoding="utf-8")
    assert page == html(done.record, vault.history()) and text(done.record).startswith("version 2 is served")
    vault.promote(1)
    vault.forget(cls="0")
    events = vault.history()
    seen = {p for e in events for p in paths(checked(e))}
    assert seen <= set(documented()) and {e["event"] for e in events} == {"learn", "promote", "forget"}


def test_a_regression_vault_writes_losses_and_compares_with_scratch(tmp_path: Path) -> None:
    import numpy as np

    x = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    for name, rows in (("one", x[:100]), ("two", x[100:])):
        np.savez(tmp_path / f"{name}.npz", x=rows, y=rows[:, :1])
    vault = init(tmp_path / "floats", "mlp:16", epochs=1, guard=30, target="regression", margin=90.0)
    vault.learn(tmp_path / "one.npz")
    r = vault.learn(tmp_path / "two.npz", force=True, scratch=True).record
    assert paths(checked(r)) <= set(documented()) and r["matrix"]["measure"] == "loss"
    page, mean = html(r, vault.history()), sum(r["scratch"]["loss"]) / 2
    assert f"{mean:.4g} in the mean over the guards" in page and f"{mean:.4g} in the mean over" in text(r)
    assert all(f"<td>{v:.4g}</td>" in page for t in r["gate"]["tests"] for v in (t["served"], t["candidate"]))
