"""A crash, a full disk or a locked folder leaves the old file whole, and nothing beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from retain.files import write_atomically

NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write anywhere, so step down for a while where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    for data in (b"", b"one", b"\x00" * 100_000):
        write_atomically(path, data)
        assert path.read_bytes() == data
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["replace", "fsync"])
def test_a_crash_in_the_middle_leaves_the_old_file_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, where: str
) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, b"old")

    def crash(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, where, crash)
    with pytest.raises(type(error)):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_killed_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    code = (
        "import os, signal; from pathlib import Path; from retain.files import write_atomically\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_atomically(Path({str(path)!r}), b'new')"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    write_atomically(path, b"newer")  # what the dead process left is in nobody's way
    assert path.read_bytes() == b"newer"


def test_a_read_only_folder_is_an_os_error_and_stays_as_it_was() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to the unprivileged
        folder = Path(name)
        path = folder / "a.json"
        path.write_bytes(b"old")
        folder.chmod(0o555)
        with unprivileged(), pytest.raises(PermissionError):
            write_atomically(path, b"new")
        folder.chmod(0o755)
        assert path.read_bytes() == b"old"
        assert list(folder.iterdir()) == [path]


def test_a_file_where_a_folder_is_wanted_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="file"):
        write_atomically(tmp_path / "file" / "a.json", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
