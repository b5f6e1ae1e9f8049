"""Rows that were overwritten, so that they can be put back: records with checksums, one behind the other.

A file is a header and then records: how many rows, two checksums, the slots, the rows as they were.
A record is written before its rows are overwritten. One that is cut off at the end of the file is
therefore of rows that still lie as they lay, and is passed over; anything else that does not agree
with its checksum is damage, and is refused.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAGIC = b"retain-undo-1\n"
HEAD = struct.Struct("<QI")  # rows in the record, checksum of slots and rows; then a checksum of these two
CHECKSUM = struct.Struct("<I")
BOOT = Path("/proc/sys/kernel/random/boot_id")


class BadMemory(ValueError):
    """A memory on disk that is damaged, or is not the one that a state was saved with."""


def begin(path: Path, of: str) -> int:
    """A new file for the memory called `of`, on the disk by the time this returns: its descriptor."""
    log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    write(log, _header(of))
    os.fsync(log)
    sync_folder(path.parent)
    return log


def append(log: int, slots: Tensor, rows: NDArray[np.uint8]) -> None:
    """Add the rows [n, R] uint8 as they lie in the slots [n] int64."""
    body = slots.numpy().tobytes() + rows.tobytes()
    head = HEAD.pack(len(slots), zlib.crc32(body))
    write(log, head + CHECKSUM.pack(zlib.crc32(head)) + body)


def records(path: Path, of: str, capacity: int, row: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Slots [n] and rows [n, `row`] of each record, oldest first. No slot comes twice in a file.

    Raises:
        BadMemory: the file is damaged or of another memory; or the machine has been started anew since,
            so that rows may have reached the disk before the records of what they overwrote.
    """
    with path.open("rb") as f:
        header = f.read(len(_header(of)))
        if len(header) < len(_header(of)):
            return  # cut off while it was begun: nothing was overwritten
        if not header.startswith(MAGIC + of.encode()):
            raise BadMemory(f"{path} is not the undo log of this memory")
        if header != _header(of):
            raise BadMemory(
                f"{path}: the machine went down after rows of this memory were overwritten, and it cannot be "
                "known that all of them can be put back: start the run anew"
            )
        while len(head := f.read(HEAD.size + CHECKSUM.size)) == HEAD.size + CHECKSUM.size:
            n, checksum = HEAD.unpack_from(head)
            damaged = CHECKSUM.unpack_from(head, HEAD.size)[0] != zlib.crc32(head[: HEAD.size])
            if damaged or not 0 < n <= capacity:
                raise BadMemory(f"{path} is damaged: a record's head does not agree with its checksum")
            body = f.read(n * (8 + row))
            if len(body) < n * (8 + row):
                return
            slots = torch.frombuffer(bytearray(body[: 8 * n]), dtype=torch.int64)
            if zlib.crc32(body) != checksum or slots.min() < 0 or slots.max() >= capacity:
                raise BadMemory(f"{path} is damaged: a record does not agree with its checksum")
            yield slots, torch.frombuffer(bytearray(body[8 * n :]), dtype=torch.uint8).view(n, row)


def write(file: int, data: bytes | memoryview, at: int | None = None) -> None:
    """All of `data`, at a place or where the file is at.

    Raises:
        OSError: the disk is full, or broken.
    """
    left = memoryview(data)
    while len(left):
        done = os.write(file, left) if at is None else os.pwrite(file, left, at)
        left, at = left[done:], None if at is None else at + done


def sync_folder(folder: Path) -> None:
    """Make sure that files made in a folder are found there after a crash."""
    f = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(f)
    finally:
        os.close(f)


def _header(of: str) -> bytes:
    """The same size always. Where the system does not tell its boots apart, they count as one."""
    boot = BOOT.read_text(encoding="ascii").strip() if BOOT.exists() else ""
    return MAGIC + of.encode() + b"\n" + boot.encode().ljust(36) + b"\n"
