"""Two gloo processes on the CPU do what one process does, to 1e-5, and agree on when to stop."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.distributed import together

from retain import checkpoint, tree
from retain.experiment import Experiment, load_config
from retain.parallel import World, launched
from retain.result import Result

pytest.importorskip("accelerate", reason="Accelerate is not installed: pip install accelerate")
pytestmark = pytest.mark.timeout(400)

SCRIPT = Path(together.__file__)
SOURCE = SCRIPT.parents[2] / "src"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
          "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", **more}


def start(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, args)], env=environment(), capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote."""
    out = tmp_path_factory.mktemp("two")
    done = start(*TORCHRUN, SCRIPT, out, "methods", "stopped", "own_loop", "attached", "refused")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this process writes alone."""
    out = tmp_path_factory.mktemp("one")
    together.methods(out)
    together.stopped(out)
    together.own_loop(out)
    together.attached(out)
    return out


def assert_equal(a: Path, b: Path) -> None:
    """Parameters, the method's state and optimisers to 1e-5, generators to the bit; the accuracies too."""
    this, that = (checkpoint.load(p / "checkpoint.safetensors") for p in (a, b))
    for key in ("rng", "torch_rng"):
        assert this["learner"].pop(key).equal(that["learner"].pop(key))
    pairs = zip(tree.tensors(this["learner"]), tree.tensors(that["learner"]), strict=True)
    assert len(list(tree.tensors(this["learner"]))) >= 4
    for x, y in pairs:
        assert x.shape == y.shape
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)
    for key in ("accuracy", "curve"):
        torch.testing.assert_close(
            torch.tensor(this["record"][key]), torch.tensor(that["record"][key]), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("name", together.METHODS)
def test_two_processes_do_what_one_does(one: Path, two: Path, name: str) -> None:
    assert_equal(one / name, two / name)
    assert len(Result.load(two / name / "result.json").accuracy) == 4


def test_gem_had_something_to_project(two: Path) -> None:
    records = Result.load(two / "gem" / "result.json").diagnostics["records"]
    assert max(r["violations"] for r in records) > 0.2


def test_an_own_loop_does_what_it_does_in_one_process(one: Path, two: Path) -> None:
    mine, theirs = (load_file(p / "own.safetensors") for p in (one, two))
    for k, p in mine.items():
        torch.testing.assert_close(p, theirs[k], rtol=1e-5, atol=1e-5)


def test_a_method_around_an_own_loop_does_what_it_does_in_one_process(one: Path, two: Path) -> None:
    mine, theirs = (checkpoint.load(p / "attached.safetensors") for p in (one, two))
    for found, expected in zip(tree.tensors(theirs["learner"]), tree.tensors(mine["learner"]), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_where_one_stops_all_do_and_one_process_goes_on(one: Path, two: Path) -> None:
    assert (two / "stopped-0").exists() and (two / "stopped-1").exists()
    assert checkpoint.load(two / "stopped" / "checkpoint.safetensors")["record"]["steps"] == together.STOP_AT
    Experiment("permuted", together.METHODS["er"], together.SMALL).run(two / "stopped", resume=True)
    assert_equal(one / "er", two / "stopped")


def test_accelerate_launch_goes_on_from_the_checkpoint_of_one_process(one: Path, tmp_path: Path) -> None:
    Experiment("permuted", together.METHODS["er"], together.SMALL).run(one / "config")
    out = one / "stopped"
    done = start(*LAUNCH, "-m", "retain", "run", one / "config" / "result.json", "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"final"') == 1  # process 0 alone prints
    assert done.stderr.count("saved") == 1
    assert_equal(one / "er", out)
    assert load_config(out / "result.json") == load_config(one / "er" / "result.json")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dropout", "draws at random in training"),
        ("batchnorm", "keeps running statistics"),
        ("mixing", "mixes the examples of a batch"),
        ("unlike", "parameters of the model differ between the 2 processes"),
        ("batches", "the batches differ between the 2 processes"),
    ],
)
def test_what_cannot_be_done_together_is_refused_by_each(two: Path, name: str, words: str) -> None:
    for rank in (0, 1):
        assert words in (two / f"{name}-{rank}.txt").read_text()


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


@pytest.mark.parametrize("how", ["ends", "hangs"])
def test_a_process_that_is_lost_leaves_none_waiting(tmp_path: Path, how: str) -> None:
    (out := tmp_path / how).mkdir()
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    both = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(out), "lost"],
            env=environment(**place, RANK=str(r), LOCAL_RANK=str(r), LOCAL_WORLD_SIZE="2"),
        )
        for r in (0, 1)
    ]
    try:
        assert both[0].wait(100) == 0
        assert "ended or does not answer" in (out / "lost.txt").read_text()
    finally:
        for p in both:
            p.kill()
            p.wait()


def test_ctrl_c_saves_and_stops_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = ["-m", "retain", "run", "permuted", "naive", "--tasks", "2", "--samples", "60000", "--batch-size", "2",
            "--hidden", "5", "--test-samples", "10", "--curve-every", "0", "--out", str(out)]  # fmt: skip
    p = subprocess.Popen(
        [sys.executable, *TORCHRUN, *args], env=environment(), text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert p.stderr is not None
        seen = ""
        while "begun" not in seen:
            seen += (line := p.stderr.readline())
            assert line, seen
        time.sleep(1)
        os.killpg(p.pid, 2)  # as a terminal does
        seen += p.communicate(timeout=60)[1]
    finally:
        p.kill()
        p.communicate()
    assert p.returncode != 0
    assert seen.count("go on with") == 1, seen
    assert checkpoint.load(out / "checkpoint.safetensors")["record"]["steps"] > 0


@pytest.fixture
def of_two(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    yield monkeypatch


def test_only_run_is_started_several_times(of_two: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from retain.cli import main

    assert main.main(["compare", "permuted"]) == 2
    assert "retain run alone" in capsys.readouterr().err


def test_a_world_without_a_rank_is_refused(of_two: Any) -> None:
    with pytest.raises(ValueError, match="RANK is not set"):
        launched()
    of_two.setenv("RANK", "1")
    assert launched() == World(1, 2)


def test_parts_tile_the_rows() -> None:
    for n in range(12):
        for size in range(1, 6):
            parts = [list(range(n))[World(r, size).rows(n)] for r in range(size)]
            assert [i for part in parts for i in part] == list(range(n))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
