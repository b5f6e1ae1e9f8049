"""What arrives at a real TensorBoard and a real MLflow, read back by their own readers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.unit.report_examples import example

from retain import trackers
from retain.cli.main import main
from retain.report import summarise
from retain.result import Result

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the trackers' own packages
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture
def results() -> dict[str, Result]:
    return {f"{k}-0": example(k, points=5) for k in ("naive", "ewc")}


def curve(r: Result, task: int) -> list[tuple[int, float]]:
    return list(zip(r.curve.step, r.curve.task[task], strict=True))


def column(r: Result, task: int) -> list[tuple[int, float]]:
    return [(step, row[task]) for step, row in zip([0, *r.boundaries], r.accuracy, strict=True)]


def close(found: list[tuple[int, float]], want: list[tuple[int, float]]) -> bool:
    return [s for s, _ in found] == [s for s, _ in want] and all(
        math.isclose(a, b, abs_tol=1e-6) for (_, a), (_, b) in zip(found, want, strict=True)
    )


def test_tensorboard_holds_curves_matrix_and_table(results: dict[str, Result], tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trackers.send("tensorboard", results, tmp_path)
    for name, r in results.items():
        events = reader.EventAccumulator(str(tmp_path / "tensorboard" / name))
        events.Reload()
        for j, task in enumerate(r.tasks):
            for tag, want in ((f"accuracy/{task}", curve(r, j)), (f"matrix/{task}", column(r, j))):
                assert close([(e.step, e.value) for e in events.Scalars(tag)], want), tag
        assert events.Scalars("measure/ACC")[0].value == pytest.approx(r.acc)
        (image,) = events.Images("matrices/permuted")
        assert image.width > 100 and image.encoded_image_string.startswith(b"\x89PNG")
    whole = reader.EventAccumulator(str(tmp_path / "tensorboard" / "comparison"))
    whole.Reload()
    (event,) = whole.Tensors("table/permuted/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    for row in summarise(list(results.values())):
        assert f"| {row.method} | ACC | {row.acc.mean} |" in text


def test_mlflow_holds_curves_matrix_and_table(
    results: dict[str, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    trackers.send("mlflow", results, tmp_path)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == trackers.PROJECT]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {*results, "comparison"}
    for name, r in results.items():
        run = runs[name]
        assert run.data.params["method"] == r.method["name"] and run.data.params["seed"] == "0"
        assert run.data.metrics["measure/ACC"] == pytest.approx(r.acc)
        for j, task in enumerate(r.tasks):
            for tag, want in ((f"accuracy/{task}", curve(r, j)), (f"matrix/{task}", column(r, j))):
                found = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, tag)]
                assert close(sorted(found), want), tag
    (place,) = (tmp_path / "mlruns").rglob(f"{runs['comparison'].info.run_id}/artifacts/permuted")
    assert (place / "matrices.png").read_bytes().startswith(b"\x89PNG")
    assert "naive,ACC," in (place / "table.csv").read_text()


def test_wandb_holds_table_and_matrices_offline(
    results: dict[str, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    trackers.send("wandb", results, tmp_path)
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == len(results) + 1
    tables = [json.loads(p.read_text()) for p in tmp_path.rglob("*.table.json")]
    whole = max(tables, key=lambda t: len(t["data"]))  # the comparison's
    assert [row[:3] for row in whole["data"] if row[1] == "ACC"] == [
        [row.method, "ACC", pytest.approx(row.acc.mean)] for row in summarise(list(results.values()))
    ]
    images = list(tmp_path.rglob("media/images/matrices/*.png"))
    assert len(images) == len(results) + 1
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in images)


def test_a_run_and_a_comparison_are_tracked(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("tensorboard")
    tiny = ["--tasks", "2", "--samples", "100", "--test-samples", "50", "--hidden", "10"]
    tiny += ["--track", "tensorboard", "--quiet", "--out"]
    assert main(["run", "permuted", "naive", *tiny, str(tmp_path / "one")]) == 0
    assert list((tmp_path / "one" / "tensorboard" / "one").glob("events.*"))
    assert (
        main(["compare", "permuted", "--methods", "naive", "--seeds", "2", *tiny, str(tmp_path / "two")]) == 0
    )
    places = {p.parent.name for p in (tmp_path / "two" / "tensorboard").glob("*/events.*")}
    assert places == {"naive-0", "naive-1", "comparison"}


def test_what_is_missing_is_said_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(trackers.PACKAGE, "wandb", "no_such_package")
    out = tmp_path / "out"
    assert main(["run", "permuted", "naive", "--track", "wandb", "--out", str(out)]) == 2
    assert "pip install accelerate no_such_package" in capsys.readouterr().err
    assert main(["run", "permuted", "naive", "--track", "tensorboard"]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert not out.exists()
