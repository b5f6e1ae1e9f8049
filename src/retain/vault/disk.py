"""The few things that a vault does to a disk. All of them go through here, so that a test can stop at each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

from retain.vault.errors import Damaged

SMALL = 1 << 20  # bytes: more than any JSON file of a vault has


def sha256(data: bytes) -> str:
    """The checksum of a content, in hex."""
    return hashlib.sha256(data).hexdigest()


def to_json(d: dict[str, Any]) -> bytes:
    """A JSON object with its own checksum."""
    body = json.dumps(d, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return json.dumps({**d, "sha256": sha256(body.encode())}, ensure_ascii=False).encode()


def from_json(data: bytes, name: str) -> dict[str, Any]:
    """The inverse.

    Raises:
        Damaged: it is no JSON object, or its checksum is another one.
    """
    try:
        d = json.loads(data)
        if not isinstance(d, dict):
            raise ValueError("it holds no object")
        said = d.pop("sha256", None)
        body = json.dumps(d, sort_keys=True, ensure_ascii=False, allow_nan=False)
        if said != sha256(body.encode()):
            raise ValueError("its checksum is not that of its content")
        return d
    except (ValueError, RecursionError) as e:  # JSON and Unicode errors are ValueErrors
        raise Damaged(f"{name} is damaged: {e}") from e


def read(path: Path, most: int = SMALL) -> bytes:
    """The content of a regular file, links not followed.

    Raises:
        Damaged: it is not there, is no regular file, or is larger than `most` bytes.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as e:
        raise Damaged(f"{path}: {e.strerror}") from e
    with os.fdopen(file, "rb") as f:
        info = os.fstat(f.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise Damaged(f"{path} is no file")
        if info.st_size > most:
            raise Damaged(f"{path} has {info.st_size} bytes, more than the {most} it can have")
        return f.read(info.st_size)


def write(path: Path, data: bytes) -> None:
    """A new file, flushed to the disk."""
    with path.open("xb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def replace(part: Path, path: Path) -> None:
    """Rename a file over another, or a folder to a place that is free, and flush the folder."""
    part.replace(path)
    flush(path.parent)


def flush(folder: Path) -> None:
    """What was created, renamed or removed in a folder is on the disk after this."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make(folder: Path) -> None:
    """A new folder."""
    folder.mkdir()


def remove(path: Path) -> None:
    """A file, a link or a whole folder; nothing where there is none."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.is_dir():
        shutil.rmtree(path)
