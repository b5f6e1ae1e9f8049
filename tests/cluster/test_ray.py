"""Runs on a Ray cluster of two nodes: the results of this machine, also when a worker is killed."""

from __future__ import annotations

import importlib
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.process import LONG as LONG_LINE
from tests.cli.process import check_ctrl_c

from retain.cli import main, many
from retain.cli.errors import WrongUse
from retain.cluster import connected, run_on_ray
from retain.compare import Failure, Job, jobs_of
from retain.experiment import Experiment, Settings
from retain.methods import discover
from retain.result import Result
from retain.run import Interrupted, Progress
from retain.streams import sources

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

STORE = 100 * 2**20
SHORT = Settings(tasks=2, samples=200, test_samples=100, hidden=(20,), curve_every=0)
LONG = replace(SHORT, samples=6000, batch_size=2)  # far longer than it takes to be killed


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each, and this process connected to them."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    node = {"num_cpus": 1, "object_store_memory": STORE}
    made = importlib.import_module("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args={**node, "include_dashboard": False}
    )
    made.add_node(**node)
    with connected(made.address):
        yield made
    made.shutdown()


def without_seconds(outcome: Result | Failure) -> dict[str, Any]:
    assert isinstance(outcome, Result), outcome
    return {k: v for k, v in outcome.to_json().items() if k != "seconds"}


def worker_of(cluster: Any, name: str) -> int:
    """The process that one of the cluster's nodes has given this run to."""
    nodes = {p[0].process.pid for n in cluster.list_all_nodes() if (p := n.all_processes.get("raylet"))}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = int(re.search(r"^PPid:\s*(\d+)", status.read_text(), re.M)[1])  # type: ignore[index]
            if parent in nodes and (status.parent / "cmdline").read_bytes().startswith(
                f"ray::{name}".encode()
            ):
                return int(status.parent.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    raise AssertionError(f"no worker runs {name}")


def test_twelve_runs_one_worker_killed(
    cluster: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    methods = [discover()[m]() for m in ("naive", "ewc", "replay")]
    made = [
        (f"{type(m).__name__}-{seed}", Experiment("permuted", m, replace(SHORT, seed=seed)))
        for m in methods
        for seed in range(4)
    ]
    victim = "EWC-1"
    made = [(n, replace(e, settings=replace(LONG, seed=1)) if n == victim else e) for n, e in made]
    killed: list[tuple[int, int]] = []
    ended: list[str] = []

    def watch(name: str, p: Progress) -> None:
        if name == victim and p.step > 1 and not killed:
            killed.append((p.task, p.step))
            os.kill(worker_of(cluster, name), signal.SIGKILL)

    there = run_on_ray(
        jobs_of(made, tmp_path / "there"), progress=watch, finished=lambda j, _: ended.append(j.name)
    )
    assert killed and f"{victim} was lost with its worker and began anew" in caplog.text
    assert sorted(ended) == sorted(name for name, _ in made)
    here = [e.run(tmp_path / "here" / name) for name, e in made]
    assert [without_seconds(o) for o in there] == [without_seconds(o) for o in here]
    for name, _ in made:
        saved = Result.load(tmp_path / "there" / name / "result.json")
        assert without_seconds(saved) == without_seconds(
            Result.load(tmp_path / "here" / name / "result.json")
        )
    assert not list(tmp_path.glob("there/**/*.part"))


def test_a_run_that_kills_its_workers_is_given_up(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retain.cluster.RETRIES", 1)
    made = [
        (n, Experiment("permuted", discover()["naive"](), s)) for n, s in (("bad", LONG), ("good", SHORT))
    ]
    kills = 0

    def watch(name: str, p: Progress) -> None:
        nonlocal kills
        if name == "bad" and p.step == 1:
            kills += 1
            os.kill(worker_of(cluster, name), signal.SIGKILL)

    bad, good = run_on_ray(jobs_of(made, tmp_path), progress=watch)
    assert isinstance(bad, Failure) and "died 2 times" in bad.reason
    assert kills == 2
    assert isinstance(good, Result)


def test_what_is_done_is_skipped_and_what_fails_is_told(cluster: Any, tmp_path: Path) -> None:
    e = Experiment("permuted", discover()["naive"](), SHORT)
    done = e.run(tmp_path / "done")
    before = (tmp_path / "done/result.json").stat().st_mtime_ns
    other = replace(e, settings=replace(SHORT, seed=1))
    bad = replace(e, settings=replace(SHORT, data="cifar10", folder=str(tmp_path / "none")))
    jobs = [
        Job("done", e, tmp_path / "done"),
        Job("other", other, tmp_path / "done"),
        Job("bad", bad, tmp_path / "b"),
    ]
    told: list[str] = []
    same, different, failed = run_on_ray(jobs, resume=True, progress=lambda name, _: told.append(name))
    assert same == done and told == []
    assert isinstance(different, Failure) and "another run" in different.reason
    assert isinstance(failed, Failure) and "cifar10" in failed.reason
    assert (tmp_path / "done/result.json").stat().st_mtime_ns == before


def test_what_was_stopped_goes_on_to_the_same_result(cluster: Any, tmp_path: Path) -> None:
    """From the checkpoints that Ctrl-C brought here; the third run had not begun."""
    made = [
        (f"r{i}", Experiment("permuted", discover()["replay"](), replace(LONG, seed=i))) for i in range(3)
    ]
    jobs, begun = jobs_of(made, tmp_path), set()

    def press(name: str, p: Progress) -> None:
        begun.add(name)
        if len(begun) == 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="every run has saved"):
        run_on_ray(jobs, progress=press)
    assert sorted(p.parent.name for p in tmp_path.glob("*/checkpoint.safetensors")) == ["r0", "r1"]
    first: dict[str, Progress] = {}
    found = run_on_ray(jobs, resume=True, progress=lambda name, p: first.setdefault(name, p) and None)
    assert first["r1"].step > 1 and (first["r2"].task, first["r2"].step) == (0, 1)
    assert without_seconds(found[1]) == without_seconds(made[1][1].run())
    assert all(isinstance(o, Result) for o in found)
    assert [p.name for p in (tmp_path / "r1").iterdir()] == ["result.json"]


def in_a_worker(data: Any, folder: str) -> tuple[str, str | None]:
    """The file in memory behind the images that a run has left there; for how many threads there is leave."""
    at = sources.load(data, "train", folder)[0].data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(end, 16) for end in line.split()[0].split("-"))
        if low <= at < high:
            return line, os.environ.get("OMP_NUM_THREADS")
    raise AssertionError("nowhere")


def test_data_come_with_the_run_and_lie_once_on_a_node(cluster: Any, tmp_path: Path) -> None:
    """The workers could not read them: they are given to this process alone, and no folder has them."""
    folder = str(tmp_path / "nowhere")
    for split, count in (("train", 20_000), ("test", 2_000)):
        draw = torch.Generator().manual_seed(count)
        x = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8, generator=draw)
        sources.give("fashion-mnist", split, folder, x, torch.arange(count) % 10)  # type: ignore[arg-type]
    e = Experiment("permuted", discover()["naive"](), replace(SHORT, data="fashion-mnist", folder=folder))
    found = run_on_ray([Job(f"r{i}", e, tmp_path / f"r{i}") for i in range(4)])
    assert [without_seconds(o) for o in found] == [without_seconds(e.run())] * 4
    asked = ray.remote(num_cpus=1)(in_a_worker)
    for lies, threads in ray.get([asked.remote("fashion-mnist", folder) for _ in range(2)]):
        assert "/plasma" in lies  # Ray's shared memory: no copy of this process's own
        assert threads == "1"


