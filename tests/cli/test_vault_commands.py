"""The practitioner's story from a shell: real processes, real files, exit codes.

Mistakes and help, of which there are many, are told by `main` in this process: each start of Python costs seconds.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from retain.cli.main import main
from retain.cli.vault.learn import ways_on
from retain.streams.sources import load
from retain.vault import Plan

INIT = ("--model", "mlp:64", "--memory-bytes", "80KB", "--epochs", "3", "--batch-size", "32", "--guard", "100",
        "--margin", "15", "--new-margin", "40")  # fmt: skip


def retain(*args: object, code: int = 0) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "retain", *map(str, args)], capture_output=True, text=True, env=env
    )
    assert done.returncode == code, done.stderr
    if code not in (0, 3, 4):
        assert done.stderr.count("\n") <= 2 and "Traceback" not in done.stderr, done.stderr
        return done.stderr
    return done.stdout


def folder(path: Path, classes: tuple[int, ...], n: int, start: int = 0, name: str = "") -> Path:
    """Digits as a folder of images with a subfolder a class; with `name` all of them in that one."""
    x, y = load("mnist", "train")
    for c in classes:
        home = path / (name or str(c))
        home.mkdir(parents=True, exist_ok=True)
        for i in (y == c).nonzero()[start : start + n, 0].tolist():
            Image.fromarray(x[i, 0].numpy()).save(home / f"{i}.png")
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault after two updates."""
    home = tmp_path_factory.mktemp("shop")
    retain("init", home / "v", *INIT)
    for k, classes in enumerate(((0, 1), (2, 3))):
        folder(home / f"u{k}", classes, 250)
        said = json.loads(retain("learn", home / "v", home / f"u{k}"))
        assert said["promoted"] and said["version"] == k + 1
    return home


def test_predict_and_evaluate(shop: Path) -> None:
    test = folder(shop / "test", (0, 1, 2, 3), 50, 2000)
    scores = json.loads(retain("evaluate", shop / "v", test))
    assert min(scores.values()) > 0.85
    assert list(json.loads(retain("evaluate", shop / "v"))) == ["update-1", "update-2"]
    retain("predict", shop / "v", test, "--out", shop / "said.csv")
    rows = list(csv.DictReader((shop / "said.csv").read_text().splitlines()))
    assert len(rows) == 200
    right = [Path(r["example"]).parent.name == r["class"] for r in rows]
    assert sum(right) > 170 and all(0 <= float(r["probability"]) <= 1 for r in rows)
    assert retain("predict", shop / "v", test) == (shop / "said.csv").read_text()


def test_a_label_shuffled_update_is_refused_with_exit_code_3(shop: Path) -> None:
    test = folder(shop / "again", (0, 1, 2, 3), 30, 3000)
    before = retain("predict", shop / "v", test)
    for c in range(4):
        folder(shop / "bad", (c,), 250, 600, name=str((c + 1) % 4))
    said = json.loads(retain("learn", shop / "v", shop / "bad", "--name", "bad", code=3))
    assert not said["promoted"] and said["reason"].startswith("refused: ")
    assert retain("predict", shop / "v", test) == before
    events = json.loads(retain("history", shop / "v"))
    assert [e["event"] for e in events][-1] == "learn" and events[-1]["promoted"] is False
    apart = json.loads(retain("diff", shop / "v", 2, said["version"]))
    assert "update-1" in json.dumps(apart)
    assert json.loads(retain("verify", shop / "v")) == []
    assert (shop / "v" / "versions" / f"{said['version']:06}" / "report.html").stat().st_size < 1_000_000


def test_watch_says_by_its_exit_code_whether_something_changed(shop: Path) -> None:
    same = folder(shop / "same", (0, 1, 2, 3), 60, 4000)
    assert json.loads(retain("watch", shop / "v", same))["drifted"] is False
    x, y = load("mnist", "train")
    for c in range(4):
        (shop / "inverted" / str(c)).mkdir(parents=True)
        for i in (y == c).nonzero()[4000:4060, 0].tolist():
            Image.fromarray(255 - x[i, 0].numpy()).save(shop / "inverted" / str(c) / f"{i}.png")
    assert json.loads(retain("watch", shop / "v", shop / "inverted", code=4))["drifted"] is True


