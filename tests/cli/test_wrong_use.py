"""Wrong use: exit code 2, one line on stderr that names the fix, nothing on stdout, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from retain.cli import list as listing
from retain.cli.main import main

TINY = ["--samples", "200", "--test-samples", "100", "--hidden", "20", "--tasks", "2", "--batch-size", "50"]


def refused(capsys: pytest.CaptureFixture[str], *args: str | Path, code: int = 2) -> str:
    """The complaint, after checking its form."""
    assert main([str(a) for a in args]) == code
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert "Traceback" not in err
    assert lines[-1].startswith("retain: error: ")
    assert sum(line.startswith("retain: error: ") for line in lines) == 1
    return lines[-1]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("rum", "no command is called 'rum' (did you mean 'run'?)"),
        ("--verison", "did you mean '--version'?"),
        ("run", "name a stream and a method first"),
        ("run --seed 3 permuted ewc", "name a stream and a method first"),
        ("run permuted", "name a method after the stream"),
        ("run permutd ewc", "no stream is called 'permutd' (did you mean 'permuted'?)"),
        ("run permuted ewcc", "no method is called 'ewcc' (did you mean 'ewc'?)"),
        ("run permuted ewc gem", "what is 'gem' for?"),
        ("run permuted ewc --lamb 3", "no flag --lamb (did you mean '--lam'?)"),
        ("run permuted ewc --margin 3", "--margin is a flag of gem, which this run does not use"),
        ("run permuted ewc --lam", "--lam needs a value"),
        ("run permuted ewc --lam much", "--lam must be a number, got 'much'"),
        ("run permuted ewc --lam -1", "EWC.lam must be"),
        ("run permuted ewc --lam nan", "EWC.lam must be"),
        ("run permuted naive --lr 0", "lr must be a number > 0"),
        ("run permuted naive --epochs 2 --iterations 9", "give epochs or iterations, not both"),
        ("run permuted naive --tasks 0", "tasks must be"),
        ("run split naive --per-task 3", "per_task must divide"),
        ("run split replay --no-boundaries", "give --scenario domain or --scenario class"),
        ("run split naive --noise 0.5", "--noise 0.5 means nothing to the stream split"),
        ("run permuted naive --samples 10000000", "samples"),
        ("run permuted naive --folder /no/such/folder", "/no/such/folder"),
        ("run permuted naive --resume", "--resume needs the folder"),
        ("run permuted naive --checkpoint-seconds -1", "--checkpoint-seconds must be >= 0"),
        ("run permuted naive --samples 20 --drop-last", "20 examples fill no batch of 128"),
        ("run no/such.toml", "no/such.toml does not exist"),
        ("run /tmp", "/tmp is a folder"),
        ("compare", "name a stream or a file first"),
        ("compare split", "say which methods"),
        ("compare split naive", "what is 'naive' for?"),
        ("compare split --methods naive,emc", "no method is called 'emc'"),
        ("compare split --methods ewc,ewc", "names ewc twice"),
        ("compare split --methods ewc --seeds 0", "--seeds must be a number >= 1"),
        ("compare split --methods ewc --seeds 1,1", "--seeds must be a number >= 1"),
        ("compare split --methods ewc --seed 3", "no flag --seed (did you mean '--seeds'?)"),
        ("compare split --methods ewc --gem.margin 3", "no flag --gem.margin"),
        ("compare split --methods ewc --lam 3", "--lam is a flag of one method: --ewc.lam"),
        ("compare split --methods ewc --workers 0", "--workers must be >= 1"),
        ("compare split --methods ewc --stack maybe", "--stack"),
        (
            "compare split --methods ewc --stack on --resume --out x",
            "--resume goes on with every run separately",
        ),
        ("compare split --methods ewc --noise 0.3", "--noise 0.3 means nothing to the stream split"),
        ("compare split --methods ewc --resume", "--resume needs the folder"),
        ("demo now", "what is 'now' for?"),
        ("demo --seeds 0", "--seeds must be >= 1"),
        ("demo --out /dev/null/x", "cannot write to /dev/null/x: Not a directory"),
        ("report", "name a folder"),
        ("report /no/such/folder", "/no/such/folder is not a folder"),
        ("list method", "no list of 'method' (did you mean 'methods'?)"),
        ("list streams splt", "no stream is called 'splt' (did you mean 'split'?)"),
        ("run permuted EWC", "no method is called 'EWC' (did you mean 'ewc'?)"),
        ("list methods ewcc", "no method is called 'ewcc' (did you mean 'ewc'?)"),
    ],
)
def test_is_told_in_one_line(capsys: pytest.CaptureFixture[str], line: str, complaint: str) -> None:
    assert complaint in refused(capsys, *line.split())


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.toml", 'stream = "permuted', "a.toml: "),
        ("a.toml", b"\xff\xfe", "a.toml: "),
        ("a.toml", 'stream = "permuted"', "a method is missing"),
        ("a.toml", 'stream = "permutd"\nmethod = "ewc"', "no stream is called 'permutd'"),
        ("a.toml", 'stream = "permuted"\nmethod = "ewc"\nlamb = 3', "no setting 'lamb'"),
        ("a.toml", 'stream = "permuted"\nmethod = "ewc"\ntasks = "3"', "tasks must be"),
        ("a.toml", 'stream = "permuted"\n[method]\nlam = 1', 'lacks its name, such as name = "ewc"'),
        ("a.toml", 'stream = "permuted"\nepochs = "none"\nmethod = "ewc"', "epochs must be a whole number"),
        ("a.toml", 'stream = "permuted"\nmethod = {name = "ewc", lam = -1}', "EWC.lam must be"),
        ("result.json", "{", "result.json: "),
        ("result.json", "[]", "no configuration in it"),
        ("result.json", '{"config": 3}', "no configuration in it"),
        ("result.json", '{"config": {"stream": {"name": "arrays"}}}', "stream must be one of"),
    ],
)
def test_a_broken_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, text: str | bytes, complaint: str
) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert complaint in refused(capsys, "run", tmp_path / name)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('methods = ["naive"]', "stream must be one of"),
        ('stream = "split"\nmethods = "naive"', "methods must be a list"),
        (
            'stream = "split"\nmethod = {name = "ewc"}',
            "a file for retain run, since it has a method; one for",
        ),
        ('stream = "split"\nmethods = ["naive"]\nseed = 2', "seeds"),
        ('stream = "split"\nmethods = ["naive"]\n[ewc]\nlam = 2', "a table [ewc], but methods are naive"),
        ('stream = "split"\nmethods = ["ewc"]\n[ewc]\nlamb = 2', "EWC has no 'lamb'"),
        ('stream = "split"\nmethods = ["ewc"]\nlam = 2', "or [ewc] of a comparison"),
        ('stream = "split"\nmethods = ["ewc"]\nseeds = []', "--seeds must be"),
    ],
)
def test_a_broken_file_of_compare(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "c.toml").write_text(text)
    assert complaint in refused(capsys, "compare", tmp_path / "c.toml")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--methods naive,xdg --scenario class", "--methods xdg: XdG can be used in scenario task only"),
        (
            "--methods naive,ewc --scenario domain --no-boundaries",
            "--methods ewc: EWC must be told where tasks",
        ),
        ("--methods replay,naive --no-boundaries", "give --scenario domain or --scenario class"),
    ],
)
def test_a_comparison_that_one_method_cannot_join_does_not_begin(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: str, complaint: str
) -> None:
    out = tmp_path / "out"
    assert complaint in refused(capsys, "compare", "split", *flags.split(), *TINY, "--out", out)
    assert not out.exists()


def test_an_output_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, "run", "permuted", "naive", *TINY, "--out", "/dev/null/x")
    assert told == "retain: error: cannot write to /dev/null/x: Not a directory"
    told = refused(capsys, "compare", "permuted", "--methods", "naive", *TINY, "--out", "/dev/null/x")
    assert told == "retain: error: cannot write to /dev/null/x: Not a directory"


def test_a_report_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", "permuted", "naive", *TINY, "--out", str(tmp_path), "--quiet"]) == 0
    capsys.readouterr()
    assert "Not a directory" in refused(capsys, "report", tmp_path, "--out", "/dev/null/x/r.html")
    assert "is a folder" in refused(capsys, "report", tmp_path, "--out", tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "result.json").write_text("{}")
    assert str(tmp_path / "other" / "result.json") in refused(capsys, "report", tmp_path)


def test_a_result_is_never_overwritten_unasked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ["run", "permuted", "naive", *TINY, "--out", str(tmp_path)]
    assert main([*args, "--quiet"]) == 0
    capsys.readouterr()
    before = (tmp_path / "result.json").read_bytes()
    told = refused(capsys, *args, "--lr", "0.5")
    assert "already holds a result: --resume goes on with it, --force replaces it" in told
    assert "is of another run: lr = 0.1, now 0.5" in refused(capsys, *args, "--lr", "0.5", "--resume")
    assert "give one of them" in refused(capsys, *args, "--resume", "--force")
    assert (tmp_path / "result.json").read_bytes() == before
    assert main([*args, "--lr", "0.5", "--force"]) == 0
    assert json.loads((tmp_path / "result.json").read_text())["config"]["lr"] == 0.5


def test_two_runs_never_write_to_one_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"):
        told = refused(capsys, "run", "permuted", "naive", *TINY, "--out", tmp_path)
    assert f"another run is writing to {tmp_path}" in told


def test_a_run_that_diverges_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    line = "run permuted ewc --lam 1e9 --samples 1000 --test-samples 100 --tasks 2"
    told = refused(capsys, *line.split(), code=1)
    assert "at task 2, step" in told
    assert "--lam" in told


def test_a_fault_of_our_own_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(args: list[str]) -> int:
        raise TypeError("two\nlines")

    monkeypatch.setattr(listing, "command", broken)
    told = refused(capsys, "list", "methods", code=1)
    assert told == "retain: error: TypeError: two lines (a fault of retain; RETAIN_TRACEBACK=1 shows where)"
    monkeypatch.setenv("RETAIN_TRACEBACK", "1")
    with pytest.raises(TypeError):
        main(["list", "methods"])


def test_python_m_retain_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "retain", "rum"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no command is called 'rum' (did you mean 'run'?)" in done.stderr
