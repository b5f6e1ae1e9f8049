"""`retain list methods`: a line each, all of one; and the note where a method is known to fail."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import retain.reproduce as published
from retain.cli.list import LISTS
from retain.cli.main import COMMANDS, main
from retain.cli.names import about, summary
from retain.cli.notes import note, notes
from retain.cli.reproduce import command_line
from retain.cli.traits import letters, short_paper
from retain.methods import WORKS, discover

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
        ("list methods EWC", "no method is called 'EWC' (did you mean 'ewc'?)"),
        ("list streams ewc", "no stream is called 'ewc'; there are permuted"),
        ("list streams SPLIT", "(did you mean 'split'?)"),
        ("list models mpl", "no model is called 'mpl' (did you mean 'mlp'?)"),
        ("list data cifar11", "no data set is called 'cifar11' (did you mean 'cifar10'?)"),
        ("list recipes lectur", "no recipe is called 'lectur' (did you mean 'lecture'?)"),
    ):
        assert main(line.split()) == 2
        assert complaint in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "heads"),
    [
        ("streams split rotated", ["split", "rotated"]),
        ("models mlp", ["--model mlp", "--generator mlp"]),
        ("data cifar10", ["--data cifar10"]),
        ("recipes lecture", ["lecture"]),
        ("recipes lecture/ewc der-pmnist/der-500", ["lecture", "der-pmnist"]),
    ],
)
def test_of_every_list_some_alone(capfd: pytest.CaptureFixture[str], line: str, heads: list[str]) -> None:
    """Heads stand at the margin; the other rows of a recipe's group are left out."""
    out, _ = ran(capfd, f"list {line}")
    assert [said for said in out.splitlines() if said and said[0] != " "] == heads
    assert "/gem" not in out if "/ewc" in line else "without boundaries" not in out


def test_a_recipes_command_line_can_be_pasted(capfd: pytest.CaptureFixture[str]) -> None:
    """Where it is broken a shell joins it again, and no flag stands apart from its value."""
    out, _ = ran(capfd, "list recipes")
    assert not re.search(r"--\S+ \\\n +[^- ]", out)
    typed = [shlex.split(c) for c in re.findall(r"^    (retain run .*)$", out.replace("\\\n", ""), re.M)]
    by_hand = (command_line(run) for row in published.recipes() for run in row.runs)
    assert typed == [shlex.split(c) for c in dict.fromkeys(by_hand)]


@pytest.mark.parametrize(
    "line",
    [
        *(f"list {what}" for what in ("--help", *LISTS)),
        f"list methods {' '.join(discover())}",
        "--help",
        *(f"{name} --help" for name in COMMANDS),
        *(f"run split {name} --help" for name in ("ewc", "si", "bir")),
    ],
)
def test_no_line_is_wider_than_a_hundred(capfd: pytest.CaptureFixture[str], line: str) -> None:
    out, _ = ran(capfd, line)
    assert [said for said in out.splitlines() if len(said) > 100] == []


@pytest.mark.parametrize("name", discover())
def test_what_its_help_says_of_a_method_fits(name: str) -> None:
    assert max(map(len, about(discover()[name]).splitlines())) <= 100


def test_names_beside_what_they_are() -> None:
    """As `run` and `compare` list the methods: none runs into its text, and none is too wide."""
    said = summary(discover().items())
    assert max(map(len, said.splitlines())) <= 100
    assert [line.split()[0] for line in said.splitlines() if line[2] != " "] == list(discover())
    assert "  replay-through-feedback  Replay through" in said


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
    assert len(lines[0]) <= 200
    assert json.loads(out)["method"] == "ewc"
    assert NOTE not in ran(capfd, f"run split ewc --scenario domain {SMALL}")[1]
    for method in ("replay", "naive"):  # plain training is there to be seen failing
        assert NOTE not in ran(capfd, f"run split {method} --scenario class {SMALL}")[1]
    assert ran(capfd, f"run split ewc --scenario class {SMALL} --quiet")[1] == ""


def test_a_comparison_says_it_once_for_all(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = (
        f"compare split --methods naive,ewc,replay,l2 --scenario class {SMALL} --workers 1 --out {tmp_path}"
    )
    _, err = ran(capfd, line)
    noted = [line for line in err.splitlines() if "known to fail in scenario class" in line]
    assert len(noted) == 1 and noted[0].startswith(
        "retain: note: EWC, L2 are known to fail in scenario class"
    )


def test_what_works_works() -> None:
    assert all("class" not in discover()[n].traits.fails_in for n in WORKS)
    assert {discover()[n].traits.stores for n in WORKS} == {"examples", "generator", "statistics"}


def test_notes_are_silent_where_quiet_was_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        with notes(quiet):
            note("said once")
    assert capfd.readouterr().err == "retain: note: said once\n"
