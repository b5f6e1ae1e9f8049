"""Arrays: npz and safetensors files, and pairs in Python.

uint8 of three or four dimensions are images ([N, H, W], [N, C, H, W] or [N, H, W, C], C being 1, 3 or 4);
two dimensions are a table with the columns x0, x1, ...; anything else is taken as it is. In a file the
arrays are called x and y, images and labels, or data and target.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from retain.vault.data.cells import EXACT, Column, Growing, finite
from retain.vault.data.files import opened, within_memory
from retain.vault.data.npz import open_npz
from retain.vault.data.raw import Asked, Raw, made
from retain.vault.data.targets import targets_of
from retain.vault.data.words import listed, short
from retain.vault.errors import BadData

Array = Tensor | NDArray[Any]
PAIRS = (("x", "y"), ("images", "labels"), ("data", "target"))
MOST_COLUMNS = 10_000
CHANNELS = (1, 3, 4)


def number_tensor(values: Any, what: str) -> Tensor:
    """Real numbers as bool, uint8, int64, float32 or float64 on the CPU: whatever holds them exactly.

    Raises:
        BadData: they are none, or do not form an array.
    """
    if isinstance(values, Tensor):
        t = values.detach().cpu()
        if t.is_complex() or t.is_quantized or t.layout != torch.strided:
            raise BadData(f"{what} is {t.dtype} ({t.layout}); it must be a dense array of real numbers")
        if t.dtype in (torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64):
            return t
        return t.to(torch.float32 if t.is_floating_point() else torch.int64)
    try:
        a = np.asarray(values)
    except (ValueError, TypeError) as e:
        raise BadData(f"{what} is no array: {e}") from None
    if a.dtype.kind not in "biuf" or a.dtype.itemsize > 8:
        raise BadData(f"{what} is an array of {a.dtype}; it must hold real numbers of at most 8 bytes")
    if a.dtype.kind == "u" and a.dtype.itemsize == 8 and a.size and a.max() > np.iinfo(np.int64).max:
        raise BadData(f"{what} holds {a.max()}, which is more than an int64 holds: give it as float64")
    if a.dtype.kind == "f":
        a = a.astype(np.float64 if a.dtype.itemsize == 8 else np.float32)
    elif a.dtype not in (np.bool_, np.uint8):
        a = a.astype(np.int64)
    return torch.from_numpy(np.array(a, order="C"))  # a copy: theirs may change


def label_column_of(values: Any, what: str) -> list[Column]:
    """Labels [N] or [N, K] as columns: text, or numbers.

    Raises:
        BadData: they are neither, or of another shape.
    """
    if not isinstance(values, Tensor):
        try:
            values = np.asarray(values)
        except (ValueError, TypeError) as e:
            raise BadData(f"{what} is no array: {e}") from None
        if values.dtype.kind in "UOT":
            return [_text(values, what)]
    t = number_tensor(values, what)
    if t.dim() not in (1, 2) or (t.dim() == 2 and not 0 < t.shape[1] <= MOST_COLUMNS):
        raise BadData(f"{what} has shape {list(t.shape)}; labels are [N], or [N, K] for K numbers an example")
    return [_column(c) for c in (t[:, None] if t.dim() == 1 else t).T]


def _text(values: NDArray[Any], what: str) -> Column:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise BadData(f"{what} has shape {list(values.shape)}; class names are [N]")
    if values.dtype.kind == "U":
        codes = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")).view(np.uint32)
        if codes.size and codes.max() > sys.maxunicode:  # a file may hold any; Python has no such text
            raise BadData(f"{what} holds the character {codes.max():#x}, which there is not")
    grown = Growing()
    for i, v in enumerate(values.tolist()):
        if isinstance(v, bool) or not isinstance(v, str | int | float | None):
            raise BadData(f"{what}[{i}] is {short(v)}; a label is a str or a number")
        grown.add("" if v is None else str(v))
    return grown.column()


def _column(t: Tensor) -> Column:
    if t.dtype == torch.bool:
        return Column(None, [str(v) for v in t.tolist()])
    large = t.dtype == torch.int64 and bool((t.abs() > EXACT).any())
    return Column(t.double(), [str(v) for v in t.tolist()] if large else None)


def from_arrays(
    x: Any, y: Any | None, asked: Asked, where: Callable[[int], str], source: str, sha256: str | None = None
) -> Raw:
    """x [N, ...] and y [N] or [N, K] as examples, images, table or as they are, by the shape of x.

    Raises:
        BadData: names the row, or the shape, that is not as it must be.
    """
    t = number_tensor(x, f"x of {source}")
    if t.dim() < 2:
        raise BadData(
            f"x of {source} has shape {list(t.shape)}; it must be [N, ...], an example at least a vector"
        )
    if len(t) == 0 or t.numel() == 0:
        raise BadData(f"{source} holds no example: x has shape {list(t.shape)}")
    targets = None
    if asked.labelled and y is None:
        raise BadData(f"{source} has no labels: give them as y [N]")
    if y is not None and asked.labelled is not False:
        columns = label_column_of(y, f"y of {source}")
        if columns[0].size != len(t):
            raise BadData(
                f"{source} has {len(t)} rows of x but {columns[0].size} of y; each x needs one label"
            )
        if asked.target == "class" and len(columns) > 1:
            raise BadData(f"y of {source} has {len(columns)} columns; a class is one: [N]")
        targets = targets_of(columns, ("y",) * len(columns), asked.target, where)
    sha256 = sha256 or _digest(t, targets)
    if t.dtype == torch.uint8 and t.dim() > 2:
        return made("images", _images(t, source), targets, where, source, sha256)
    if t.dim() == 2:
        table = {n: c for n, c in _table(t, source).items() if n not in asked.ignore}
        finite(table, where)
        return made("table", table, targets, where, source, sha256)
    return made("arrays", _floats(t, where), targets, where, source, sha256)


def _digest(x: Tensor, targets: list[str] | Tensor | None) -> str:
    sha = hashlib.sha256(f"{x.dtype} {list(x.shape)}\n".encode())
    sha.update(x.contiguous().numpy().tobytes())
    sha.update(repr(targets.tolist() if isinstance(targets, Tensor) else targets).encode())
    return sha.hexdigest()


def _images(t: Tensor, source: str) -> Tensor:
    if t.dim() == 3:
        return t[:, None].contiguous()
    if t.dim() == 4 and t.shape[1] in CHANNELS:
        return t[:, : min(t.shape[1], 3)].contiguous()  # a fourth channel is transparency
    if t.dim() == 4 and t.shape[3] in CHANNELS:
        return t[..., : min(t.shape[3], 3)].permute(0, 3, 1, 2).contiguous()
    raise BadData(
        f"x of {source} is uint8 {list(t.shape)}; images are [N, H, W], [N, C, H, W] or [N, H, W, C] with C one of "
        f"{CHANNELS}: for anything else give floats"
    )


def _table(t: Tensor, source: str) -> dict[str, Column]:
    if t.shape[1] > MOST_COLUMNS:
        raise BadData(
            f"x of {source} has {t.shape[1]} columns, more than the {MOST_COLUMNS:,} of a table: give it as [N, 1, "
            f"{t.shape[1]}] to have it taken as it is"
        )
    return {f"x{k}": Column(column.double().contiguous(), None) for k, column in enumerate(t.T)}


def _floats(t: Tensor, where: Callable[[int], str]) -> Tensor:
    if not t.is_floating_point():
        return t.to(torch.int64)
    t = t.float()
    bad = (~t.flatten(1).isfinite()).any(1).nonzero()
    if len(bad):
        raise BadData(
            f"{where(int(bad[0]))} holds NaN or an infinite number; each must be finite, as a float32"
        )
    return t


def read_pair(pair: Sequence[Any], asked: Asked) -> Raw:
    """(x, y) in Python, or (x, None); tensors, arrays or lists."""
    if len(pair) != 2:
        raise BadData(
            f"arrays are given as the pair (x, y), or (x, None) without labels, got {len(pair)} of them"
        )
    x, y = pair
    return from_arrays(x, y, asked, lambda i: f"x[{i}]", "the arrays")


def chosen(names: Sequence[str], asked: Asked, source: str) -> tuple[str, str | None]:
    """What the arrays of a file are called that hold x and y; None for y where there is none.

    Raises:
        BadData: it has no such pair; lists what it has.
    """
    for x, y in PAIRS:
        y = asked.label if isinstance(asked.label, str) and asked.label in names else y
        if x in names and (y in names or not asked.labelled):
            return x, y if y in names else None
    pairs = " or ".join(f"{x} and {y}" for x, y in PAIRS)
    raise BadData(f"{source} has the arrays {listed(names)}; it needs {pairs}")


def read_npz(path: Path, asked: Asked) -> Raw:
    """The arrays of an npz file; objects in it, which would have to be unpickled, are refused."""
    with opened(path) as (f, sha), open_npz(f, path.name) as arrays:
        x, y = chosen(arrays.names, asked, path.name)
        return from_arrays(
            arrays.read(x), None if y is None else arrays.read(y), asked, lambda i: f"{path.name}, {x}[{i}]",
            path.name, sha,
        )  # fmt: skip


def read_safetensors(path: Path, asked: Asked) -> Raw:
    """The tensors of a safetensors file; its class labels are whole numbers, since it holds no text."""
    with opened(path) as (f, sha):
        within_memory(f.seek(0, 2), path.name, "give it in parts")
    try:
        with safe_open(str(path), framework="pt") as arrays:
            x, y = chosen(list(arrays.keys()), asked, path.name)
            found = arrays.get_tensor(x).clone(), None if y is None else arrays.get_tensor(y).clone()
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError, OverflowError) as e:
        if isinstance(e, BadData):
            raise
        raise BadData(f"{path.name} is no safetensors file that can be read: {e}") from None
    return from_arrays(*found, asked, lambda i: f"{path.name}, {x}[{i}]", path.name, sha)
