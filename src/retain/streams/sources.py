"""Where images come from: MNIST inside the package; Fashion-MNIST, CIFAR-10 and CIFAR-100 on the user's disk.

CIFAR's records are read by `cifar`. The others are idx files: a big-endian header (magic number, then
the size of each dimension) and one byte a value. A header is never believed: bytes are read as they
come, and must be exactly as many as it says.
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from retain.streams import cifar

Data = Literal["mnist", "fashion-mnist", "cifar10", "cifar100"]
Split = Literal["train", "test"]

EMBEDDED = Path(__file__).parent / "mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SIDE = 28
MOST = 1_000_000  # images a file; an idx file that claims more is not one of these data sets


class Kind(NamedTuple):
    """What all images of a data set have in common."""

    classes: int
    channels: int
    side: int  # height and width


KINDS: dict[str, Kind] = {
    "mnist": Kind(10, 1, SIDE),
    "fashion-mnist": Kind(10, 1, SIDE),
    "cifar10": Kind(10, cifar.CHANNELS, cifar.SIDE),
    "cifar100": Kind(100, cifar.CHANNELS, cifar.SIDE),
}

_STEM = {"train": "train", "test": "t10k"}
_TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
_OPEN = {"": Path.open, ".gz": gzip.open, ".xz": lzma.open}
_HOW = {
    "mnist": "leave the folder out: MNIST comes with the package",
    "fashion-mnist": "install Debian's package (apt-get install dataset-fashion-mnist), or name the folder "
    "(--folder) which torchvision.datasets.FashionMNIST(FOLDER, download=True) has filled, or one that holds "
    "the four files of https://github.com/zalandoresearch/fashion-mnist",
    **{
        data: f"get the binary version, {cifar.address(data)}, unpack it, and name the folder in which "
        f"{layout.folder} lies (--folder)"
        for data, layout in cifar.LAYOUTS.items()
    },
}


class DataNotFound(FileNotFoundError):
    """A data set is in none of the places where it was looked for."""


def load(data: Data, split: Split, folder: Path | str | None = None) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, C, H, W] and labels int64 [N], read once a process: do not write to them.

    [N, 1, 28, 28] for MNIST and Fashion-MNIST, [N, 3, 32, 32] for CIFAR.

    Args:
        data: "mnist", "fashion-mnist", "cifar10" or "cifar100".
        split: "train" or "test".
        folder: where to look, and nowhere else: FOLDER/FashionMNIST/raw (or FOLDER/MNIST/raw),
            FOLDER/raw, then FOLDER itself; plain, .gz or .xz. CIFAR: FOLDER/cifar-10-batches-bin
            (or FOLDER/cifar-100-binary), then FOLDER itself. None: MNIST from the package,
            Fashion-MNIST from where Debian puts it; CIFAR needs a folder.

    Raises:
        DataNotFound: the files are in none of these places; the message says how to get them.
        ValueError: a file is not what its name says, CIFAR is there as pickled Python objects only,
            or `data` or `split` is unknown.

    >>> x, y = load("mnist", "test")
    >>> x.shape, x.dtype, y[:3]
    (torch.Size([10000, 1, 28, 28]), torch.uint8, tensor([7, 2, 1]))
    """
    if data not in get_args(Data) or split not in _STEM:
        raise ValueError(
            f"data must be one of {get_args(Data)} and split train or test, got {data!r}, {split!r}"
        )
    key = data, split, None if folder is None else Path(folder).expanduser()
    if key not in _KEPT:
        _KEPT[key] = _load(*key)
    return _KEPT[key]


_KEPT: dict[tuple[str, str, Path | None], tuple[Tensor, Tensor]] = {}


def give(data: Data, split: Split, folder: Path | str | None, images: Tensor, labels: Tensor) -> None:
    """What `load` gives in this process from now on, on a machine that may not have the files."""
    _KEPT[data, split, None if folder is None else Path(folder).expanduser()] = images, labels


