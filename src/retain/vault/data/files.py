"""Opening files from outside, and how much of them is read at most."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from retain.vault.errors import BadData

MOST_BYTES = 8 * 2**30  # that one reading may take in memory, as far as the sizes can be known beforehand


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    """A regular file, open at its start, and the sha256 of its content.

    Anything else that has a name (a pipe, a device) is refused before it is read: it might never end.

    Raises:
        BadData: there is no such file, it cannot be read, or it is empty.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as e:  # ValueError: a name with a NUL in it
        raise BadData(f"{path} cannot be read: {getattr(e, 'strerror', None) or e}") from None
    with os.fdopen(number, "rb") as f:
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode):
            raise BadData(f"{path} is not a file, so it is not read: give a file with the data")
        if about.st_size == 0:
            raise BadData(f"{path} is empty: it needs at least one example")
        sha = hashlib.file_digest(f, "sha256").hexdigest()
        f.seek(0)
        yield f, sha


def inside(path: Path, root: Path) -> Path:
    """`path`, an entry of a folder that is `root` or within it; a link is followed only to where `root` is.

    Raises:
        BadData: it is a link that leads out of `root`, or in a circle.
    """
    try:
        out = path.is_symlink() and not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as e:  # RuntimeError: a link that leads to itself
        raise BadData(f"{path} cannot be read: {getattr(e, 'strerror', None) or e}") from None
    if out:
        raise BadData(f"{path} is a link out of {root}, which is not followed: put the file itself there")
    return path


def within_memory(size: int, source: str, fix: str) -> None:
    """Refuse what would take more than `MOST_BYTES`.

    Raises:
        BadData: names the size, the limit and the fix.
    """
    if size > MOST_BYTES:
        raise BadData(
            f"{source} takes {size / 2**30:.1f} GiB of memory, more than the {MOST_BYTES / 2**30:g} GiB that are read "
            f"at once: {fix}"
        )
