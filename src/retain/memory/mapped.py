"""A memory that lies in a file: more examples than fit into RAM, at the same cost each.

`Mapped` has what `Slots` has, its slots mapped to places in a file, so `Reservoir` and `Balanced` can stand
on either. What it holds are not the rows but where they are; a checkpoint stores that and no row.
`checkpoint.save` marks the file before it writes and settles it afterwards; a state that is read back
finds its rows as they were when it was saved (how, and through which crashes: `rowfile`).

Images that were bytes stay bytes where that is exact. A batch has them as (k / 255 - mean) / sd in floating
point; mean and sd follow from what the data's values lie in, and every batch is checked, bit for bit, to be
what its bytes will be read as. If the first one is not, or it is not known to have been bytes, rows are kept
in the dtype of the batches: float32 is four times as many bytes.
"""

from __future__ import annotations

import atexit
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from retain.memory.rowfile import RowFile
from retain.memory.slots import Slots, pick
from retain.memory.undo import BadMemory
from retain.types import Batch, Problem

FEW = 8  # times as many filled slots as are drawn, up to which all are permuted
HEAD = 16  # bytes of a row before x: y and task
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    f"{u}i": 1 << 10 * p for p, u in enumerate("KMGT", 1)
}

_OPEN: dict[tuple[int, str], RowFile] = {}  # by process and folder: what was forked must not write


