"""Arrays out of an npz file, with nothing unpickled, nothing unpacked to disk, and no more read than is said."""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from retain.vault.data.files import within_memory
from retain.vault.data.words import short
from retain.vault.errors import BadData

DENSEST = 1100  # bytes that one byte of a deflated member can become, at most about
BLOCK = 2**20
MOST_MEMBERS = 10_000
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True)
class Npz:
    """An open npz file: its arrays by name."""

    archive: zipfile.ZipFile
    source: str
    members: dict[str, zipfile.ZipInfo]

    @property
    def names(self) -> list[str]:
        """Of the arrays, as `numpy.savez` was given them."""
        return list(self.members)

    def read(self, name: str) -> NDArray[Any]:
        """One array.

        Raises:
            BadData: it is damaged, or holds Python objects, or is larger than may be read.
        """
        info, what = self.members[name], f"array {short(name)} of {self.source}"
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadData(f"{what} is encrypted or packed in an unusual way: write the file with numpy.savez")
        within_memory(info.file_size, what, "give it in parts")
        if info.file_size > DENSEST * info.compress_size + BLOCK:
            raise BadData(
                f"{what} says that it is {info.file_size} bytes, out of {info.compress_size}: it is damaged"
            )
        try:
            with self.archive.open(info) as f:
                return _array(f, info.file_size, what)
        except (
            zipfile.BadZipFile,
            zlib.error,
            OSError,
            EOFError,
            ValueError,
            NotImplementedError,
            RuntimeError,
        ) as e:
            if isinstance(e, BadData):
                raise
            raise BadData(f"{what} is damaged: {e}") from None


def _array(f: Any, size: int, what: str) -> NDArray[Any]:
    version = npy.read_magic(f)
    if version not in HEADERS:
        raise BadData(f"{what} is in npy format {version}, which only records need: give plain numbers")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            shape, by_column, dtype = HEADERS[version](f)
    except Exception as e:  # numpy lets pass whatever Python's own parser raises
        raise BadData(f"{what} has no header that can be read: {type(e).__name__}") from None
    if dtype.kind not in "biufU" or dtype.subdtype is not None or dtype.itemsize == 0:
        objects = ", which would have to be unpickled" if dtype.hasobject else ""
        raise BadData(f"{what} is an array of {dtype}{objects}; it must hold numbers, or class names as str")
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize > size or len(shape) > 32:
        raise BadData(f"{what} says that its shape is {short(shape)}, but it has only {size} bytes")
    wanted = math.prod(shape) * dtype.itemsize
    data = bytearray()
    while block := f.read(min(BLOCK, wanted + 1 - len(data))):
        data += block
    if len(data) != wanted:
        raise BadData(f"{what} has {len(data)} bytes or more, but its shape {list(shape)} needs {wanted}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if by_column else "C")


@contextmanager
def open_npz(f: BinaryIO, source: str) -> Iterator[Npz]:
    """An npz file that is open for reading.

    Raises:
        BadData: it is none, or has two arrays of one name.
    """
    try:
        archive = zipfile.ZipFile(f)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, UnicodeError) as e:
        raise BadData(f"{source} is no npz file that can be read: {e}") from None
    with archive:
        infos = archive.infolist()
        members = {i.filename.removesuffix(".npy"): i for i in infos}
        if len(infos) > MOST_MEMBERS or len(members) < len(infos):
            raise BadData(
                f"{source} has {len(infos)} arrays, some of the same name or too many: write it anew"
            )
        yield Npz(archive, source, members)
