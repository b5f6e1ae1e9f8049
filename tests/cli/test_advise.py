"""`retain advise` as a newcomer meets it."""

from __future__ import annotations

import pytest

from retain.cli.main import main
from retain.methods import discover


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
    first = out.splitlines()[2]
    assert first.startswith(" 1. ") and ("%" in first or "not reproduced here" in first)
    out = said(capsys, "--no-new-classes --no-boundaries --memory-bytes 500000")
    assert "scenario domain" in out and "158 MNIST images fit" in " ".join(out.split())


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
