"""Many runs at once, stopped: once, with impatience, and by the death of the process that started them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from tests.cli.process import LONG, begun, check_ctrl_c, gone, start


def line(out: Path) -> list[str]:
    return [*LONG.split(), "--out", str(out)]


@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_ctrl_c_ends_all_however_often(tmp_path: Path, times: int) -> None:
    check_ctrl_c(line(tmp_path), tmp_path, times)


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    process = begun(line(tmp_path))
    process.kill()
    process.communicate(timeout=60)
    assert gone(process.pid)


def test_ctrl_c_amid_the_start_of_the_workers_is_not_lost(tmp_path: Path) -> None:
    process = start(line(tmp_path))
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
