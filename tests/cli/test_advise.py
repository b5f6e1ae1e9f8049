"""`retain advise` as a newcomer meets it."""

from __future__ import annotations

import pytest

from retain import advise
from retain.cli.advise import NO_FIGURES, NOT_HERE
from retain.cli.main import main
from retain.methods import discover
from retain.reproduce import Outcome, method_of, recipes, to_json


def said(capsys: pytest.CaptureFixture[str], line: str) -> str:
    code = main(["advise", *line.split()])
    out, err = capsys.readouterr()
    assert code == 0 and err == ""
    assert max(map(len, out.splitlines())) <= 100
    return out


def test_without_constraints_it_is_class_incremental(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "")
    assert out.startswith("scenario class: the task is hidden")
    assert "\n 1. " in out and "\n10. " in out and "more: --top" in out
    assert "--why says what each lacks" in out


def test_why_names_every_method_once(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "--top 99 --why --store statistics")
    words = out.split()
    assert all(words.count(name) >= 1 for name in discover())
    assert "What the others lack:" in out
    assert " replay " in out.partition("What the others lack:")[2]


def test_a_choice_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "--task-known --store nothing --compute 1 --top 3")
    assert out.startswith("scenario task")
    first = next(line for line in out.splitlines() if line.startswith(" 1. "))
    assert first.split()[1] in discover()
    out = said(capsys, "--no-new-classes --no-boundaries --memory-bytes 500000")
    assert "scenario domain" in out and "158 MNIST images of 3,152 bytes fit" in " ".join(out.split())


def test_without_a_table_it_says_that_there_are_no_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advise, "reproduced", lambda: {"rows": []})
    out = said(capsys, "")
    assert out.splitlines()[2] == NO_FIGURES and "reproduced here" not in out and "%" not in out


def test_with_a_table_each_has_its_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(r for r in recipes() if r.said.measure == "acc" and dict(r.run.config)["method"] != "naive")
    name = method_of(row.run.config)["name"]
    measured = Outcome(row, {0: 90.0, 1: 92.0}, 7.0, ())
    table = to_json([measured], 0, None)
    monkeypatch.setattr(advise, "reproduced", lambda: table)
    found = advise.figures()[name][0]
    flags = {"class": "", "domain": "--no-new-classes", "task": "--task-known"}
    out = said(capsys, flags[found.scenario])
    assert NO_FIGURES not in out and NOT_HERE in out
    assert f"1. {name}" in out and f"on {found.stream} ({row.said.title}: {row.id}, 2 seeds" in " ".join(
        out.split()
    )


def test_nothing_may_be_left(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "--store nothing --why")
    assert "No method meets all of these" in out


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("now", "what is 'now' for?"),
        ("--store images", "--store must be one of nothing, statistics, generator, examples"),
        ("--memory-bytes 2MB", "--memory-bytes must be a whole number"),
        ("--compute 0", "compute must be a number > 0"),
        ("--task-known --no-boundaries", "so are the boundaries"),
        ("--top 0", "--top must be >= 1"),
        ("--storage nothing", "no flag --storage (did you mean '--store'?)"),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], line: str, complaint: str) -> None:
    assert main(["advise", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("retain: error: ") and complaint in err and err.count("\n") == 1
