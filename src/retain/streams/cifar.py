"""CIFAR-10 and CIFAR-100 on the user's disk, in their binary version: records of bytes, nothing to unpickle.

Krizhevsky 2009 (Learning Multiple Layers of Features from Tiny Images). A record is its labels, one byte
each (CIFAR-100: the coarse one of 20, then the fine one of 100, which is the class), then 1,024 bytes of
red, of green and of blue, row by row.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

CHANNELS, SIDE = 3, 32
MOST = 100_000  # images a file; a file with more is none of these data sets


class Layout(NamedTuple):
    """How one of the two lies on disk."""

    folder: str  # what the archive unpacks to
    files: dict[str, tuple[str, ...]]  # by split
    classes: tuple[int, ...]  # of each label byte; the last is the class
    pickled: tuple[str, str]  # what tells the version for Python: its folder, or a file of it


LAYOUTS = {
    "cifar10": Layout(
        "cifar-10-batches-bin",
        {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        (10,),
        ("cifar-10-batches-py", "data_batch_1"),
    ),
    "cifar100": Layout(
        "cifar-100-binary",
        {"train": ("train.bin",), "test": ("test.bin",)},
        (20, 100),
        ("cifar-100-python", "train"),
    ),
}


def address(data: str) -> str:
    """Where the binary version is to be had."""
    return f"https://www.cs.toronto.edu/~kriz/cifar-{data.removeprefix('cifar')}-binary.tar.gz"


def find(data: str, split: str, folder: Path) -> list[Path] | None:
    """The files of one half, all from FOLDER/cifar-... or from FOLDER itself; None where there is none.

    Raises:
        ValueError: some of the files are there and some are not, or there is only the version of
            pickled Python objects.
    """
    layout = LAYOUTS[data]
    places = [[place / name for name in layout.files[split]] for place in (folder / layout.folder, folder)]
    missing = [[f for f in files if not f.is_file()] for files in places]
    for files, lacks in zip(places, missing, strict=True):
        if not lacks:
            return files
    for files, lacks in zip(places, missing, strict=True):
        if len(lacks) < len(files):
            raise ValueError(
                f"{', '.join(map(str, lacks))}: missing, where the rest of {data} is; unpack "
                f"{address(data)} again"
            )
    other = [folder / layout.pickled[0], folder / layout.pickled[1]]
    if other[0].is_dir() or other[1].is_file():
        raise ValueError(
            f"{other[0] if other[0].is_dir() else other[1]}: this is {data} for Python, whose files would have to be "
            f"unpickled: that runs whatever code is in a file, and retain never does it. Get the binary version, "
            f"{address(data)}, unpack it in {folder} and name that folder"
        )
    return None


def read(data: str, files: list[Path]) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, 3, 32, 32] and labels int64 [N] of the files, one after the other.

    Raises:
        ValueError: a file is no whole number of records, is empty or absurdly long, or has a label
            that there is not; the message names the file.
    """
    parts = [_read(f, LAYOUTS[data].classes) for f in files]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def _read(path: Path, classes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    head, size = len(classes), path.stat().st_size
    record = head + CHANNELS * SIDE**2
    if size % record or not 0 < size <= MOST * record:
        raise ValueError(
            f"{path}: {size:,} bytes, which is no number of records of {record:,} bytes from 1 to {MOST:,}: "
            "truncated, or not this data set"
        )
    rows = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8).view(-1, record)
    for column, count in enumerate(classes):
        worst = int(rows[:, column].max())
        if worst >= count:
            raise ValueError(f"{path}: label {worst} where there are 0 to {count - 1}")
    return rows[:, head:].reshape(-1, CHANNELS, SIDE, SIDE), rows[:, head - 1].long()
