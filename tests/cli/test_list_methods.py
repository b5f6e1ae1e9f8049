"""`retain list methods`: a line each, all of one; and the note where a method is known to fail."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from retain.cli.main import main
from retain.cli.notes import note, notes
from retain.cli.traits import letters, short_paper
from retain.methods import discover

SMALL = "--samples 100 --test-samples 50 --hidden 10 --tasks 2"
NOTE = "is known to fail in scenario class"


def ran(capfd: pytest.CaptureFixture[str], line: str) -> tuple[str, str]:
    code = main(line.split())
    out, err = capfd.readouterr()
    assert code == 0, err
    return out, err


def test_the_table_has_a_line_for_each_method(capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = ran(capfd, "list methods")
    table, _, legend = out.partition("\n\n")
    head, *rows = table.splitlines()
    assert head.split() == ["method", "where", "stores", "grows", "told", "steps", "source"]
    assert [row.split()[0] for row in rows] == list(discover())
    assert max(map(len, out.splitlines())) <= 100
    start = head.index("where")
    for row, (_, kind) in zip(rows, discover().items(), strict=True):
        assert row[start:].startswith(letters(kind)) and kind.traits.stores in row
    assert "(C)" in next(row for row in rows if row.startswith("ewc "))
    assert "known to forget nearly all" in legend and "retain list methods NAME" in legend


@pytest.mark.parametrize("name", discover())
def test_all_of_one(capfd: pytest.CaptureFixture[str], name: str) -> None:
    kind: Any = discover()[name]
    out, _ = ran(capfd, f"list methods {name}")
    assert out.startswith(f"{name}\n") and kind.paper in out
    words = " ".join(out.split())
    assert f"Cost of a step: {kind.traits.cost}" in words and "Boundaries: " in words and "Keeps: " in words
    assert all(f"--{f.name.replace('_', '-')} " in out for f in fields(kind))
    assert ("known to fail in" in out) == bool(kind.traits.fails_in)


def test_several_and_none_such(capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = ran(capfd, "list methods gem naive")
    assert [line for line in out.splitlines() if line and line[0] != " "] == ["gem", "naive"]
    for line, complaint in (
        ("list methods ewcc", "no method is called 'ewcc' (did you mean 'ewc'?)"),
        ("list streams ewc", "what is 'ewc' for?"),
    ):
        assert main(line.split()) == 2
        assert complaint in capfd.readouterr().err


def test_papers_in_short_name_a_year() -> None:
    short = [short_paper(kind.paper) for kind in discover().values()]
    assert all(s and ":" not in s for s in short)


def test_streams_say_how_to_do_without_boundaries(capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = ran(capfd, "list streams")
    assert (
        "--batch-size 10 --epochs 1" in out and "--blur" in out and "Koh et al. 2022" in " ".join(out.split())
    )


def test_a_run_says_once_that_the_method_fails_there(capfd: pytest.CaptureFixture[str]) -> None:
    out, err = ran(capfd, f"run split ewc --scenario class {SMALL}")
    lines = [line for line in err.splitlines() if NOTE in line]
    assert (
        len(lines) == 1 and lines[0].startswith("retain: note: EWC is known to fail") and "replay" in lines[0]
    )
    assert json.loads(out)["method"] == "ewc"
    assert NOTE not in ran(capfd, f"run split ewc --scenario domain {SMALL}")[1]
    assert NOTE not in ran(capfd, f"run split replay --scenario class {SMALL}")[1]
    assert ran(capfd, f"run split ewc --scenario class {SMALL} --quiet")[1] == ""


def test_a_comparison_says_it_once_a_method(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = f"compare split --methods naive,replay --seeds 2 --scenario class {SMALL} --workers 1 --out {tmp_path}"
    _, err = ran(capfd, line)
    noted = [line for line in err.splitlines() if NOTE in line]
    assert [line.split()[2] for line in noted] == ["Naive"] and noted[0].startswith("retain: note: ")


def test_notes_are_silent_where_quiet_was_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        with notes(quiet):
            note("said once")
    assert capfd.readouterr().err == "retain: note: said once\n"