def _load(data: str, split: str, folder: Path | None) -> tuple[Tensor, Tensor]:
    if data in cifar.LAYOUTS:
        return _load_cifar(data, split, folder)
    images, labels = _find(data, split, folder)
    x, y = read_idx(images, 3), read_idx(labels, 1).long()
    if x.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"{images}: images of {list(x.shape[1:])} pixels where {data} has [28, 28]")
    if len(x) != len(y):
        raise ValueError(f"{images} holds {len(x)} images, but {labels} {len(y)} labels")
    if y.max() >= KINDS[data].classes:
        raise ValueError(f"{labels}: label {int(y.max())} where {data} has 0 to {KINDS[data].classes - 1}")
    return x[:, None], y


def _load_cifar(data: str, split: str, folder: Path | None) -> tuple[Tensor, Tensor]:
    layout = cifar.LAYOUTS[data]
    files = None if folder is None else cifar.find(data, split, folder)
    if files is None:
        where = (
            "no folder was named" if folder is None else f"not in {folder / layout.folder}, nor in {folder}"
        )
        raise DataNotFound(f"{data}: {', '.join(layout.files[split])}: {where}. To get it, {_HOW[data]}.")
    return cifar.read(data, files)


def _find(data: str, split: str, folder: Path | None) -> tuple[Path, Path]:
    """The images and the labels, both from the first place that has both."""
    if folder is not None:
        places = [folder / _TORCHVISION[data] / "raw", folder / "raw", folder]
    else:
        places = [EMBEDDED if data == "mnist" else DEBIAN]
    names = [f"{_STEM[split]}-images-idx3-ubyte", f"{_STEM[split]}-labels-idx1-ubyte"]
    for place in places:
        found = [next((p for p in _spellings(place / n) if p.is_file()), None) for n in names]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    raise DataNotFound(
        f"{data}: no {names[0]} with {names[1]} (plain, .gz or .xz) in "
        f"{', '.join(str(p) for p in places)}. To get it, {_HOW[data]}."
    )


def _spellings(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _OPEN]


def read_idx(path: Path, dims: int) -> Tensor:
    """The values uint8 of an idx file of `dims` dimensions, plain, .gz or .xz.

    Raises:
        ValueError: another magic number, an empty or absurd dimension, fewer or more bytes than the
            header says, or a damaged compressed file; the message names the file.
    """
    suffix = path.suffix if path.suffix in _OPEN else ""
    try:
        with _OPEN[suffix](path, "rb") as file:  # type: ignore[operator]  # three openers, one call
            return _parse(file, path, dims)
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise ValueError(f"{path}: damaged compressed file ({error}); get it again") from error


def _parse(file: BinaryIO, path: Path, dims: int) -> Tensor:
    head = file.read(4 + 4 * dims)
    magic = bytes([0, 0, 8, dims])  # 8: one unsigned byte a value
    if len(head) < 4 + 4 * dims or head[:4] != magic:
        raise ValueError(f"{path}: not an idx file of bytes in {dims} dimensions (magic {head[:4].hex()!r})")
    shape = [int.from_bytes(head[i : i + 4], "big") for i in range(4, len(head), 4)]
    if not 1 <= shape[0] <= MOST or any(not 1 <= n <= 1024 for n in shape[1:]):
        raise ValueError(f"{path}: its header claims {shape} values, which no such data set has")
    expected = 1
    for n in shape:
        expected *= n
    values = bytearray()
    while len(values) <= expected:  # one byte too many is looked for as well
        part = file.read(min(1 << 20, expected + 1 - len(values)))
        if not part:
            break
        values += part
    if len(values) != expected:
        what = "truncated" if len(values) < expected else "too long"
        raise ValueError(f"{path}: {what}; its header claims {expected} values of one byte")
    return torch.frombuffer(values, dtype=torch.uint8).view(shape)
