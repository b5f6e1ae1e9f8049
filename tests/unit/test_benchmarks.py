"""The arithmetic of the measuring scripts; nothing here is timed."""

from __future__ import annotations

import importlib
import json
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from retain import EWC, GEM, Learner, Naive, Optim
from retain.experiment import Settings
from retain.streams.sources import read_idx

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import one of benchmarks/ by name, as it is imported when it is run."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def test_spread_and_its_text(script: Any) -> None:
    measure: ModuleType = script("measure")
    assert measure.Spread.of([3.0, 1.0, 2.0]).text() == "2.00 (1.00 - 3.00)"
    assert measure.Spread.of([0.5]).text(".0%") == "50%"
    assert measure.medians(1) == measure.medians(1, 1) == "One round"
    assert measure.medians(5) == "Median (least - greatest) of 5 rounds"
    assert measure.medians(4, 3, 4) == "Median (least - greatest) of 3 to 4 rounds"


def test_exponent_is_the_slope_of_the_logarithms(script: Any) -> None:
    measure = script("measure")
    x = [10, 30, 100, 300]
    assert measure.exponent(x, [5.0 * v**1.5 for v in x]) == pytest.approx(1.5)
    assert measure.exponent(x, [2.0] * 4) == pytest.approx(0)
    with pytest.raises(ValueError, match="above 0"):
        measure.exponent(x, [0.0, 1, 2, 3])


def test_rounds_alternate_and_turn_round(script: Any) -> None:
    calls: list[str] = []

    def call(name: str) -> int:
        calls.append(name)
        return len(calls)

    sides = {name: partial(call, name) for name in "ab"}
    found = script("measure").alternate(sides, 3, str)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1, 4, 5], "b": [2, 3, 6]}
    calls.clear()
    script("measure").alternate(sides, 2, str, done=3)
    assert calls == ["b", "a", "a", "b"]


def test_a_part_of_the_page_is_replaced_and_nothing_else(script: Any) -> None:
    measure = script("measure")
    page = "before\n<!-- limit -->\nold\n<!-- /limit -->\nafter"
    once = measure.replaced(page, "limit", "new")
    assert once == "before\n<!-- limit -->\n\nnew\n\n<!-- /limit -->\nafter"
    assert measure.replaced(once, "limit", "new") == once
    with pytest.raises(ValueError, match="no place for plain"):
        measure.replaced(page, "plain", "new")


@pytest.mark.parametrize(
    "name", ["limit", "plain", "peers", "growth", "store", "ewc", "gem", "stacked", "cores"]
)
def test_the_docs_have_a_place_for_each(script: Any, name: str) -> None:
    measure = script("measure")
    assert "\n\nnew\n\n" in measure.replaced(measure.PAGE.read_text(encoding="utf-8"), name, "new")


def test_counted_operations_are_those_of_the_formula(script: Any) -> None:
    """2 N (forward, weights' gradients) of every layer, and of the inputs' gradients from the second on."""
    settings = Settings(tasks=2, samples=20, test_samples=5, hidden=(7,), batch_size=10)
    first, second, steps, N = 784 * 7, 7 * 10, 2, 10
    step = 2 * N * (2 * first + 3 * second)
    naive = script("limit").count(Naive(), settings)
    assert naive["train"] == 2 * steps * step
    tests = 2 * 5 * 3  # two sets of 5, before and after the two tasks
    assert naive["evaluate"] == 2 * (first + second) * tests
    assert naive["consolidate"] == 0
    ewc = script("limit").count(EWC(), settings)
    assert ewc["train"] == naive["train"] and ewc["consolidate"] > 0
    assert script("limit").count(GEM(memory_per_task=5), settings)["train"] > naive["train"]


def test_the_step_by_hand_is_the_step_of_naive(script: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    x, y = torch.randn(8, 6, dtype=torch.float64), torch.randint(3, (8,))
    params = [p.detach().clone() for p in net.parameters()]
    script("limit").descend(params, x, y, lr=0.5)
    learner = Learner(net, Naive(), Optim(lr=0.5))
    learner.observe(x, y)
    for by_hand, theirs in zip(params, learner.params.values(), strict=True):
        torch.testing.assert_close(by_hand, theirs.detach(), rtol=1e-12, atol=1e-14)


def test_rounds_are_added_to_earlier_ones_of_the_same_machine(script: Any, tmp_path: Path) -> None:
    peers, measure = script("peers"), script("measure")
    runs = {
        m: {side: [peers.Run(1.0, 2.0, 0.5, 4.0, 100.0, 0.0, {})] for side in peers.SIDES}
        for m in ("ewc", "gem")
    }
    file = tmp_path / "peers.json"
    assert peers.before(file, ["gem"], "add", False) == {}
    whole = {"machine": measure.machine(), "options": {"quick": False}, "runs": runs}
    file.write_text(json.dumps(whole, default=measure.plain))
    assert peers.before(file, ["gem"], "drop", False) == {}
    assert peers.before(file, ["gem"], "keep", False) == {"ewc": runs["ewc"]}
    assert peers.before(file, ["gem"], "add", False) == runs
    with pytest.raises(ValueError, match="--quick False, this is True"):
        peers.before(file, ["gem"], "add", True)
    whole["machine"]["processor"] = "another"
    file.write_text(json.dumps(whole, default=measure.plain))
    with pytest.raises(ValueError, match="processor another"):
        peers.before(file, ["gem"], "add", False)
    whole["machine"] = measure.machine()
    del whole["runs"]
    file.write_text(json.dumps(whole, default=measure.plain))
    with pytest.raises(ValueError, match="medians and no runs"):
        peers.before(file, ["gem"], "add", False)


def test_idx_files_are_what_the_library_reads(script: Any, tmp_path: Path) -> None:
    images = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    (tmp_path / "images").write_bytes(script("peers").idx(images))
    assert torch.equal(read_idx(tmp_path / "images", 3), images)


def test_a_report_of_10_methods_5_seeds_and_20_tasks_stays_under_3_megabytes(
    script: Any, tmp_path: Path
) -> None:
    report = script("report")
    assert (len(report.METHODS), report.SEEDS, report.TASKS) == (10, 5, 20)
    page = report.build(tmp_path)
    assert len(list(tmp_path.rglob("result.json"))) == 50
    assert 900_000 < page.stat().st_size <= 3_000_000
