"""`retain reproduce` end to end, on recipes of its own that take a second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retain.cli import reproduce as cli
from retain.cli.errors import WrongUse
from retain.cli.main import main
from retain.reproduce import load, recipes

TINY = """
section = 3
title = "Tiny"
source = "nobody"
[settings]
stream = "permuted"
tasks = 2
samples = 200
test_samples = 100
hidden = [20]
batch_size = 20
[runs]
naive.method = "naive"
ewc = {lr = 0.05, method = {name = "ewc", lam = 3}}
[seconds]
naive = 1
ewc = 2
[rows]
naive = {title = "naive", run = "naive", measure = "acc", published = 50, mark = "S", band = [0, 100], short = 1}
ewc = {title = "EWC", run = "ewc", measure = "final", task = 1, published = 60, mark = "R", band = [99.9, 100]}
above = {title = "above", run = "ewc", minus = "naive", measure = "bwt", mark = "S", band = [-100, 100]}
hopeless = {title = "hopeless", run = "naive", measure = "acc", published = 99.99, mark = "T", band = [99.9, 100]}
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.toml").write_text(TINY)
    monkeypatch.setattr(cli, "recipes", lambda: load(tmp_path / "recipes"))
    return tmp_path


def test_rows_are_run_judged_written_and_taken_up_again(
    tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tiny / "out"
    args = [
        "reproduce",
        "tiny/naive",
        "tiny/ewc",
        "tiny/above",
        "--seeds",
        "2",
        "--workers",
        "1",
        "--out",
        str(out),
    ]
    assert main(args) == 0  # ewc lies outside, but its number was only recalled
    printed, err = capfd.readouterr()
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [(line["id"], line["inside"]) for line in lines] == [
        ("tiny/naive", True),
        ("tiny/ewc", False),
        ("tiny/above", True),
    ]
    assert "retain: 4 runs; in all less than a minute" in err
    assert err.index("tiny/ewc/0: begun") < err.index("tiny/naive/0: begun")  # longest first
    assert "2 of 3 rows inside their bands" in err and "(mark R): tiny/ewc" in err
    table = json.loads((out / "table.json").read_text())
    assert table["runs_reused"] == 0 and set(table["rows"][0]["values"]) == {"0", "1"}
    naive = json.loads((out / "tiny" / "naive" / "1" / "result.json").read_text())
    assert table["rows"][0]["values"]["1"] == pytest.approx(100 * naive["acc"])
    assert "| EWC | 60 | R |" in (out / "table.md").read_text()

    assert main(args) == 2
    err = capfd.readouterr().err
    assert "already holds a result: --resume goes on with it" in err and err.count("\n") == 1
    changed = TINY.replace("lr = 0.05", "lr = 0.2")
    (tiny / "recipes" / "tiny.toml").write_text(changed)
    assert main([*args, "--resume"]) == 0
    again, err = capfd.readouterr()
    assert "retain: 4 runs, 2 of them done" in err
    assert err.count("is of another recipe, and is run anew") == 2
    assert again.splitlines()[0] == printed.splitlines()[0]
    assert again.splitlines()[1] != printed.splitlines()[1]
    assert json.loads((out / "table.json").read_text())["runs_reused"] == 2


def test_outside_a_band_that_was_read_is_a_failure(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    args = ["reproduce", "tiny/hopeless", "--seeds", "1", "--workers", "1", "--quiet"]
    assert main([*args, "--out", str(tiny / "out")]) == 1
    printed, err = capfd.readouterr()
    assert json.loads(printed)["inside"] is False
    assert err == ""


def test_a_run_that_fails_is_named_and_its_rows_lie_outside(
    tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = TINY.replace("lam = 3", "lam = 1e9").replace("lr = 0.05", "lr = 0.1")
    (tiny / "recipes" / "tiny.toml").write_text(recipe)
    out = tiny / "out"
    args = ["reproduce", "tiny/above", "--seeds", "1", "--workers", "1", "--quiet", "--out", str(out)]
    assert main(args) == 1
    printed, err = capfd.readouterr()
    assert err.startswith("retain: error: tiny/ewc/0 failed: ")
    row = json.loads((out / "table.json").read_text())["rows"][0]
    assert (row["mean"], row["missing"], row["inside"]) == (None, [0], False)
    assert json.loads(printed)["mean"] is None


def test_rows_are_chosen_by_name_group_section_and_short(tiny: Path) -> None:
    def ids(*words: str, **what: object) -> list[str]:
        return [row.id for row in cli.chosen(words, cli.What(**what))]  # type: ignore[arg-type]

    whole = ["tiny/naive", "tiny/ewc", "tiny/above", "tiny/hopeless"]
    assert ids("tiny") == ids(all=True) == ids(section=(3,)) == whole
    assert ids("tiny/above", "tiny/ewc") == ["tiny/ewc", "tiny/above"]
    assert ids(short=True) == ["tiny/naive"]
    for briefly in (
        cli.chosen(["tiny"], cli.What(short=True)),
        cli.chosen([], cli.What(section=(3,), short=True)),
    ):
        assert [(row.id, row.said.seeds) for row in briefly] == [("tiny/naive", 1)]
    assert ids(all=True, short=True) == ["tiny/naive"]
    with pytest.raises(WrongUse, match="no short version of tiny/ewc; those that have one: --short alone"):
        ids("tiny/naive", "tiny/ewc", short=True)


def test_one_run_is_one_run(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    args = ["reproduce", "tiny/naive", "--short", "--workers", "1", "--out", str(tiny / "out")]
    assert main(args) == 0
    assert "retain: 1 run; in all less than a minute\n" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ([], "say which rows: ROW ..., --section N, --short or --all"),
        (["gem-permutation"], "no recipe is called 'gem-permutation' (did you mean 'gem-permutations'?)"),
        (["gem-permutations/gem-ac"], "(did you mean 'gem-permutations/gem-acc'?)"),
        (["--section", "12"], "--section must be among 1, 2, 3, 4, 5, 6, 7, got 12"),
        (["--section", "x"], "--section must be whole numbers"),
        (["--all", "--seeds", "0"], "--seeds must be >= 1"),
        (["--all", "--workers", "0"], "--workers must be >= 1"),
        (["--section", "7", "--short"], "no row of these sections has a short version"),
        (["--seeds", "1", "gem-permutations"], "Rows come first: retain reproduce ROW ... [flags]"),
        (["--short", "gem-permutations"], "what is 'gem-permutations' for? Rows come first"),
        (["--al"], "retain reproduce has no flag --al (did you mean '--all'?)"),
        (["--short", "--resume", "--force"], "give one of them"),
    ],
)
def test_wrong_use(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, args: list[str], complaint: str
) -> None:
    assert main(["reproduce", *args, "--out", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err.splitlines()[-1]


def test_the_list_of_recipes_names_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "recipes"]) == 0
    out, _ = capsys.readouterr()
    assert all(f"    {row.id} " in out for row in recipes())
    assert "GEM: ACC: 82.6 (T), band 81 to 84.5" in out
    assert "retain run permuted gem --memory-per-task 256" in out
