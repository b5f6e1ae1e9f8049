"""An accuracy matrix measured in part: its cells are those of the whole one, and nobody guesses the others."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.laws.toy import ORDER, N, differing, images, kept, learner, load_result, without_seconds
from tests.unit.report_examples import example

from retain import (
    EWC,
    GEM,
    GenerativeReplay,
    Interrupted,
    Naive,
    Progress,
    Replay,
    Stream,
    checkpoint,
    metrics,
    run,
)
from retain.experiment import Experiment, Settings
from retain.learner import Learner
from retain.record import Cells, Evaluator
from retain.report import curves, figures, sentence, summarise, write_pngs, write_report
from retain.report.lines import group
from retain.report.text import matrix
from retain.report.words import caveats
from retain.result import Result
from retain.sitting import CHECKPOINT

T = 7
SPECS = ["current", "sample:2", "current,sample:2", "sample:2,current", "current,sample:100"]
STEPS = ORDER.steps(N)


@cache
def long_stream() -> Stream:
    """Seven tasks of permuted pixels."""
    arrays = []
    for t in range(T):
        order = torch.randperm(64, generator=torch.Generator().manual_seed(t))
        arrays.append((*images([0, 1, 2, 3], N, 2 * t, order), *images([0, 1, 2, 3], 40, 2 * t + 1, order)))
    return Stream.from_arrays(arrays)


def go(evaluate: str, method: Any = None, seed: int = 0, **more: Any) -> tuple[Learner, Result]:
    one = learner(method or Naive(), seed=seed)
    return one, run(long_stream(), one, ORDER, evaluate=evaluate, **more)


@cache
def whole() -> Result:
    return go("all")[1]


def measured(r: Result) -> list[list[int]]:
    """The columns of each row that hold a number."""
    return [[j for j, v in enumerate(row) if not math.isnan(v)] for row in r.accuracy]


@given(st.sampled_from(SPECS), st.integers(1, 40), st.integers(0, 5))
def test_which_cells_are_measured(evaluate: str, tasks: int, seed: int) -> None:
    cells = Cells.of(evaluate)
    for i in range(tasks + 1):
        row = cells.row(i, tasks, seed)
        assert row == sorted(set(row)) and row == cells.row(i, tasks, seed)
        if i in (0, tasks):
            assert row == list(range(tasks))
            continue
        if cells.current:
            assert row[-2:] == [i - 1, i]
            row = row[:-2]
        past = i - 1 if cells.current else i
        assert set(row) <= set(range(past)) and len(row) == min(cells.sample, past)


def test_a_smaller_sample_lies_in_a_larger_one_and_seeds_differ() -> None:
    few, many = Cells.of("sample:3"), Cells.of("sample:9")
    assert all(set(few.row(i, 50, 1)) <= set(many.row(i, 50, 1)) for i in range(51))
    assert [few.row(i, 50, 0) for i in range(51)] != [few.row(i, 50, 1) for i in range(51)]
    drawn = [j for seed in range(400) for j in Cells.of("current,sample:5").row(20, 50, seed)[:-2]]
    assert (
        np.bincount(drawn, minlength=19).min() > 60
    )  # of 105 expected, sd 9: nothing of the past is left out


@pytest.mark.parametrize("evaluate", SPECS)
@pytest.mark.parametrize("method", [Naive(), EWC(lam=10), Replay(memory=20), GEM(memory_per_task=10)])
def test_measured_cells_are_those_of_the_whole_run_and_the_same_is_learned(
    evaluate: str, method: Any
) -> None:
    (one, full), (other, part) = go("all", method), go(evaluate, method)
    assert differing(kept(one), kept(other)) == []
    R, P = np.array(full.accuracy), np.array(part.accuracy)
    seen = ~np.isnan(P)
    assert (R[seen] == P[seen]).all() and seen.sum() < P.size
    assert measured(part) == [Cells.of(evaluate).row(i, T, 0) for i in range(T + 1)]
    assert part.curve.step == [] and part.curve.task == [] and part.boundaries == full.boundaries
    assert part.acc == full.acc


def test_with_current_the_measures_are_exact_and_those_that_need_more_are_none() -> None:
    full, part = whole(), go("current")[1]
    for name in ("acc", "bwt", "fwt", "learning_accuracy"):
        assert getattr(part, name) == getattr(full, name) and getattr(full, name) is not None
    assert part.forgetting is None and part.average_incremental_accuracy is None
    assert metrics.bwt_all_pairs(part.accuracy) is None
    assert metrics.bwt_gem_released_code(part.accuracy) == metrics.bwt_gem_released_code(full.accuracy)
    assert metrics.intransigence(part.accuracy, full.accuracy) == 0
    drawn = go("sample:2")[1]
    assert drawn.acc == full.acc and drawn.bwt is None and drawn.learning_accuracy is None
    everything = go("current,sample:100")[1]  # all of the past: only what is to come is left out
    assert everything.forgetting == full.forgetting
    assert everything.average_incremental_accuracy == full.average_incremental_accuracy
    assert math.isnan(everything.accuracy[1][3])


def test_two_tasks_are_measured_whole() -> None:
    one, other = (run(long_stream()[:2], learner(Naive()), ORDER, evaluate=e) for e in ("all", "current"))
    assert one.accuracy == other.accuracy and one.forgetting == other.forgetting


@given(st.data())
def test_a_measure_is_none_exactly_where_a_cell_that_it_needs_is_missing(data: st.DataObject) -> None:
    tasks = data.draw(st.integers(2, 4))
    R = np.random.default_rng(0).random((tasks + 1, tasks))
    i, j = data.draw(st.integers(0, tasks - 1)), data.draw(st.integers(0, tasks - 1))
    P = R.copy()
    P[i, j] = math.nan
    needs = {
        metrics.bwt: i == j + 1 < tasks,
        metrics.fwt: j > 0 and i in (0, j),
        metrics.bwt_all_pairs: i > j,
        metrics.forgetting_max: i > j,
        metrics.learning_accuracy: i == j + 1,
        metrics.average_incremental_accuracy: i > j,
    }
    for measure, needed in needs.items():
        found = measure(P.tolist())
        assert (found is None) == needed and found in (None, measure(R.tolist()))
    P[-1, 0] = math.nan
    with pytest.raises(ValueError, match="last row"):
        metrics.acc(P)


@pytest.mark.parametrize("at", [STEPS - 2, 2 * STEPS, 4 * STEPS + 3, T * STEPS])
def test_a_run_measured_in_part_can_be_taken_up_again(at: int, tmp_path: Path) -> None:
    undisturbed, full = go("current,sample:2", EWC(lam=10))
    number = 0

    def stop() -> bool:
        nonlocal number
        number += 1
        return number == at

    with pytest.raises(Interrupted):
        go("current,sample:2", EWC(lam=10), out=tmp_path, stop=stop)
    again, result = go("current,sample:2", EWC(lam=10), out=tmp_path, resume=True)
    assert differing(kept(undisturbed), kept(again)) == []
    assert without_seconds(result) == without_seconds(full) == without_seconds(load_result(tmp_path))


@pytest.mark.parametrize("config", [None, {"mine": 1}])
@pytest.mark.parametrize(("was", "now"), [("current", "all"), ("all", "current"), ("current", "sample:2")])
def test_it_is_not_taken_up_with_other_cells(was: str, now: str, config: Any, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        go(was, out=tmp_path, stop=lambda: True, config=config)
    with pytest.raises(ValueError, match="evaluate"):
        go(now, out=tmp_path, resume=True, config=config)


def test_with_all_the_files_say_nothing_of_it(tmp_path: Path) -> None:
    e = Experiment("permuted", Naive(), Settings(tasks=2, samples=20, test_samples=10, hidden=(5,)))
    assert "evaluate" not in e.config() and Experiment.from_config(e.config()) == e
    part = replace(e, settings=replace(e.settings, evaluate="current"))
    assert part.config()["evaluate"] == "current" and Experiment.from_config(part.config()) == part
    result = e.run(tmp_path)
    tree = checkpoint.load(tmp_path / CHECKPOINT)
    assert tree["record"]["accuracy"] == result.accuracy and tree["config"] == result.config == e.config()


def test_what_is_told_while_it_runs_is_what_was_measured_last() -> None:
    told: list[Progress] = []
    r = go("current,sample:2", progress=told.append)[1]
    for p in told:
        assert p.accuracy == [v for v in r.accuracy[p.task] if not math.isnan(v)]


def test_the_curve_needs_every_task_and_methods_show_themselves_at_the_ends() -> None:
    shows = GenerativeReplay(generator_hidden=(16,), latent=4)
    r = go("current", shows, curve_every=0)[1]
    assert [d["step"] for d in r.diagnostics["records"]] == r.boundaries
    with pytest.raises(ValueError, match=r"curve_every must be 0 or none where evaluate is current, got 3"):
        go("current", curve_every=3)
    with pytest.raises(ValueError, match=r"curve_every .* got 3"):
        Settings(evaluate="sample:4", curve_every=3)
    assert Evaluator(long_stream(), 10, Cells.of("current")).samples == []


@pytest.mark.parametrize(
    "wrong",
    ["", "none", "All", "all,current", "current,", "current,current", "sample", "sample:", "sample:0", "sample:-1",
     "sample:2.5", "sample:1_0", "sample:٣", "sample:2,sample:3", "sample:" + "9" * 5000, "current sample:2"],
)  # fmt: skip
def test_a_bad_choice_is_refused_with_the_rule_and_the_value(wrong: str) -> None:
    for ask in (lambda: Settings(evaluate=wrong), lambda: go(wrong)):
        with pytest.raises(ValueError, match=r"evaluate must be all, .*such as current,sample:20, got ") as e:
            ask()
        assert str(e.value).endswith(repr(wrong))


def test_the_file_holds_null_and_comes_back(tmp_path: Path) -> None:
    r = go("current", out=tmp_path)[1]
    text = json.loads((tmp_path / "result.json").read_text())
    assert text["accuracy"][1] == [*r.accuracy[1][:2], *[None] * (T - 2)]
    assert text["forgetting"] is None and text["config"]["evaluate"] == "current" and text["schema"] == 1
    back = Result.load(tmp_path / "result.json")
    assert back.to_json() == r.to_json() and np.array_equal(back.accuracy, r.accuracy, equal_nan=True)
    text["accuracy"][-1][0] = None
    with pytest.raises(ValueError, match="last row"):
        Result.from_json(text)


def lacking(r: Result, evaluate: str) -> Result:
    """The same, as it would be had it been measured in part."""
    cells = Cells.of(evaluate)
    R = [
        [v if j in cells.row(i, len(row), r.seed) else math.nan for j, v in enumerate(row)]
        for i, row in enumerate(r.accuracy)
    ]
    return replace(r, accuracy=R, curve=type(r.curve)(), config={**r.config, "evaluate": evaluate})


NAMES = tuple(f"t{j}" for j in range(9))


@pytest.mark.parametrize("names", [("A", "B", "C"), NAMES])
@pytest.mark.parametrize("evaluate", ["current", "sample:1", "current,sample:1"])
def test_reports_show_what_was_measured(evaluate: str, names: tuple[str, ...], tmp_path: Path) -> None:
    kinds = [(kind, seed) for kind in ("naive", "ewc", "joint") for seed in (0, 1)]
    results = [lacking(example(k, s, names), evaluate) for k, s in kinds]
    write_report(results, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    shown = page[: page.index("<footer>")]
    assert "Grey: not measured" in shown and figures.UNMEASURED in shown
    assert "nan" not in shown.replace("nans", "").lower().split() and "NaN" not in shown
    assert all(p.stat().st_size > 5000 for p in write_pngs(results, tmp_path))
    assert "nan" not in sentence(results)
    for row, whole_row in zip(
        summarise(results), summarise([example(k, s, names) for k, s in kinds]), strict=True
    ):
        assert row.acc == whole_row.acc
        if "current" in evaluate:
            assert (row.bwt, row.fwt) == (whole_row.bwt, whole_row.fwt)
            assert row.intransigence == whole_row.intransigence
    said = [s for s in caveats(results) if s.startswith("no ")]
    assert len(said) == 1 or (not said and len(names) == 3)
    assert curves.MEAN not in curves.panels(group(results)[0])


def test_the_heat_map_holds_the_measured_cells_alone_and_the_table_dashes() -> None:
    r = lacking(example("naive", 0, NAMES), "current")
    (g,), (full,) = group([r]), group([example("naive", 0, NAMES)])
    assert json.dumps(figures.matrix(g, g.lines[0])).count('"after": ') == 2 * 9 + 8 * 2
    assert sum(map(len, measured(r))) == 2 * 9 + 8 * 2
    assert figures.matrix(g, g.lines[0])["view"] == {"fill": figures.UNMEASURED}
    assert "view" not in figures.matrix(full, full.lines[0])
    cells = matrix(r.tasks, np.array(r.accuracy)).rows
    assert [row[3] for row in cells][1:3] == ["–", f"{100 * r.accuracy[2][2]:.1f}"]


def test_a_measure_is_not_the_mean_over_those_seeds_that_happen_to_have_it() -> None:
    results = [example("ewc", 0, NAMES), lacking(example("ewc", 1, NAMES), "current")]
    (row,) = summarise(results)  # one line: whatever is tested, the same is learned
    assert row.forgetting is None and row.bwt is not None and row.bwt.n == 2
    assert "no forgetting of EWC: that takes cells of the accuracy matrix that were not measured" in caveats(
        results
    )
    line = group(results)[0].lines[0]
    assert line.matrix[1, 5] == results[0].accuracy[1][5]
    assert line.matrix[1, 0] == (results[0].accuracy[1][0] + results[1].accuracy[1][0]) / 2