class Mapped(NamedTuple):
    """Room for `capacity` examples in a folder, of which the first `filled` are real."""

    x: Tensor  # [0, ...]: shape, dtype and device of the examples that are drawn
    path: str  # the folder
    id: str  # of this memory among all that ever lay there
    capacity: int
    filled: int
    version: int  # how often it has been written to
    scale: tuple[float, float] | None  # bytes are read as (k / 255 - mean) / sd; None: kept as they are

    @classmethod
    def like(
        cls, batch: Batch, size: int, folder: str | Path | None = None,
        bounds: tuple[float, float] | None = None,
    ) -> Mapped:  # fmt: skip
        """An empty memory for examples such as those of the batch, in a file of at most `size` bytes.

        Args:
            batch: x [N, ...] of any dtype, y [N] int64, task [N].
            size: bytes. The file takes up what was written; the undo log may come to as much again.
            folder: where; a memory that lies there is overwritten. None: a temporary one, which is removed
                when the process ends, so that no later one can go on with it. (It should not be in RAM
                itself: TMPDIR says where.)
            bounds: what all values lie in if they come from bytes (`Spec.range`).

        Raises:
            ValueError: there is not room for one example, or labels are not numbers.
            BadMemory: the folder holds something else, or another run uses it.
        """
        x = batch.x.detach()
        made = cls(x[:0].clone(), "", secrets.token_hex(8), 0, 0, 0, _scale(x, bounds))
        capacity = size // made._row
        if capacity < 1:
            raise ValueError(f"a memory of {size} bytes has not room for one example, of {made._row} bytes")
        place = _temporary() if folder is None else Path(folder).absolute()
        made = made._replace(path=str(place), capacity=capacity)
        made._close()
        _OPEN[os.getpid(), made.path] = RowFile.create(place, made._header)
        return made

    def put(self, slots: list[int], batch: Batch, rows: list[int]) -> Mapped:
        """Write the batch's `rows` into `slots`; where a slot comes twice the later row stays.

        Raises:
            ValueError: they do not fit to what is kept.
            OSError: the disk is full: this memory is then good for nothing but its last checkpoint.
        """
        last = dict(zip(slots, rows, strict=True))
        if not last:
            return self
        to = sorted(last)
        of = torch.tensor([last[s] for s in to], device=batch.x.device)
        if to[0] < 0 or to[-1] >= self.capacity:
            raise IndexError(f"slots {to[0]} to {to[-1]} of a memory of {self.capacity}")
        packed, file = self._packed(batch, of), self._file
        file.write(to, packed)
        return self._replace(filled=max(self.filled, 1 + to[-1]), version=file.version)

    def draw(self, n: int, rng: Generator) -> Batch:
        """n of the filled slots, uniformly: without replacement as far as they go."""
        return self.at(self.pick(n, rng))

    def pick(self, n: int, rng: Generator) -> Tensor:
        """Which slots `draw` gives: [n]. At the same cost however many are filled."""
        return pick_few(n, self.filled, rng).to(self.x.device)

    def at(self, i: Tensor) -> Batch:
        """What lies in the slots i [n]."""
        # numpy: of so few numbers, each call of torch's costs several of its
        rows, device = self._file.read(i.cpu()), self.x.device
        head = rows[:, :HEAD].view(np.int64).T.copy()
        y, task = torch.from_numpy(head[0]), torch.from_numpy(head[1])
        kept = rows[:, HEAD : HEAD + self._bytes]
        if self.scale:
            x = _read(kept, self.x.dtype, self.scale)
        else:
            x = torch.from_numpy(kept).clone(memory_format=torch.contiguous_format).view(self.x.dtype)
        return Batch(x.view(len(i), *self.x.shape[1:]).to(device), y.to(device), task.to(device))

    def all(self) -> Batch:
        """The filled slots: all of them in RAM at once."""
        return self.at(torch.arange(self.filled))

    def mark(self) -> None:
        """To be called before this state is written to a checkpoint."""
        self._file.mark(self.filled)

    def settle(self) -> None:
        """To be called once that checkpoint has taken the place of the one before it."""
        self._file.settle()

    def _packed(self, batch: Batch, of: Tensor) -> Tensor:
        """The rows `of` [n] of a batch as they are kept: [n, row] uint8."""
        x = batch.x.detach().index_select(0, of)
        if x.shape[1:] != self.x.shape[1:] or x.dtype != self.x.dtype or batch.y.dim() != 1:
            raise ValueError(
                f"this memory keeps examples {list(self.x.shape[1:])} {self.x.dtype} with a label each, not "
                f"{list(x.shape[1:])} {x.dtype} with labels {list(batch.y.shape[1:])}"
            )
        x = x.cpu()
        if self.scale is not None:
            k = _bytes(x, self.scale)
            if not _same(_read(k.numpy(), x.dtype, self.scale), x):
                raise ValueError(
                    "this memory keeps bytes, as the data are, but the batch has other values: if it was "
                    "augmented, do so from the first batch on, or keep the memory in RAM"
                )
            x = k
        head = torch.stack((batch.y[of].cpu().long(), batch.task[of].cpu().long()), 1).view(torch.uint8)
        x = x.reshape(len(of), -1).contiguous().view(torch.uint8)
        return torch.cat((head, x, x.new_zeros(len(of), self._row - HEAD - self._bytes)), 1)

    @property
    def _bytes(self) -> int:
        """Of one x as it is kept."""
        return self.x.shape[1:].numel() * (1 if self.scale else self.x.element_size())

    @property
    def _row(self) -> int:
        """Bytes of one example: y, task, x, and up to a multiple of 8."""
        return HEAD + -(-self._bytes // 8) * 8

    @property
    def _header(self) -> dict[str, Any]:
        """What must be the same in the folder and here."""
        return {
            "id": self.id,
            "capacity": self.capacity,
            "row": self._row,
            "shape": list(self.x.shape[1:]),
            "read as": str(self.x.dtype),
            "kept as": "torch.uint8" if self.scale else str(self.x.dtype),
            "mean and sd": list(self.scale) if self.scale else None,
        }

    @property
    def _file(self) -> RowFile:
        """The rows, opened, and brought to this state's version."""
        key = os.getpid(), self.path
        file = _OPEN.get(key)
        if file is None or (file.id, file.version) != (self.id, self.version):
            self._close()
            file = _OPEN[key] = RowFile.open(Path(self.path), self._header, self.version, self.filled)
        return file

    def _close(self) -> None:
        """Give the folder free, if this process has it open."""
        file = _OPEN.pop((os.getpid(), self.path), None)
        if file is not None:
            file.close()


def slots_for(
    problem: Problem, batch: Batch, capacity: int, size: str | None, folder: str | None
) -> Slots | Mapped:
    """Empty slots for examples such as those of the batch: `capacity` in RAM, or as many as fit into a file.

    Args:
        problem: says where the file may lie, if `folder` does not.
        batch: of the examples.
        capacity: of the slots in RAM.
        size: of the file, such as 2GB; None: in RAM.
        folder: of the file.

    Raises:
        ValueError: a file, where several processes train: each would need its own.
    """
    if size is None:
        return Slots.like(batch, capacity)
    if problem.world.size > 1:
        raise ValueError("memory_bytes must be none where several processes train: keep the memory in RAM")
    return Mapped.like(batch, in_bytes(size), folder or problem.spec.room, problem.spec.range)


def mapped_in(tree: Any) -> Iterator[Mapped]:
    """All memories on disk that are part of a nested state."""
    if isinstance(tree, Mapped):
        yield tree
    elif isinstance(tree, dict | tuple | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from mapped_in(value)


def pick_few(n: int, held: int, rng: Generator) -> Tensor:
    """n of the numbers below `held`, uniformly, as `pick`, at a cost of n alone (other draws, same law)."""
    if held <= FEW * n:  # a permutation of all costs less than to look for repetitions
        return pick(n, held, rng)
    found: dict[int, None] = {}  # the first n different ones of an endless sequence are a uniform sample
    while len(found) < n:
        found |= dict.fromkeys(torch.randint(held, (n + n // 4,), generator=rng).tolist())
    return torch.tensor(list(islice(found, n)))


def in_bytes(text: str) -> int:
    """How many bytes a size such as 500MB, 2 GB or 1.5GiB is.

    >>> in_bytes("2GB"), in_bytes("1.5 KiB")
    (2000000000, 1536)

    Raises:
        ValueError: it is not such a size.
    """
    m = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]i?)?B?", text.strip(), re.IGNORECASE)
    if m is None:
        raise ValueError(f"a size is a number with a unit, such as 500MB or 2GiB, got {text!r}")
    unit = (m[2] or "").upper().replace("I", "i")
    return int(float(m[1]) * UNITS[unit])


def _scale(x: Tensor, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    """Mean and sd with which x is exactly (k / 255 - mean) / sd; None where there are none."""
    if bounds is None or not x.is_floating_point():
        return None
    sd = 1 / (bounds[1] - bounds[0])
    scale = (-bounds[0] * sd + 0.0, sd)
    x = x.cpu()
    return scale if _same(_read(_bytes(x, scale).numpy(), x.dtype, scale), x) else None


def _bytes(x: Tensor, scale: tuple[float, float]) -> Tensor:
    """The nearest k."""
    mean, sd = scale
    return x.mul(255 * sd).add_(255 * mean).round_().clamp_(0, 255).nan_to_num_(0).to(torch.uint8)


def _read(k: NDArray[np.uint8], dtype: torch.dtype, scale: tuple[float, float]) -> Tensor:
    """As `Examples.read` reads them."""
    if dtype == torch.float32:  # the same bits, but converted and divided piece by piece, within the cache
        x = torch.from_numpy(np.divide(k, np.float32(255), dtype=np.float32))
    else:
        x = torch.from_numpy(k).to(dtype).div_(255)
    return x if scale == (0.0, 1.0) else x.sub_(scale[0]).div_(scale[1])


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit."""
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return a.contiguous().view(whole).equal(b.contiguous().view(whole))


def _temporary() -> Path:
    place, owner = tempfile.mkdtemp(prefix="retain-memory-"), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(place, ignore_errors=True)

    atexit.register(remove)
    return Path(place)


__all__ = ["BadMemory", "Mapped", "in_bytes", "mapped_in", "pick_few"]
