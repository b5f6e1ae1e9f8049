"""kill -9 at random moments, then resume: the same bits (benchmarks/kill.py does many more)."""

from __future__ import annotations

import importlib
import random
import zlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


# One of each kind; every method is stopped and crashed within one process in test_runs.py.
KINDS = ["naive", "ewc", "gem", "generative-replay", "replay"]


@pytest.mark.parametrize("method", KINDS)
def test_two_kills(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)  # child processes import it by name
    kill = importlib.import_module("kill")
    rng = random.Random(zlib.crc32(method.encode()))
    assert kill.try_method(method, 2, rng, tmp_path) == []
