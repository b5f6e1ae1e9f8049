"""Rows of bytes in a folder, that can be put back to what they were at the last checkpoint.

The rows lie in `rows.bin`. They are written with pwrite: a full disk is an OSError and not the end of the
process. A small file is read through a memory map, which is twice as fast as pread once it is cached.
A large one would make the process seem to grow to the size of the file, as every fault maps far more than a
row; so it is read with pread, and all rows are asked for before the first is waited for, which is several
times as fast where they are not cached.

A `version` counts the writes. Three moments matter:

- **mark**, right before a checkpoint is written: rows go to the disk, and the version into `marks.json`.
- **write**: a row that the last mark has, and that has not been overwritten since, first goes to
  `undo-<mark>.log`. So the log never has more rows than the memory had at the mark.
- **settle**, right after the checkpoint has been renamed into its place: earlier marks are forgotten,
  in `marks.json` first, and then their logs are removed.

A state names the version that it belongs to. To open it puts back the logs of that mark and of all
later ones, the newest first, and forgets all other marks. Whenever the process ends:

- before `mark` is through: the checkpoint in place is the last one, whose mark and log are there;
- between `mark` and `settle`: it is the last one or the new one, and both marks and their logs are there;
- amid `settle`, or amid opening: the marks that are gone are of no checkpoint in place; to put rows back
  a second time changes nothing; newer logs go first, so that none is ever put back over an older one;
- amid a write: the record is whole, and is put back; or it is cut off, and no row was overwritten yet.

A version that is not marked is refused. So is a log from before the machine was last started: a process
that dies loses nothing of what it wrote, a machine does, and in any order.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.files import write_atomically
from retain.memory import undo
from retain.memory.undo import BadMemory

FORMAT = "retain-memory-1"
SMALL = 1 << 27  # bytes of a file that is mapped: what a memory may add to the process
OURS = re.compile(r"(rows\.bin|lock|undo-\d+\.log|(header|marks)\.json|\.(header|marks)\.json\.\d+\.part)")


class RowFile:
    """`capacity` rows of `row` bytes; what else its header says is the caller's, and must not change."""

    def __init__(self, folder: Path, header: dict[str, Any], lock: int, marks: list[int], filled: int):
        self.folder, self.id, self.lock = folder, str(header["id"]), lock
        self.capacity, self.row = int(header["capacity"]), int(header["row"])
        self.file = os.open(folder / "rows.bin", os.O_RDWR | os.O_CLOEXEC)
        if sys.platform == "linux":
            os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_RANDOM)  # reading ahead would be in vain
        self.map: NDArray[np.uint8] | None = None
        if self.capacity * self.row <= SMALL:
            self.map = np.asarray(np.memmap(folder / "rows.bin", mode="r", shape=(self.capacity, self.row)))
        self.marks, self.version = marks, marks[-1]
        self.log: int | None = None
        self.saved = torch.zeros(filled, dtype=torch.bool)  # of the rows at the mark: overwritten since

    @classmethod
    def create(cls, folder: Path, header: dict[str, Any]) -> RowFile:
        """Empty rows, at version 0; a memory that lay in the folder is overwritten.

        Raises:
            BadMemory: the folder has other files, or a process uses it.
            OSError: it cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if strange := [n.name for n in folder.iterdir() if not OURS.fullmatch(n.name)]:
            raise BadMemory(f"{folder} is not the folder of a memory: it holds {strange[0]}")
        with ExitStack() as held:
            lock = _locked(folder, held)
            for old in folder.iterdir():
                if old.name != "lock":
                    old.unlink()
            with (folder / "rows.bin").open("xb") as f:
                f.truncate(header["capacity"] * header["row"])
            _note(folder, "marks", [0])
            _note(folder, "header", {"format": FORMAT, **header})
            made = cls(folder, header, lock, [0], 0)
            held.pop_all()
        return made

    @classmethod
    def open(cls, folder: Path, header: dict[str, Any], version: int, filled: int) -> RowFile:
        """The rows as they were at `version`, when the first `filled` were in use.

        Raises:
            BadMemory: they are not there, are damaged, of another header, or cannot be brought to that version.
        """
        with ExitStack() as held:
            _noted(folder, "header")  # where there is no memory, none is to be locked
            lock = _locked(folder, held)
            cls._check(folder, header, version)
            made = cls(folder, header, lock, [version], filled)
            held.pop_all()
            held.callback(made.close)
            made._put_back()
            held.pop_all()
        return made

    @staticmethod
    def _check(folder: Path, header: dict[str, Any], version: int) -> None:
        """Raise BadMemory where what lies in the folder does not fit to the header or the version."""
        found, marks = _noted(folder, "header"), _noted(folder, "marks")
        header = {"format": FORMAT, **header}
        if not isinstance(found, dict) or not isinstance(marks, list):
            raise BadMemory(f"{folder}: header.json or marks.json is damaged")
        if differing := [k for k in {**header, **found} if header.get(k) != found.get(k)]:
            k = differing[0]
            raise BadMemory(
                f"{folder} is not the memory of this state: its {k} is {found.get(k)!r}, not {header.get(k)!r}"
            )
        size, due = _size(folder / "rows.bin"), header["capacity"] * header["row"]
        if size != due:
            raise BadMemory(f"{folder / 'rows.bin'} has {size} bytes, its header says {due}")
        if version not in marks:
            raise BadMemory(
                f"{folder} cannot be brought back to version {version}, only to {marks}: the state in hand is "
                "not the last one that was saved, or not one of a checkpoint"
            )

    def close(self) -> None:
        """Give the folder free."""
        self.map = None
        for f in (self.file, self.lock, self.log):
            if f is not None:
                os.close(f)

    def read(self, i: Tensor) -> NDArray[np.uint8]:
        """A copy of the rows i [n] int64: [n, row]."""
        if self.map is not None:
            return self.map.take(i.numpy(), axis=0)
        places = [slot * self.row for slot in i.tolist()]
        if sys.platform == "linux":
            for at in places:
                os.posix_fadvise(self.file, at, self.row, os.POSIX_FADV_WILLNEED)
        found = b"".join([os.pread(self.file, self.row, at) for at in places])
        if len(found) != len(places) * self.row:
            raise IndexError(f"slots {min(i.tolist())} to {max(i.tolist())} of a memory of {self.capacity}")
        return np.frombuffer(bytearray(found), np.uint8).reshape(-1, self.row)  # which may be written to

    def write(self, slots: list[int], rows: Tensor) -> None:
        """Put rows [n, row] uint8 into slots, which ascend."""
        version, self.version = self.version, -1  # of none, should this fail halfway
        self._save(torch.tensor(slots))
        data = rows.contiguous().view(-1).numpy().data
        for first, end in _runs(slots):
            undo.write(self.file, data[first * self.row : end * self.row], slots[first] * self.row)
        self.version = version + 1

    def mark(self, filled: int) -> None:
        """From now on the rows, of which the first `filled` are in use, can be brought back to this version."""
        if self.version in self.marks:
            return
        os.fsync(self.file)
        _note(self.folder, "marks", [*self.marks, self.version])
        self.marks = [*self.marks, self.version]
        if self.log is not None:
            os.close(self.log)
        self.log, self.saved = None, torch.zeros(filled, dtype=torch.bool)

    def settle(self) -> None:
        """Forget all marks but the last: no state of theirs is needed any more."""
        if len(self.marks) > 1:
            _note(self.folder, "marks", self.marks[-1:])
            self.marks = self.marks[-1:]
        for base, path in self._logs():
            if base < self.marks[0]:
                path.unlink()

    def _save(self, slots: Tensor) -> None:
        """Into the log with those of the slots that the last mark has and the log has not."""
        slots = slots[slots < len(self.saved)]
        slots = slots[~self.saved[slots]]
        if len(slots):
            if self.log is None:
                self.log = undo.begin(self.folder / f"undo-{self.marks[-1]}.log", self.id)
            undo.append(self.log, slots, self.read(slots))
            self.saved[slots] = True

    def _put_back(self) -> None:
        """Everything overwritten since the one mark that is left; then without a log again."""
        newest_first = self._logs()
        for base, path in newest_first:
            if base >= self.version:
                for slots, rows in undo.records(path, self.id, self.capacity, self.row):
                    for slot, row in zip(slots.tolist(), rows.numpy(), strict=True):
                        undo.write(self.file, row.data, slot * self.row)
        if newest_first:
            os.fsync(self.file)
        _note(self.folder, "marks", self.marks)
        for _, path in newest_first:
            path.unlink()
        undo.sync_folder(self.folder)

    def _logs(self) -> list[tuple[int, Path]]:
        """The mark that each log begins at, and where it is; the newest first."""
        paths = self.folder.glob("undo-*.log")
        return sorted(((int(p.stem.removeprefix("undo-")), p) for p in paths), reverse=True)


def _locked(folder: Path, held: ExitStack) -> int:
    """A descriptor that keeps other processes out of the folder until it is closed, as `held` would do."""
    if sys.platform == "win32":
        raise BadMemory("a memory on disk needs the file locks of Unix")
    import fcntl  # there is none on Windows

    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    held.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        raise BadMemory(f"{folder} is in use by another run") from e
    return lock


def _note(folder: Path, name: str, what: Any) -> None:
    write_atomically(folder / f"{name}.json", json.dumps(what).encode())


def _noted(folder: Path, name: str) -> Any:
    path = folder / f"{name}.json"
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as e:
        raise BadMemory(
            f"there is no memory at {folder}: no {path.name} (a temporary one is removed when its process ends; "
            "to resume a run, name the folder from the start)"
        ) from e
    except (ValueError, RecursionError) as e:
        raise BadMemory(f"{path} is damaged: {e}") from e


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _runs(slots: list[int]) -> Iterator[tuple[int, int]]:
    """From where to where they follow one another.

    >>> list(_runs([3, 4, 5, 9]))
    [(0, 3), (3, 4)]
    """
    first = 0
    for j in range(1, len(slots) + 1):
        if j == len(slots) or slots[j] != slots[j - 1] + 1:
            yield first, j
            first = j
