"""The published recipes of the package, how they are read, and how their rows are judged."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tests.unit.report_examples import example

from retain import reproduce
from retain.cli import reproduce as cli
from retain.cli import run as run_command
from retain.reproduce import Outcome, Row, Run, load, outcome, recipes, to_json, to_markdown
from retain.result import Result

RUNS = {run.key: run for row in recipes() for run in row.runs}
PUBLISHED = {  # how many rows each section has: what the package is held to
    1: 6, 2: 7, 3: 7, 4: 16, 5: 9, 6: 12, 7: 5,
}  # fmt: skip


def test_every_section_is_there() -> None:
    found = [row.section for row in recipes()]
    assert {s: found.count(s) for s in found} == PUBLISHED
    assert len({row.id for row in recipes()}) == len(recipes())


@pytest.mark.parametrize("row", recipes(), ids=lambda row: row.id)
def test_a_row_says_where_its_number_is_from_and_its_band_holds_it(row: Row) -> None:
    assert row.source and row.said.title and row.group
    if row.section != 7:  # where the band begins beyond what was published
        low, high = row.said.band or (-math.inf, math.inf)
        assert row.said.published is None or low <= row.said.published <= high
    assert row.said.band or row.said.published is not None


@pytest.mark.parametrize("key", RUNS)
def test_a_run_is_a_configuration_and_a_command_line(key: str) -> None:
    made = RUNS[key].experiment(0)
    assert type(made).from_config(made.config()) == made
    words = cli.command_line(RUNS[key]).split()
    assert words[:2] == ["retain", "run"]
    by_hand, _ = run_command._read(words[2:4], words[4:])
    assert by_hand.stream == made.stream and by_hand.method == made.method
    assert by_hand.settings == replace(made.settings, curve_every=None)


@pytest.mark.parametrize("key", RUNS)
def test_a_run_goes_through_in_small(key: str) -> None:
    made = RUNS[key].experiment(0)
    s = made.settings
    small = replace(
        s, samples=60, test_samples=20, validation=min(s.validation, 20), hidden=(8,) * len(s.hidden), epochs=1,
        iterations=2, batch_size=8, tasks=s.tasks and 2,
    )  # fmt: skip
    result = replace(made, settings=small).run()
    for row in recipes():
        if key in [run.key for run in row.runs] and (row.said.task or 1) <= len(result.tasks):
            if row.said.measure in ("bwt", "fwt"):
                assert len(result.tasks) > 1
            assert math.isfinite(row.value(result, result if row.minus else None))


def test_runs_that_rows_share_are_run_once_longest_first() -> None:
    jobs = reproduce.jobs(recipes())
    assert len({(run.key, seed) for run, seed in jobs}) == len(jobs)
    assert {run.key for run, _ in jobs} == set(RUNS)
    seconds = [run.seconds for run, _ in jobs]
    assert seconds == sorted(seconds, reverse=True)
    assert len(reproduce.jobs(recipes(), seeds=1)) == len(RUNS)


# Reading

GOOD = """
section = 9
title = "T"
source = "S"
settings = {stream = "permuted"}
runs = {a = {method = "naive"}, b = {lr = 0.5, method = {name = "ewc", lam = 3}}}
seconds = {a = 1, b = 2}
[rows.x]
title = "t"
run = "a"
minus = "b"
times = 0.5
measure = "lost"
task = 2
mark = "S"
band = [-inf, 3]
"""


def read(folder: Path, text: str) -> tuple[Row, ...]:
    (folder / "f.toml").write_text(text)
    return load(folder)


def test_a_recipe_is_read(tmp_path: Path) -> None:
    (row,) = read(tmp_path, GOOD)
    assert (row.id, row.section, row.group, row.source) == ("f/x", 9, "T", "S")
    assert row.minus == Run("f/b", {"stream": "permuted", "lr": 0.5, "method": {"name": "ewc", "lam": 3}}, 2)
    config = row.minus.experiment(4).config()
    assert (config["lr"], config["method"]["lam"], config["seed"]) == (0.5, 3.0, 4)
    assert row.said.band == (-math.inf, 3.0)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("section = 9", "", "lacks section"),
        ('title = "T"', 'title = "T"\nfoo = 1', "unexpected keyword argument 'foo'"),
        ("seconds = {a = 1, b = 2}", "seconds = {a = 1}", "must name every run"),
        ('run = "a"', 'run = "c"', "rows.x: no run is called 'c'; there are a, b"),
        ('minus = "b"', 'minus = "c"', "no run is called 'c'"),
        ('measure = "lost"', 'measure = "loss"', "rows.x: measure must be one of acc"),
        ("task = 2", "", "task: a number from 1 for final"),
        ("task = 2", "task = 0", "task: a number"),
        ('measure = "lost"', 'measure = "acc"', "task: a number"),
        ('mark = "S"', 'mark = "X"', "mark must be one of S, T, R"),
        ("band = [-inf, 3]", "band = [3]", r"band must be \[low, high\]"),
        ("band = [-inf, 3]", "band = [3, 1]", r"band must be \[low, high\]"),
        ("times = 0.5", "tims = 0.5", "did you mean times"),
        ('title = "t"', "", "title"),
        ("times = 0.5", "seeds = 0", "seeds must be >= 1"),
        ("section", "section =", "Invalid value"),
    ],
)
def test_a_broken_recipe_is_named_with_what_is_wrong(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    assert GOOD.count(old) >= 1
    with pytest.raises(ValueError, match=r"recipes/f.toml: .*" + complaint):
        read(tmp_path, GOOD.replace(old, new, 1))


def test_a_run_that_is_no_configuration_is_named(tmp_path: Path) -> None:
    (row,) = read(tmp_path, GOOD.replace('"naive"', '"naiv"'))
    with pytest.raises(ValueError, match="recipe f/a: no method is called 'naiv'"):
        row.run.experiment(0)


# Judging


def made(R: list[list[float]], seconds: float = 2.0) -> Result:
    base = example(names=("A", "B"))
    return replace(base, accuracy=R, seconds=replace(base.seconds, total=seconds))


A, B = [[0.1, 0.2], [0.9, 0.3], [0.6, 0.8]], [[0.1, 0.1], [0.8, 0.2], [0.7, 0.7]]


def row_of(**said: Any) -> Row:
    (row,) = (r for r in recipes() if r.id == "gem-permutations/gem-acc")
    return replace(row, said=replace(row.said, **said))


@pytest.mark.parametrize(
    ("measure", "task", "expected"),
    [
        ("acc", None, 70.0),
        ("bwt", None, -30.0),
        ("fwt", None, 10.0),
        ("final", 1, 60.0),
        ("final", 2, 80.0),
        ("before", 2, 30.0),
        ("lost", 1, 30.0),
        ("lost", 2, 0.0),
    ],
)
def test_what_is_measured(measure: str, task: int | None, expected: float) -> None:
    row = row_of(measure=measure, task=task)
    assert row.value(made(A)) == pytest.approx(expected)
    if measure == "lost" and task == 1:
        assert replace(row, said=replace(row.said, times=0.5)).value(made(A), made(B)) == pytest.approx(25.0)


def test_a_measure_of_a_task_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="needs more tasks than 2"):
        row_of(measure="final", task=3).value(made(A))


def judged(values: list[float], missing: tuple[int, ...] = (), **said: Any) -> Outcome:
    return Outcome(row_of(**said), dict(enumerate(values)), 1.0, missing)


def test_inside_and_outside() -> None:
    assert judged([81.0, 83.0]).inside is True
    assert judged([80.0, 81.0]).inside is False and judged([80.0, 81.0]).misses
    assert judged([80.0], mark="R").inside is False and not judged([80.0], mark="R").misses
    assert judged([83.0], missing=(1,)).inside is False  # a failed run is no success
    assert judged([]).inside is False
    assert judged([50.0], band=()).inside is None and not judged([50.0], band=()).misses
    assert judged([17.0], band=(17.0, math.inf)).inside is True


def test_an_outcome_pairs_seeds_and_counts_the_missing() -> None:
    (row,) = (r for r in recipes() if r.id == "gem-permutations/gem-above-single")
    gem, single = (run.key for run in row.runs)
    results = {(gem, 0): made(A), (single, 0): made(B, 3.0), (gem, 1): made(A), (single, 2): made(B)}
    found = outcome(row, results)
    assert found.values == {0: pytest.approx(0.0)} and found.missing == (1, 2)
    assert found.seconds == 5.0
    assert outcome(row, results, seeds=1).missing == ()


def test_the_table_is_json_and_a_page() -> None:
    outcomes = [
        judged([82.0, 82.4, 82.9]),
        judged([50.0, 51.0], mark="R", spread=0.2, spread_kind="sem", band=(60.0, math.inf), note="But."),
        judged([], missing=(0, 1, 2)),
        judged([5.0], published=None, band=(-math.inf, 10.0)),
    ]
    table = json.loads(json.dumps(to_json(outcomes, 1, "abc+"), allow_nan=False))
    assert table["schema"] == 1 and table["commit"] == "abc+" and table["runs_reused"] == 1
    first, second, third, _ = table["rows"]
    assert first["mean"] == pytest.approx(82.4333, abs=1e-3) and first["inside"] is True
    assert first["low"] == pytest.approx(81.3133, abs=1e-3)  # 4.3027 sd / sqrt(3)
    assert second["band"] == [60.0, None] and third["mean"] is None and third["missing"] == [0, 1, 2]
    assert first["runs"][0]["config"]["method"]["name"] == "gem"
    page = to_markdown(table)
    assert "2 of 4 rows with a band lie inside it" in page and "commit abc+" in page
    assert "| GEM: ACC | 82.6 | T | 82.4 ± 1.1 | 3 | 81 to 84.5 | inside | 1 |" in page
    assert "| GEM: ACC | 82.6 ± 0.2 s.e.m. | R | 50.5 ± 6.4 | 2 | ≥ 60 | OUTSIDE | 1 |" in page
    assert "no run succeeded (3 failed)" not in page and "no run succeeded" in page
    assert "`gem-acc`: But." in page
    assert "| – | T | 5.0 | 1 | ≤ 10 | inside |" in page


def test_the_commit_is_that_of_a_checkout_in_which_the_folder_lies(tmp_path: Path) -> None:
    assert reproduce.commit_of(tmp_path) is None


def test_the_committed_table_is_that_of_these_recipes_and_of_the_page() -> None:
    """What `advise`, `list methods` and the pages quote: all rows, run as the recipes are today."""
    table = json.loads((files("retain") / "recipes" / "reproduced.json").read_text("utf-8"))
    assert [r["id"] for r in table["rows"]] == [row.id for row in recipes()]
    for r, row in zip(table["rows"], recipes(), strict=True):
        assert [run["config"] for run in r["runs"]] == [dict(run.config) for run in row.runs], row.id
        assert len(r["values"]) == row.said.seeds and not r["missing"], row.id
        if row.said.band:
            low, high = row.said.band
            assert r["inside"] is (low <= r["mean"] <= high), row.id
            assert r["inside"] or row.said.mark == "R", row.id
    assert len(table["commit"]) == 40  # of a checkout in which nothing was changed
    page = Path(__file__).parents[2] / "docs" / "reproduction.md"
    assert page.read_text("utf-8") == to_markdown(table)
