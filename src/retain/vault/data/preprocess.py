"""From examples as they were found to what the network takes in.

It is learned on the first data, kept with the model, and checked on all later data: what the network is
given always has one shape and one meaning, whatever the months bring.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retain.vault.data.columns import Field, field_from_json, learned
from retain.vault.data.files import within_memory
from retain.vault.data.images import natural, resized
from retain.vault.data.raw import Kind, Raw
from retain.vault.data.words import listed, plainly, short
from retain.vault.errors import BadData, Damaged

MOST_PIXELS = 50_000_000
MOST_WIDE = 100_000  # of what a table becomes
KINDS = {"images": "images", "table": "a table", "arrays": "arrays"}


@dataclass(frozen=True)
class Preprocessing:
    """What the first data taught of how to read the later.

    Images stay uint8 [C, H, W]: grey or RGB as the first were, resized where `size` is set. A table's
    columns become numbers, in the order of their names: a numeric one its value less the first data's
    mean, in standard deviations, the first median where it is missing, and whether it is missing; one of
    words a 1 for its word among those of the first data, for any other word, or for none. Arrays become
    float32 and are else left alone.

    >>> from retain.vault.data import read
    >>> p = Preprocessing.fit(read(([[1.0, 5.0], [3.0, 5.0]], ["a", "b"])))
    >>> p.shape
    (4,)
    >>> p.apply(read(([[float("nan"), 7.0]], None), labelled=None))
    (tensor([[0., 1., 2., 0.]]), ["column 'x0': 1 of 1 values missing; 2.0, the first data's median, stands in"])
    """

    kind: Kind
    shape: tuple[int, ...]  # of one example, after it
    size: int | None = None  # images are made this wide and high; None: they must have the shape
    fields: tuple[Field, ...] = ()  # of a table, one a column, in the order of the output

    @classmethod
    @plainly
    def fit(cls, raw: Raw, size: int | None = None) -> Preprocessing:
        """Learn it from the first data.

        Args:
            raw: the first data.
            size: make images this wide and high, in pixels; None: all have one size, and keep it.

        Raises:
            BadData: images differ in size and no `size` is given, or a column cannot be learned from.
        """
        if size is not None and not (isinstance(size, int) and 1 <= size * size <= MOST_PIXELS):
            raise BadData(f"size must be a whole number of pixels from 1, got {size!r}")
        if isinstance(raw.x, dict):
            fields = tuple(learned(n, raw.x[n], raw.source) for n in sorted(raw.x, key=natural))
            width = sum(f.width for f in fields)
            if width > MOST_WIDE:
                raise BadData(
                    f"{raw.source} has too many columns and words: together {width}, at most {MOST_WIDE}"
                )
            return cls("table", (width,), None, fields)
        if raw.kind == "arrays":
            return cls("arrays", tuple(raw.x[0].shape))
        shapes = [x.shape for x in raw.x] if isinstance(raw.x, list) else [raw.x.shape[1:]]
        channels = max(s[0] for s in shapes)  # grey can be shown in RGB, not the other way round
        sizes = {tuple(s[1:]) for s in shapes}
        if size is None and len(sizes) > 1:
            odd = next(i for i, s in enumerate(shapes) if s[1:] != shapes[0][1:])
            raise BadData(
                f"{raw.where(odd)} has {_pixels(shapes[odd])} pixels, but {raw.where(0)} {_pixels(shapes[0])}: give "
                "the size that all are to have (--size PIXELS)"
            )
        return cls("images", (channels, *((size, size) if size is not None else sizes.pop())), size)

    @plainly
    def apply(self, raw: Raw) -> tuple[Tensor, list[str]]:
        """x [N, *shape] as `Examples` stores it, uint8 for images and else float32, and findings in words.

        Raises:
            BadData: names the row, or the column, that is not what the first data were.
        """
        if raw.kind != self.kind:
            raise BadData(
                f"{raw.source} is {KINDS[raw.kind]}, but this model takes {KINDS[self.kind]} {self._shown()}"
            )
        notes = list(raw.notes)
        if isinstance(raw.x, dict):
            x = self._table(raw, notes)
        elif self.kind == "arrays":
            x = self._arrays(raw)
        else:
            x = self._images(raw, notes)
        copies = _copies(x)
        if copies:
            notes.append(f"{copies} of {len(x)} examples repeat an earlier one")
        return x, notes

    def _shown(self) -> str:
        return f"of {len(self.fields)} columns" if self.kind == "table" else str(list(self.shape))

    def _arrays(self, raw: Raw) -> Tensor:
        assert isinstance(raw.x, Tensor)
        if tuple(raw.x.shape[1:]) != self.shape:
            raise BadData(
                f"{raw.source} has examples {list(raw.x.shape[1:])}, but this model takes {list(self.shape)}"
            )
        return raw.x.float()

    def _table(self, raw: Raw, notes: list[str]) -> Tensor:
        assert isinstance(raw.x, dict)
        lacking = [f.name for f in self.fields if f.name not in raw.x]
        if lacking:
            raise BadData(
                f"{raw.source} lacks {'a column' if len(lacking) == 1 else 'columns'} which the first data had, "
                f"{listed(lacking)}: add {'it' if len(lacking) == 1 else 'them'}"
            )
        known = {f.name for f in self.fields}
        extra = [n for n in raw.x if n not in known]
        if extra:
            notes.append(f"columns that the first data had not are left out: {listed(extra)}")
        within_memory(len(raw) * self.shape[0] * 4, raw.source, "give it in parts")
        parts = []
        for field in self.fields:
            x, said = field.apply(raw.x[field.name], raw.where)
            parts.append(x)
            notes += said
        return torch.cat(parts, 1)

    def _images(self, raw: Raw, notes: list[str]) -> Tensor:
        assert not isinstance(raw.x, dict)
        height, width = self.shape[1:]
        groups = [raw.x] if isinstance(raw.x, Tensor) else [x[None] for x in raw.x]
        out = []
        recoloured = stretched = at = 0
        for x in groups:
            if tuple(x.shape[2:]) != (height, width):
                if self.size is None:
                    raise BadData(
                        f"{raw.where(at)} has {_pixels(x.shape[1:])} pixels, but this model takes "
                        f"{_pixels(self.shape)}: resize it, or make the vault with --size"
                    )
                x, stretched = resized(x, self.size), stretched + len(x)
            if x.shape[1] != self.shape[0]:
                x, recoloured = _recoloured(x), recoloured + len(x)
            out.append(x)
            at += len(x)
        if stretched:
            notes.append(f"{stretched} of {at} images were resized to {_pixels(self.shape)} pixels")
        if recoloured:
            kinds = "RGB, made grey" if self.shape[0] == 1 else "grey, made RGB"
            notes.append(f"{recoloured} of {at} images are {kinds} as the model takes them")
        return torch.cat(out) if out else torch.zeros(0, *self.shape, dtype=torch.uint8)

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it.

        >>> Preprocessing("images", (1, 28, 28)).to_json()
        {'schema': 1, 'kind': 'images', 'shape': [1, 28, 28], 'size': None, 'columns': []}
        """
        columns = [f.to_json() for f in self.fields]
        return {
            "schema": 1,
            "kind": self.kind,
            "shape": list(self.shape),
            "size": self.size,
            "columns": columns,
        }

    @classmethod
    def from_json(cls, d: object) -> Preprocessing:
        """What `to_json` gave.

        >>> p = Preprocessing("images", (1, 28, 28))
        >>> Preprocessing.from_json(p.to_json()) == p
        True

        Raises:
            Damaged: it is anything else.
        """
        if (
            not isinstance(d, dict)
            or set(d) != {"schema", "kind", "shape", "size", "columns"}
            or d["schema"] != 1
        ):
            raise Damaged(f"preprocessing has schema 1, kind, shape, size and columns, got {short(d)}")
        kind, shape, size, columns = d["kind"], d["shape"], d["size"], d["columns"]
        if (
            not isinstance(kind, str)
            or kind not in KINDS
            or not _is_shape(shape)
            or not isinstance(columns, list)
        ):
            raise Damaged(f"preprocessing is of one of {list(KINDS)} and says a shape, got {short(d)}")
        fields = tuple(field_from_json(c) for c in columns)
        names = [f.name for f in fields]
        if kind == "table":
            good = size is None and shape == [sum(f.width for f in fields)] and len(set(names)) == len(names)
        else:
            good = not fields and (size is None or (kind == "images" and type(size) is int))
            good = good and (kind != "images" or (len(shape) == 3 and shape[0] in (1, 3)))
            good = good and (size is None or shape[1:] == [size, size])
        if not good:
            raise Damaged(f"preprocessing of {kind} contradicts itself: {short(d)}")
        return cls(kind, tuple(shape), size, fields)  # type: ignore[arg-type]


def _is_shape(shape: object) -> bool:
    return (
        isinstance(shape, list)
        and 0 < len(shape) <= 8
        and all(type(n) is int and n > 0 for n in shape)
        and math.prod(shape) < 2**31
    )


def _pixels(shape: Any) -> str:
    return f"{shape[2]} x {shape[1]}"


def _recoloured(x: Tensor) -> Tensor:
    """Images uint8 [N, 1, H, W] as [N, 3, H, W], or the other way round, by the luma of ITU-R BT.601."""
    if x.shape[1] == 1:
        return x.expand(-1, 3, -1, -1).contiguous()
    weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32)[
        :, None, None
    ]  # of 65536, as Pillow does it
    return ((x.int() * weights).sum(1, keepdim=True) + 32768).bitwise_right_shift(16).to(torch.uint8)


def _copies(x: Tensor) -> int:
    """How many examples are the same as an earlier one."""
    rows = np.ascontiguousarray(x.flatten(1).numpy())
    return len(rows) - len({hashlib.blake2b(row, digest_size=16).digest() for row in rows})
