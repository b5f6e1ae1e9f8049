"""Many runs at once, stopped: once, with impatience, and by the death of the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RETAIN = [sys.executable, "-m", "retain.cli.main"]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
LONG = "compare permuted --methods naive,ewc --samples 60000 --test-samples 100 --hidden 20 --tasks 3 --batch-size 4"


def start(out: Path) -> subprocess.Popen[str]:
    """A comparison, in a process group of its own, as a shell starts it: Ctrl-C is not ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # under nohup it is, and is inherited
    try:
        return subprocess.Popen(
            [*RETAIN, *LONG.split(), "--out", str(out)], env=ENV,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)


def begun(out: Path) -> subprocess.Popen[str]:
    """A comparison whose runs are both under way."""
    process = start(out)
    assert process.stderr is not None
    said = ""
    while said.count(": begun") < 2:
        line = process.stderr.readline()
        assert line, said
        said += line
    return process


def gone(group: int, seconds: float = 20) -> bool:
    """Whether every process of a group ends in this time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    return False


@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_ctrl_c_ends_all_however_often(tmp_path: Path, times: int) -> None:
    process = begun(tmp_path)
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process of the command
        time.sleep(0.03)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert (out, "Traceback" in err) == ("", False), err
    assert err.splitlines()[-1].strip() == f"retain {LONG} --out {tmp_path} --resume"
    assert gone(process.pid)
    assert not list(tmp_path.rglob("result.json"))


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    process = begun(tmp_path)
    process.kill()
    process.communicate(timeout=60)
    assert gone(process.pid)


def test_ctrl_c_amid_the_start_of_the_workers_is_not_lost(tmp_path: Path) -> None:
    process = start(tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        process.communicate()
        pytest.skip("no /proc to see the workers start in")
    while len(children.read_text().split()) < 2:  # the tracker of resources is the first
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, "Traceback" in err) == (130, "", False), err
    assert gone(process.pid)
