"""`retain tour`: what it writes and says, what it refuses, and Ctrl-C."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.cli.process import gone, start
from tests.unit.lecture_examples import SMALL, lecture

from retain.cli import tour
from retain.cli.main import main
from retain.lecture import PARTS


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lecture with few samples; the seeds that were asked for."""
    seeds: list[int] = []

    def setting(seed: int) -> object:
        seeds.append(seed)
        return SMALL

    monkeypatch.setattr(tour, "Setting", setting)
    return seeds


def test_it_writes_the_pages_and_says_where_and_what_it_does(
    small: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["tour", str(tmp_path / "out"), "--lang", "zh,en", "--seed", "3"]) == 0
    said = capsys.readouterr()
    pages = [tmp_path / "out" / f"tour.{lang}.html" for lang in ("zh", "en")]
    assert said.out.splitlines() == [str(p) for p in pages] and all(p.is_file() for p in pages)
    lines = said.err.splitlines()
    assert len(lines) == len(PARTS) + 1 and lines[-1].endswith(" seconds in all.")
    for i, (part, line) in enumerate(zip(PARTS, lines[:-1], strict=True), 1):
        assert line.startswith(f"tour: {tour.SAYS[part]} [{i} of {len(PARTS)}, ")
    assert small == [3]
    assert "测试准确率" in (tmp_path / "out" / "pictures" / "orders.svg").read_text(encoding="utf-8")
    monkeypatch.setattr(tour, "compute", lambda setting, tell: lecture())
    assert main(["tour", str(tmp_path / "out"), "--lang", "en", "--quiet"]) == 0  # over what is there
    assert capsys.readouterr() == (f"{pages[1]}\n", "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a b", "name one folder, got a b"),
        ("--lang fr", "--lang must be some of en,zh, each once, got 'fr'"),
        ("--lang en,en", "--lang must be some of en,zh, each once, got 'en,en'"),
        ("--seed x", "--seed must be a whole number, got 'x'"),
        ("/dev/null/x", "cannot write to /dev/null/x: Not a directory"),
        ("--sede 1", "did you mean '--seed'?"),
    ],
)
def test_wrong_use_is_said_before_anything_runs(
    line: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tour, "compute")
    assert main(["tour", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tour", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(flag in said for flag in ("--lang", "--seed", "--no-open", "--quiet", "retain tour [DIR]"))


def test_ctrl_c_leaves_no_page_and_no_traceback(tmp_path: Path) -> None:
    process = start(["tour", str(tmp_path / "out")])
    assert process.stderr is not None
    assert process.stderr.readline().startswith("tour: ")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.splitlines()[-1]) == (130, "", "retain: stopped")
    assert "Traceback" not in err and gone(process.pid)
    assert not list(tmp_path.rglob("*.html"))
