"""`retain tune` end to end, stopped and resumed, and its wrong use."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from tests.cli.process import ENV, RETAIN

from retain.cli import tune
from retain.cli.main import main
from retain.experiment import Settings
from retain.methods import discover

pytest.importorskip("optuna")

SMALL = "--samples 100 --test-samples 50 --hidden 10 --tasks 3 --validation 50 --batch-size 20"
LINE = f"tune permuted ewc --tune lam=1:100:log --tune=lr=0.05,0.1,0.2 --first-tasks 2 --trials 3 {SMALL}"


def test_from_trials_to_a_report(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "t"
    assert main([*LINE.split(), "--out", str(out)]) == 0
    told, err = capfd.readouterr()
    assert told == (out / "frozen.toml").read_text()
    assert err.count("done in ") == 3 and "trial 3 of 3 (lam = " in err and "% on validation" in err
    frozen = tomllib.loads(told)
    assert 1 <= frozen["method"]["lam"] <= 100 and frozen.get("lr", 0.1) in (0.05, 0.1, 0.2)
    assert frozen["tasks"] == 3 and "seed" not in frozen
    assert max(map(len, tune.HELP.splitlines())) <= 100
    assert main(["run", str(out / "frozen.toml"), "--quiet"]) == 0
    alone = json.loads(capfd.readouterr().out)
    assert main([*LINE.split(), "--out", str(out)]) == 2
    assert "already holds trials: --resume" in capfd.readouterr().err
    again = [
        *LINE.split(),
        "--out",
        str(out),
        "--resume",
        "--report",
        "--seeds",
        "2",
        "--workers",
        "1",
        "--quiet",
    ]
    assert main(again) == 0
    told, err = capfd.readouterr()
    *runs, last = map(json.loads, told.splitlines())
    assert err == "" and [r["seed"] for r in runs] == [0, 1] and runs[0]["final"] == alone["final"]
    assert last["after_task"] == 2 and last["mean"] == pytest.approx(
        100 * sum(r["final"][2] for r in runs) / 2
    )
    assert "EWC" in (out / "report" / "report.html").read_text()
    file = [*f"tune {out}/frozen.toml --tune lam=1:9 --first-tasks 2 --trials 1 --quiet".split(), "--out"]
    assert main([*file, str(tmp_path / "f")]) == 0
    assert tomllib.loads(capfd.readouterr().out)["samples"] == 100


def test_what_counts_is_said_in_a_sentence(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (
        f"tune permuted ewc --tune lam=1,2 --trials 9 --first-tasks 2 {SMALL} --report --seeds 2 --workers 1"
    )
    assert main([*line.split(), "--out", str(tmp_path)]) == 0
    out, err = capfd.readouterr()
    last = json.loads(out.splitlines()[-1])
    said = f"EWC on task 3, which no trial has seen: {last['mean']:.1f} %, 95% interval "
    assert f"retain: {said}" in err and f"retain: the report is {tmp_path}/report/report.html" in err
    assert "retain: every combination is tried once: 2 trials" in err and "trial 2 of 2 (lam = 2)" in err
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main([*line.split(), "--out", str(tmp_path), "--resume", "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert said in out and "{" not in out and err == ""


def test_when_every_trial_fails_the_last_reason_is_said(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = f"tune permuted ewc --tune lam=1e9:1e10 --trials 2 --first-tasks 2 {SMALL} --quiet"
    assert main([*line.split(), "--out", str(tmp_path)]) == 1
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("retain: error: no trial has learned anything: widen the ranges")
    assert "; the last that failed: the loss would become infinite at task 2" in err


def test_ctrl_c_keeps_the_trials(tmp_path: Path) -> None:
    args = [*LINE.replace("--trials 3", "--trials 400").split(), "--out", str(tmp_path)]
    with subprocess.Popen(
        [*RETAIN, *args], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        while "done in" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    assert err.splitlines()[-1].strip() == f"retain {' '.join(args)} --resume"
    assert not (tmp_path / "frozen.toml").exists()
    assert main([*LINE.split(), "--out", str(tmp_path), "--resume", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "name a stream and a method first"),
        ("permuted", "name a method after the stream"),
        ("permuted ewc gem --tune lam=1:2", "what is 'gem' for?"),
        ("permuted ewc", "say what to tune, such as --tune lam=1:1000:log"),
        ("permuted ewc --tune", "--tune needs a value"),
        ("permuted ewc --tune lam", "must be NAME=LOW:HIGH"),
        ("permuted ewc --tune =1:2", "must be NAME=LOW:HIGH"),
        ("permuted ewc --tune margin=1:2", "EWC has no hyper-parameter 'margin'; it has lam, labels"),
        ("permuted ewc --tune lamda=1:2", "no hyper-parameter 'lamda' (did you mean 'lam'?); it has lam"),
        (
            "permuted naive --tune lam=1:2",
            "Naive has no hyper-parameter 'lam'; it has none; of the settings lr",
        ),
        ("permuted ewc --tune lam=1", "one value leaves nothing to choose: give it as --lam 1"),
        ("permuted ewc --tune online=false", "give it as --no-online"),
        ("permuted ewc --tune lam=1,1", "--tune lam: give two or more choices, each once"),
        ("permuted ewc --tune lam=1:2 --tune lam=1:3", "lam is named twice"),
        ("permuted ewc --tune lr=0.1:0.1", "--tune lr: the range is empty: LOW must be below HIGH"),
        ("permuted ewc --tune lam=1:2:lin", "a range is of numbers"),
        ("permuted ewc --tune labels=a:b", "a range is of numbers"),
        (
            "permuted ewc --tune labels=exact,tru",
            "--tune labels must be one of exact, sampled, true",
        ),
        ("permuted ewc --tune online=yes", "--tune online must be true or false"),
        ("permuted ewc --tune lam=much:2", "--tune lam must be a number, got 'much'"),
        ("permuted ewc --tune lam=5:2", "LOW must be below HIGH, got 5.0 and 2.0"),
        ("permuted ewc --tune lam=0:2:log", "begins above 0"),
        ("permuted ewc --tune samples=10:20", "samples cannot be tuned"),
        ("permuted ewc --tune lam=1:2 --first-tasks 10", "first_tasks must be below 10"),
        ("permuted ewc --tune lam=1:2 --trials 0", "trials and first_tasks must be >= 1"),
        (
            "permuted ewc --tune lam=1:2 --seeds 3,1000",
            "--tune-seed 1000 is one of the seeds that are reported",
        ),
        ("permuted ewc --tune lam=1:2 --seed 3", "no flag --seed"),
        ("noisy-clean ewc --tune lam=1:2", "noisy-clean has no first tasks"),
        ("permuted ewc --tune lam=1:2 --resume --force", "give one of them"),
    ],
)
def test_wrong_use(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *line.split()]) == 2
    out, err = capfd.readouterr()
    assert (
        out == "" and complaint in err.splitlines()[-1] and err.splitlines()[-1].startswith("retain: error: ")
    )


def test_without_optuna_it_says_what_to_install(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main([*LINE.split(), "--out", str(tmp_path)]) == 2
    assert "pip install optuna" in capfd.readouterr().err


@pytest.mark.parametrize("name", discover())
def test_no_flag_means_two_things(name: str) -> None:
    ours = {f.name for kind in (tune.Options, Settings) for f in fields(kind)}
    assert len(ours) == len(fields(tune.Options)) + len(fields(Settings))
    kind: Any = discover()[name]
    assert not {f.name for f in fields(kind)} & {f.name for f in fields(tune.Options)}
