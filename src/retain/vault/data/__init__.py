"""Data as people have it, read into examples: `read`, and what is kept of it, `Preprocessing` and `Labels`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retain.vault.data import hf
from retain.vault.data.arrays import read_npz, read_pair, read_safetensors
from retain.vault.data.cells import Column
from retain.vault.data.dataset import read_dataset
from retain.vault.data.images import read_folder
from retain.vault.data.labels import Labels
from retain.vault.data.preprocess import Preprocessing
from retain.vault.data.raw import Asked, Raw
from retain.vault.data.tables import read_csv, read_parquet
from retain.vault.data.targets import Target
from retain.vault.data.words import plainly
from retain.vault.errors import BadData

__all__ = ["Column", "Labels", "Preprocessing", "Raw", "Target", "read"]

FILES = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".npz": read_npz,
    ".safetensors": read_safetensors,
}


@plainly
def read(
    source: Any,
    *,
    target: Target = "class",
    label: str | tuple[str, ...] | None = None,
    labelled: bool | None = True,
    ignore: tuple[str, ...] = (),
    split: str | None = None,
    size: int | None = None,
) -> Raw:
    """Examples from whatever they are in.

    Args:
        source: a path: a folder of images with a subfolder a class, a .csv, .tsv, .parquet, .npz or
            .safetensors file, or the folder of a Hugging Face data set (`save_to_disk`). Or in Python
            the pair (x, y) of arrays, tensors or lists, or a torch Dataset of such pairs.
        target: what is to be predicted: one class; several labels of 0 or 1; or numbers.
        label: the column, or columns, that hold it; None: the one called label, class, target or y.
        labelled: whether there must be labels; None: if there are any; False: they are not looked at.
        ignore: columns to leave out.
        split: of a Hugging Face data set that has several; None: "train".
        size: images are made this wide and high (pixels) while they are read; None: they stay as they are.

    Raises:
        BadData: names the file, the row or the column that is not as it must be, and the fix.
        NoArrow: pyarrow is not installed, which Parquet and Hugging Face need.

    >>> raw = read(([[1.0, 2.0], [3.0, 4.0]], [3, 7]))
    >>> raw.targets, raw.integers
    (['3', '7'], True)
    """
    asked = Asked(target, label, labelled, tuple(ignore), split, size)
    if isinstance(source, str | Path):
        try:
            return _read_path(Path(source), asked)
        except OSError as e:  # a name that is too long, a folder that may not be looked into
            raise BadData(f"{source} cannot be read: {e.strerror or e}") from None
    if isinstance(source, tuple | list):
        return read_pair(source, asked)
    if hasattr(source, "__getitem__") or hasattr(source, "__iter__"):
        return read_dataset(source, asked)
    raise BadData(f"data are a path, a pair (x, y) or a Dataset, got {type(source).__name__}")


def _read_path(path: Path, asked: Asked) -> Raw:
    if path.is_dir():
        if any((path / name).is_file() for name in hf.MARKS):
            return hf.read_saved(path, asked)
        return read_folder(path, asked)
    reader = FILES.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(FILES)
        there = "is none of what is read" if path.exists() else "is not there"
        raise BadData(
            f"{path} {there}: give a folder of images (a subfolder a class), a {kinds} file, or a Hugging Face folder"
        )
    return reader(path, asked)
