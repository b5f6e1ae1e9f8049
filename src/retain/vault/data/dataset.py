"""Any torch Dataset: items (x, y), or x alone where there are no labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from retain.vault.data.arrays import from_arrays, number_tensor
from retain.vault.data.files import within_memory
from retain.vault.data.images import BadImage, pixels
from retain.vault.data.raw import Asked, Raw, made
from retain.vault.errors import BadData


def read_dataset(dataset: Any, asked: Asked) -> Raw:
    """Read a dataset once, in its order; x is a tensor, an array or a Pillow image.

    Raises:
        BadData: names the item that is not as it must be.
    """
    xs: list[Tensor] = []
    ys: list[Any] = []
    total, source = 0, type(dataset).__name__
    for i, item in enumerate(_items(dataset)):
        x, y = _pair(item, i, asked)
        xs.append(_input(x, i))
        ys.append(y.tolist() if isinstance(y, Tensor) else y)
        total += xs[-1].numel() * xs[-1].element_size()
        within_memory(total, source, "give it in parts")
    if not xs:
        raise BadData(f"{source} holds no example: it needs at least one")
    known = None if any(y is None for y in ys) else ys
    shape, kind = xs[0].shape, xs[0].dtype
    odd = next((i for i, x in enumerate(xs) if x.shape != shape or x.dtype != kind), None)
    if odd is None:
        return from_arrays(torch.stack(xs), known, asked, lambda i: f"item {i}", source)
    if all(x.dtype == torch.uint8 and x.dim() == 3 for x in xs):  # images of several sizes
        return _several(xs, known, asked, source)
    raise BadData(
        f"item {odd} of {source} is {xs[odd].dtype} {list(xs[odd].shape)}, but item 0 {kind} {list(shape)}; "
        "all must be alike"
    )


def _several(xs: list[Tensor], ys: list[Any] | None, asked: Asked, source: str) -> Raw:
    """Images that differ in size: their labels are read as those of arrays, the images stay as they are."""
    marks = torch.arange(len(xs))[:, None].float()
    plain = from_arrays(marks, ys, asked, lambda i: f"item {i}", source)
    return made("images", xs, plain.targets, plain.where, source, plain.sha256)


def _items(dataset: Any) -> Iterator[Any]:
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        yield from (dataset[i] for i in range(len(dataset)))  # it need not stop by itself
    else:
        yield from dataset


def _pair(item: Any, i: int, asked: Asked) -> tuple[Any, Any]:
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    if isinstance(item, tuple | list) and len(item) == 1 and not asked.labelled:
        return item[0], None
    if asked.labelled or isinstance(item, tuple | list | dict):
        hint = (
            "; a Hugging Face data set is read from its folder (save_to_disk)"
            if isinstance(item, dict)
            else ""
        )
        raise BadData(f"item {i} is a {type(item).__name__}; it must be a pair (x, label){hint}")
    return item, None


def _input(x: Any, i: int) -> Tensor:
    what = f"x of item {i}"
    if isinstance(x, Image.Image):
        try:
            return pixels(x)
        except BadImage as e:
            raise BadData(f"{what} cannot be read: {e}") from None
    t = number_tensor(x, what)
    if t.dim() == 0:
        raise BadData(f"{what} is a single number; it must be at least a vector")
    return t
