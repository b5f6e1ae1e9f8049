"""What is said of updates in a terminal: one, all, and two side by side."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from rich.console import Console
from tests.vault import record_examples as examples

from retain.vault import VaultError
from retain.vault.report import difference, difference_text, history_table, text

Record = dict[str, Any]


def test_words_for_a_terminal_hold_the_numbers() -> None:
    records = examples.class_vault()
    said = text(records[3])
    for t in records[3]["gate"]["tests"]:
        if t["what"] == "guard":
            row = next(line for line in said.splitlines() if line.startswith(f"  {t['name']} "))
            words = row.split()
            assert words[-3:] == [f"{100 * t['bound']:.1f}", f"{100 * t['margin']:.1f}", "FAILED"]
            assert f"{100 * t['candidate']:.1f}" in words
    assert "drift: the features of boot differ" in said and "classes that lost most: " in said
    assert "to new classes: january loses" in said
    assert "trained from scratch on 13000 examples of all updates: 95.0 %" in text(records[4])
    loss = text(examples.regression_vault()[1])
    assert "mean loss on the guards" in loss and "% of its mean loss" in loss
    gone = text(examples.forgotten())
    assert (
        gone.splitlines()[0] == "forgot class boot"
        and "removed: 12 examples" in gone
        and "kept: the weights" in gone
    )


def test_a_terminal_is_not_flooded() -> None:
    r = examples.many(100, classes=50)[-1]
    for t in r["gate"]["tests"]:
        t |= {"passed": t["what"] == "new data", "gated": True}
    moved = next(t for t in examples.class_vault()[3]["gate"]["tests"] if t["what"] == "to new classes")
    r["gate"]["tests"] += [{**moved, "name": f"update {i}"} for i in range(99)]
    r["data"] = {**r["data"], "notes": [f"note {i}" for i in range(1000)]}
    lines = text(r).splitlines()
    assert len(lines) < 70
    for more in ("and 990 more notes", "  and 79 more guards, further from their margins"):
        assert more in lines
    assert "and 4945 more classes FAILED" in lines and "and 94 more guards lose some to new classes" in lines


def test_of_many_guards_those_nearest_to_their_margin_are_shown() -> None:
    r = examples.many(100)[-1]
    guards = [t for t in r["gate"]["tests"] if t["what"] == "guard"]
    near = guards[::5]
    for k, t in enumerate(guards):
        t |= {"margin": 0.05, "bound": 0.049 if t in near else 0.001 * (k % 40), "passed": True}
    rows = [line.split()[1] for line in text(r).splitlines() if line.startswith("  update ")]
    assert rows == [t["name"].split()[1] for t in near] + ["99"]
    for t in guards:  # without a bound, by what was lost
        t |= {"bound": None, "served": 0.9, "candidate": 0.86 if t in near else 0.89}
    rows = [line.split()[1] for line in text(r).splitlines() if line.startswith("  update ")]
    assert rows == [t["name"].split()[1] for t in near] + ["99"]


def test_the_history_is_a_row_an_event_and_marks_what_is_served() -> None:
    records = examples.class_vault()
    records[1]["name"] = "[red]february[/red]\x1b[31m"
    events = [*examples.history_of(records), examples.forgotten()]
    console = Console(width=300, record=True)
    with console.capture() as captured:
        console.print(history_table(events, 6))
    lines = captured.get().splitlines()[2:]
    assert len(lines) == len(events) == 7
    words = [line.split() for line in lines]
    assert [w[0] for w in words] == ["1", "2", "3", "4", "5", "1", "6"]
    kinds = ["served", "served", "served", "refused", "served", "rollback", "forget"]
    assert [w[1] for w in words[:-1]] == kinds[:-1] and words[-1][1:3] == ["*", "forget"]
    assert "[red]february[/red]\ufffd[31m: better" in lines[1]
    assert "2026-02-28 05:00" in lines[1]


def test_two_updates_side_by_side() -> None:
    records = examples.class_vault()
    d = difference(records[2], records[3])
    m = [r["matrix"] for r in records[2:4]]
    for name, pair in d["guards"].items():
        wanted = [dict(zip(x["guards"], x["candidate"], strict=True)).get(name) for x in m]
        assert pair == wanted
    assert list(d["guards"]) == ["january", "february", "march", "april"]
    assert d["classes"]["brogue"][0] is None and d["settings"] == {}
    assert set(d["data"]) == {"source", "sha256", "classes", "new_classes"}
    assert d["changed"] == records[3]["changed"]
    assert difference(records[1], records[3])["changed"] is None
    json.dumps(d, allow_nan=False)
    said = difference_text(d)
    change = 100 * (d["guards"]["january"][1] - d["guards"]["january"][0])
    assert re.search(rf"^  january .* {change:+.1f}$", said, re.M)
    assert f"predictions on the guards: {records[3]['changed']['right_to_wrong']} right -> wrong" in said
    other = copy.deepcopy(records[3])
    other["method"]["memory"] = 100
    assert difference(records[3], other)["settings"] == {"method.memory": [2500, 100]}
    assert difference(records[3], records[3])["data"] == {}
    with pytest.raises(VaultError, match="compare versions of one vault"):
        difference(records[0], examples.regression_vault()[0])
