"""What each command gives, end to end. Few processes: each imports torch anew."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.process import ENV, RETAIN

from retain.cli import demo
from retain.cli.list import DATA
from retain.cli.main import COMMANDS, main
from retain.combine import describe
from retain.methods import discover
from retain.streams import BUILDERS
from retain.streams.sources import Data

TINY = ["--samples", "200", "--test-samples", "100", "--hidden", "20", "--tasks", "2", "--batch-size", "50"]


def ran(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[str, str]:
    """Stdout and stderr of a command that succeeds."""
    code = main([str(a) for a in args])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out, err


def same(a: Path, b: Path) -> None:
    """Two result.json hold the same, seconds apart."""
    one, two = json.loads(a.read_text()), json.loads(b.read_text())
    assert one.pop("seconds").keys() == two.pop("seconds").keys()
    assert one == two


def test_help_and_version_need_no_torch() -> None:
    code = (
        "import sys\nfrom retain.cli.main import main\n"
        "for args in (['--help'], [], ['--version'], ['rum']):\n    main(args)\n"
        "assert 'torch' not in sys.modules and 'tyro' not in sys.modules"
    )
    got = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=False)
    assert got.returncode == 0, got.stderr
    assert got.stdout.count("usage: retain COMMAND") == 2
    assert re.search(r"^retain(,| \d)", got.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_page(capsys: pytest.CaptureFixture[str], command: str) -> None:
    for flag in ("--help", "-h"):
        out, err = ran(capsys, command, flag)
        assert out.startswith(f"usage: retain {command}")
        assert err == ""


@pytest.mark.parametrize("method", discover())
def test_a_method_has_its_own_help_page(capsys: pytest.CaptureFixture[str], method: str) -> None:
    out, _ = ran(capsys, "run", "permuted", method, "--help")
    kind: Any = discover()[method]
    assert out.startswith(f"usage: retain run permuted {method} [flags]")
    assert kind.paper in out
    assert all(f"--{f.name.replace('_', '-')}" in out for f in dataclasses.fields(kind))


def test_lists_name_everything(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = ran(capsys, "list", "streams")
    assert [line for line in out.splitlines() if line and line[0] != " "] == list(BUILDERS)
    out, _ = ran(capsys, "list", "methods")
    assert [line.split()[0] for line in out.splitlines() if line and line[0] != " "] == [
        "method",
        *discover(),
    ]
    out, _ = ran(capsys, "list", "methods", "gem")
    assert "--memory-per-task" in out
    assert "arXiv:1706.08840" in out
    out, _ = ran(capsys, "list", "models")
    assert "--model cnn" in out
    out, _ = ran(capsys, "list", "data")
    assert all(f"--data {name}" in out for name in DATA)
    assert list(DATA) == list(Data.__args__)  # type: ignore[attr-defined]
    out, _ = ran(capsys, "list")
    assert "streams | methods | models | data" in out


def test_a_run_gives_a_line_of_json_and_saves_only_if_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, err = ran(capsys, "run", "permuted", "naive", *TINY)
    got = json.loads(out)
    assert (got["stream"], got["method"], got["seed"], got["tasks"]) == ("permuted", "naive", 0, ["A", "B"])
    assert got["acc"] == pytest.approx(sum(got["final"]) / 2)
    assert "nothing is saved" in err
    assert "naive on permuted: learned task 1 of 2: " in err
    assert "\x1b" not in out + err
    assert list(tmp_path.iterdir()) == []
    out, err = ran(capsys, "run", "permuted", "naive", *TINY, "--quiet")
    assert err == ""
    again = json.loads(out)
    assert {**again, "seconds": 0} == {**got, "seconds": 0}


def test_flags_file_and_result_say_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ran(capsys, "run", "split", "ewc", "--samples", "200", "--hidden", "20,10", "--lam", "3", "--tasks", "2",
        "--scenario", "domain", "--reset-optimizer", "--out", tmp_path / "flags")  # fmt: skip
    (tmp_path / "e.toml").write_text(
        'stream = "split"\nmethod = {name = "ewc", lam = 3}\nsamples = 200\nhidden = [20, 10]\ntasks = 2\n'
        'scenario = "domain"\nreset-optimizer = true\niterations = "none"\n'
    )
    ran(capsys, "run", tmp_path / "e.toml", "--out", tmp_path / "file")
    same(tmp_path / "flags" / "result.json", tmp_path / "file" / "result.json")
    ran(capsys, "run", tmp_path / "file" / "result.json", "--out", tmp_path / "again")
    same(tmp_path / "flags" / "result.json", tmp_path / "again" / "result.json")
    out, _ = ran(capsys, "run", tmp_path / "e.toml", "--seed", "5", "--keep-optimizer", "--quiet")
    assert json.loads(out)["seed"] == 5


def test_ctrl_c_saves_and_says_how_to_go_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = "run permuted ewc --samples 20000 --test-samples 100 --hidden 20 --tasks 2 --batch-size 4"
    args = line.split()
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    with subprocess.Popen(
        [*RETAIN, *args, "--out", str(stopped)],
        env=ENV,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline() + process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert "learned task 1 of 2" in first
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    resume = err.splitlines()[-1].strip()
    assert resume == f"retain {' '.join(args)} --out {stopped} --resume"
    assert not (stopped / "result.json").exists()
    ran(capsys, *resume.split()[1:])
    ran(capsys, *args, "--out", whole)
    same(stopped / "result.json", whole / "result.json")


def test_compare_names_the_failed_and_keeps_the_rest(tmp_path: Path) -> None:
    args = "compare permuted --methods naive,ewc --ewc.lam 1e9 --seeds 3,5 --iterations 9 --test-samples 100"
    args += f" --samples 1000 --tasks 2 --lr 0.1 --out {tmp_path}"
    plain = {**ENV, "PYTHONIOENCODING": "ascii"}  # which has no ±
    got = subprocess.run([*RETAIN, *args.split()], env=plain, capture_output=True, text=True, check=False)
    assert got.returncode == 1, got.stderr
    assert "Traceback" not in got.stderr
    assert [(r["method"], r["seed"]) for r in map(json.loads, got.stdout.splitlines())] == [
        ("naive", 3),
        ("naive", 5),
    ]
    failed = [line for line in got.stderr.splitlines() if line.startswith("retain: error: ")]
    assert [line.split()[2] for line in failed] == ["ewc-3", "ewc-5"]
    assert all("at task 2, step" in line for line in failed)
    assert "plain training has" in got.stderr
    assert (tmp_path / "naive-3" / "result.json").exists()
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_compare_from_a_file_resumes_and_refuses_other_settings(tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "c.toml").write_text(
        'stream = "split"\nmethods = ["ewc", "joint"]\nseeds = 1\nsamples = 100\ntest_samples = 50\n'
        "tasks = 2\nhidden = [10]\n[ewc]\nlam = 2\n"
    )
    args = ["compare", str(tmp_path / "c.toml"), "--workers", "1", "--out", str(tmp_path / "out")]
    assert main([*args, "--quiet"]) == 0
    first, err = capfd.readouterr()
    assert err == ""
    assert [json.loads(line)["method"] for line in first.splitlines()] == ["joint", "ewc"]
    config = json.loads((tmp_path / "out" / "ewc-0" / "result.json").read_text())["config"]
    assert (config["method"]["lam"], config["hidden"], config["seed"]) == (2.0, [10], 0)
    assert main(args) == 2
    assert "already holds a result" in capfd.readouterr().err
    assert main([*args, "--quiet", "--resume"]) == 0
    assert capfd.readouterr().out == first
    assert main([*args, "--quiet", "--resume", "--lr", "0.7"]) == 1
    assert "ewc-0 failed: " in (told := capfd.readouterr().err)
    assert "holds the result of another run: lr = 0.1, now 0.7" in told


def importances(told: dict[str, Any]) -> dict[tuple[int, str], float]:
    """By step and layer."""
    return {(r["step"], k): v for r in told.get("records", []) for k, v in r["importance"].items()}


def test_stacked_runs_leave_what_separate_ones_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    args = ["compare", "permuted", "--methods", "ewc,ncm", "--seeds", "3", "--workers", "1", *TINY]
    ran(capsys, *args, "--quiet", "--out", tmp_path / "apart")
    _, err = ran(capsys, *args, "--stack", "on", "--out", tmp_path / "stacked")
    assert caplog.messages == [
        "retain: note: ncm-0 to ncm-2 are run separately: NCM does not learn by gradient steps"
    ]
    assert all(f"{name}: learned task 1 of 2" in err for name in ("ewc-0", "ewc-2", "ncm-2"))
    names = [f"{m}-{seed}" for m in ("ewc", "ncm") for seed in range(3)]
    for name in names:
        both = [
            json.loads((tmp_path / side / name / "result.json").read_text()) for side in ("apart", "stacked")
        ]
        one, two = (importances(r.pop("diagnostics")) for r in both)
        assert all(r.pop("seconds") for r in both) and both[0] == both[1]
        assert one.keys() == two.keys() and len(one) == (4 if name.startswith("ewc") else 0)
        assert all(
            two[k] == pytest.approx(v, rel=1e-4) for k, v in one.items()
        )  # stacked products round otherwise
    assert sorted(f.name for f in (tmp_path / "stacked" / "ewc-1").iterdir()) == sorted(
        f.name for f in (tmp_path / "apart" / "ewc-1").iterdir()
    )


def test_the_demo_prints_tables_a_sentence_and_the_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [
        (stream, method, dataclasses.replace(settings, samples=100, test_samples=50, hidden=(10,)))
        for stream, method, settings in demo.RUNS
        if describe(method)["name"] in ("naive", "gem")
    ]
    monkeypatch.setattr(demo, "RUNS", few)
    (old := tmp_path / "permuted" / "gem-0" / "result.json").parent.mkdir(parents=True)
    old.write_text("of an earlier demo")
    out, err = ran(capsys, "demo", "--seeds", "1", "--out", tmp_path)
    assert out.index("permuted: accuracies") < out.index("noisy-clean: accuracies")
    assert out.count("naive  ") == 2
    assert "On permuted: After C, plain training has" in out
    assert f"The report: {tmp_path / 'report.html'}" in out
    assert "seconds in all." in out
    assert "permuted/gem-0: done in " in err
    out, _ = ran(capsys, "report", tmp_path, "--out", tmp_path / "r.html", "--png", tmp_path / "png")
    assert out.splitlines()[0] == str(tmp_path / "r.html")
    assert all(Path(p).stat().st_size > 1000 for p in out.splitlines())
    assert len(out.splitlines()) == 5
    before = sorted(tmp_path.rglob("*"))
    out, _ = ran(capsys, "report", tmp_path / "permuted", tmp_path / "noisy-clean", "--text")
    assert "naive · permuted" in out and "naive · noisy-clean" in out and "accuracy in %" in out
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written
    out, _ = ran(capsys, "report", tmp_path, "--export", tmp_path / "figures")
    assert {Path(p).suffix for p in out.splitlines()[1:]} == {".svg", ".png", ".csv"}


def test_the_demo_is_what_it_promises() -> None:
    runs = {(stream, describe(method)["name"]) for stream, method, _ in demo.RUNS}
    three = {"naive", "l2", "ewc", "gem", "generative-replay", "replay", "joint"}
    pair = {"naive", "ewc", "gem", "joint"}
    assert runs == {("permuted", m) for m in three} | {("noisy-clean", m) for m in pair}
    assert len(demo.experiments(2)) == 22
    assert demo.PERMUTED.samples is None
    assert demo.PERMUTED.tasks == 3


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    line = f"set -o pipefail; {' '.join(RETAIN)} list methods | head -1"
    got = subprocess.run(["bash", "-c", line], env=ENV, capture_output=True, text=True, check=False)
    assert (got.returncode, got.stdout, got.stderr) == (0, got.stdout, "")
    assert got.stdout.startswith("method ") and got.stdout.count("\n") == 1
