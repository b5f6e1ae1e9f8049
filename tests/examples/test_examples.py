"""The examples run as they stand, and show what they say they show: less is forgotten with a method than without."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples"


def run(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, list[float]]:
    """What the example's main gives with --quick; checked against what it prints."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    example: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    found: dict[str, list[float]] = example.main(["--quick"])
    printed = {
        line.split(",")[0].strip(): line for line in capsys.readouterr().out.splitlines() if " mean " in line
    }
    assert list(printed) == list(found)
    for method, each in found.items():
        assert printed[method].endswith(f"mean {100 * sum(each) / len(each):.1f}")
    return found


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_a_loop_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    found = run("attach_own_loop", capsys)
    assert mean(found["EWC"]) > mean(found["plain"]) + 0.04
    assert mean(found["replay"]) > mean(found["plain"]) + 0.04


def test_a_loop_that_accelerate_runs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate")
    found = run("accelerate_loop", capsys)
    assert max(found["plain"][:-1]) < 0.1
    assert mean(found["replay"]) > mean(found["plain"]) + 0.25


def test_the_hugging_face_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    found = run("hf_trainer", capsys)
    assert max(found["plain"][:-1]) < 0.1
    assert mean(found["replay"]) > mean(found["plain"]) + 0.15
