"""The command line as a process of its own: started as a shell does it, and watched until it is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

RETAIN = [sys.executable, "-m", "retain.cli.main"]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
LONG = "compare permuted --methods naive,ewc --samples 60000 --test-samples 100 --hidden 20 --tasks 3 --batch-size 4"


def start(line: list[str]) -> subprocess.Popen[str]:
    """A command, in a process group of its own, as a shell starts it: Ctrl-C is not ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # under nohup it is, and is inherited
    try:
        return subprocess.Popen(
            [*RETAIN, *line], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)


def begun(line: list[str]) -> subprocess.Popen[str]:
    """A comparison whose two runs are both under way."""
    process = start(line)
    assert process.stderr is not None
    said = ""
    while said.count(": begun") < 2:
        more = process.stderr.readline()
        assert more, said
        said += more
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


def check_ctrl_c(line: list[str], out: Path, times: int) -> None:
    """Ctrl-C, so many times, ends all processes of a comparison that writes to `out`, and says how to go on."""
    process = begun(line)
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process of the command
        time.sleep(0.03)
    said, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert (said, "Traceback" in err) == ("", False), err
    assert err.splitlines()[-1].strip() == f"retain {' '.join(line)} --resume"
    assert gone(process.pid)
    assert not list(out.rglob("result.json"))