def test_export(shop: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    said = json.loads(retain("export", shop / "v", shop / "v.onnx"))
    assert said["difference"] <= 1e-5 and said["examples"] >= 1000
    x, y = load("mnist", "test")
    rows = (y < 4).nonzero()[:100, 0]
    session = onnxruntime.InferenceSession(str(shop / "v.onnx"))
    label = session.run(["label"], {"x": x[rows].numpy()})[0]
    assert (torch.from_numpy(label) == y[rows]).float().mean() > 0.85
    retain("export", shop / "v", shop / "v.pt2")
    assert "name a file that ends in" in retain("export", shop / "v", shop / "v.bin", code=2)


def test_promote_rollback_forget(shop: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(shop / "v", tmp_path / "v")
    assert json.loads(retain("rollback", tmp_path / "v"))["served"] == 1
    assert json.loads(retain("promote", tmp_path / "v", "2", "--why", "better"))["served"] == 2
    record = json.loads(retain("forget", tmp_path / "v", "--class", "3"))
    assert record["event"] == "forget" and record["removed"]
    rows = retain("predict", tmp_path / "v", folder(tmp_path / "three", (3,), 20))
    assert all(row.split(",")[1] != "3" for row in rows.splitlines()[1:])


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("learn", "V"), "DATA is missing"),
        (("learn", "V", "nowhere"), "nowhere is not there"),
        (("learn", "nothing", "V"), "no vault at nothing"),
        (("learn", "V", "V", "V"), "what is"),
        (("init", "V"), "is a vault already"),
        (("init", "W", "--method", "ewcc"), "did you mean 'ewc'"),
        (("init", "W", "--method", "joint"), "trains on the data of all"),
        (("init", "W", "--model", "tree"), "a model is"),
        (("init", "W", "--epochs", "0"), "epochs must be >= 1"),
        (("promote", "V", "x"), "a version is a number"),
        (("promote", "V", "99"), "there is no version 99"),
        (("forget", "V"), "name one of --class"),
        (("forget", "V", "--class", "zebra"), "no class is called 'zebra'"),
        (("history", "V", "--all"), "takes no flags"),
        (("predict", "V", "DATA", "--task", "x"), "does not know the task"),
    ],
)
def test_mistakes_are_told_in_one_line(
    shop: Path, args: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"V": str(shop / "v"), "W": str(tmp_path / "w"), "DATA": str(shop / "u0")}
    assert main([names.get(a, a) for a in args]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") <= 2


def test_a_csv_month_after_month(tmp_path: Path) -> None:
    """Words, numbers and gaps; a new class and a new category come later."""
    rng = torch.Generator().manual_seed(0)
    kinds = {"ash": (2.0, "sand"), "oak": (6.0, "clay"), "elm": (10.0, "silt")}
    for month, names in enumerate((("ash", "oak"), ("oak", "elm"))):
        rows = []
        for i in range(600):
            name = names[i % 2]
            height, soil = kinds[name]
            h = height + torch.randn(1, generator=rng).item()
            rows.append(f"{'' if i % 50 == 7 else f'{h:.3f}'},{soil},{name}")
        (tmp_path / f"{month}.csv").write_text("\n".join(["height,soil,species", *rows]))
    retain("init", tmp_path / "trees", "--label", "species", "--epochs", "20", "--batch-size", "32")
    assert json.loads(retain("learn", tmp_path / "trees", tmp_path / "0.csv"))["promoted"]
    said = json.loads(retain("learn", tmp_path / "trees", tmp_path / "1.csv"))
    assert said["promoted"], said["reason"]
    assert said["data"]["new_classes"] == ["elm"]
    assert any("silt" in note for note in said["data"]["notes"])
    scores = json.loads(retain("evaluate", tmp_path / "trees"))
    assert min(scores.values()) > 0.9
    (tmp_path / "bad.csv").write_text("height,species\n1.0,ash\n")
    assert "soil" in retain("learn", tmp_path / "trees", tmp_path / "bad.csv", code=2)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("init", "learn", "watch", "evaluate", "predict", "history", "diff", "promote", "rollback",
                 "forget", "export", "verify"):  # fmt: skip
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: retain {name} ") and f"\n  retain {name} " in text


def test_a_package_that_is_not_installed_is_told_in_one_line(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert main(["learn", str(shop / "v"), str(shop / "a.parquet")]) == 2
    said = capsys.readouterr().err
    assert said == "retain: error: Parquet files need pyarrow, which is not installed: pip install pyarrow\n"


def test_where_the_gate_refuses_there_are_ways_on() -> None:
    record = {
        "version": 3, "data": {"trained_on": 320}, "cost": {"epochs": 5}, "method": {"name": "replay"}
    }  # fmt: skip
    promote, few = ways_on("my shop", record, Plan(batch_size=128))
    assert "retain promote 'my shop' 3;" in promote
    assert few.startswith("training took 15 steps alone") and "--epochs 20" in few
    assert ways_on("my shop", record, Plan(batch_size=32)) == [promote]  # 50 steps
    assert ways_on("my shop", record, Plan()) == [promote]
    closed = {**record, "cost": {"epochs": 1}, "method": {"name": "ranpac"}}
    assert ways_on("my shop", closed, Plan()) == [promote]