def test_ctrl_c_ends_all_however_often(tmp_path: Path) -> None:
    check_ctrl_c([*LONG_LINE.split(), "--on", "ray", "--workers", "2", "--out", str(tmp_path)], tmp_path, 5)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:PORT", "no Ray cluster answers at 127.0.0.1:"),
        ("no-such-host.invalid:6379", "no Ray cluster answers at no-such-host.invalid:6379"),
        ("nonsense", "must be HOST:PORT, or auto, got 'nonsense'"),
        ("ray://head:10001", "start the command on a machine of the cluster"),
        ("127.0.0.1:99999", "no Ray cluster answers at 127.0.0.1:99999"),
    ],
)
def test_an_address_where_there_is_none(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    says: str,
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = address.replace("PORT", str(s.getsockname()[1]))
    out = tmp_path / "o"
    kept = out / "naive-0/result.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    line = f"compare split --methods naive --on ray --address {address} --force --out {out}"
    assert main.main(line.split()) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert kept.exists()  # nothing is replaced before the cluster has answered


def test_without_ray(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for line in ("compare split --methods naive --on ray", "tune split ncm --tune lr=0.1:1 --report-on ray"):
        assert main.main(line.split()) == 2
        said = capsys.readouterr().err
        assert said.startswith("retain: error: runs on a cluster need Ray") and said.count("\n") == 1
    with pytest.raises(ImportError, match="pip install ray"):
        run_on_ray([])


def test_an_address_is_of_ray() -> None:
    with pytest.raises(WrongUse, match="--on ray"):
        many.Options(address="head:6379")


def test_workers_must_be_some() -> None:
    with pytest.raises(ValueError, match="workers must be >= 1, got 0"):
        run_on_ray([], workers=0)
