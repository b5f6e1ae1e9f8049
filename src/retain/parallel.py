"""Several processes that train one network together: who they are, and how they share and agree.

Each holds the same parameters, state and generators, and gets the same batches. Where work is shared,
each does its part of the rows, and what comes of it is added up; all else each does in full. So all
that is not shared is the same in each of them by construction.
"""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from retain.missing import NotInstalled

TIMEOUT = timedelta(minutes=10)  # that a process waits for another before it takes it for lost


class Lost(RuntimeError):
    """Another process of the run ended, or did not answer."""


class NoAccelerate(NotInstalled):
    """The package that connects the processes is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "training in several processes needs Accelerate, which is not installed: pip install accelerate"
        )


@dataclass(frozen=True)
class World:
    """The processes that train one network, as one of them sees them; one process alone by default.

    What is added up or agreed on is the same to the last bit in each of them. Every process has to
    make the same calls in the same order.
    """

    rank: int = 0  # in [0, size); process 0 alone prints and writes
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that prints and writes."""
        return self.rank == 0

    def rows(self, n: int) -> slice:
        """Its part of n rows; the parts of all, in order, are the n rows.

        >>> [World(rank, 3).rows(8) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        """
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def total(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The sum over the processes of each tensor, by one exchange for all of them."""
        if self.size == 1:
            return list(values)
        flat = torch.cat([v.detach().reshape(-1) for v in values])
        _exchange(dist.all_reduce, flat)
        pieces = flat.split([v.numel() for v in values])
        return [piece.view(v.shape).to(v.dtype) for piece, v in zip(pieces, values, strict=True)]

    def mean(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The mean over the processes of each tensor."""
        return [v.div_(self.size) for v in self.total(values)] if self.size > 1 else list(values)

    def counted(self, counts: Sequence[int]) -> list[int]:
        """The sum over the processes of each number."""
        if self.size == 1 or not counts:
            return list(counts)
        numbers: list[int] = self._reduced(counts, dist.ReduceOp.SUM)
        return numbers

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag, whether some process says yes."""
        if self.size == 1:
            return list(flags)
        return [bool(f) for f in self._reduced([int(f) for f in flags], dist.ReduceOp.MAX)]

    def check_same(self, what: str, value: object, fix: str) -> None:
        """Raise ValueError unless all processes have the same: a tensor, numbers, text, nested.

        The message is "{what} differ between the processes: {fix}".
        """
        if self.size == 1:
            return
        digest = hashlib.blake2b(repr(_summary(value)).encode(), digest_size=7).digest()
        number = int.from_bytes(digest, "big")
        high, low = self._reduced([number, -number], dist.ReduceOp.MAX)
        if high != -low:
            raise ValueError(f"{what} differ between the {self.size} processes: {fix}")

    def _reduced(self, numbers: Sequence[int], op: Any) -> list[int]:
        together = torch.tensor(numbers, dtype=torch.int64)  # on the CPU: no waiting for the accelerator
        _exchange(dist.all_reduce, together, op)
        found: list[int] = together.tolist()
        return found


ALONE = World()


def _exchange(call: Callable[..., object], *args: object) -> None:
    try:
        call(*args)
    except RuntimeError as e:
        raise Lost(
            "another process of this run ended or does not answer; start them again with --resume (resume=True)"
        ) from e


def _summary(value: object) -> object:
    """Plain data that differ where tensors do: of each its shape, and sums of its bytes in two ways."""
    if isinstance(value, Tensor):
        data = value.detach().contiguous().reshape(-1).view(torch.uint8)
        place = torch.arange(len(data), device=data.device) % 251 + 1
        return list(value.shape), int(data.sum(dtype=torch.int64)), int((data * place).sum())
    if isinstance(value, dict):
        return [(k, _summary(v)) for k, v in value.items()]
    if isinstance(value, list | tuple):
        return [_summary(v) for v in value]
    return value


def launched() -> World:
    """As torchrun or accelerate launch says in the environment; nothing is exchanged.

    Raises:
        ValueError: the environment says that there are several processes, but not which this one is.
    """
    size = int(os.environ.get("WORLD_SIZE") or 1)
    if size == 1:
        return ALONE
    if not os.environ.get("RANK"):
        raise ValueError(
            f"WORLD_SIZE is {size} and RANK is not set: start with torchrun or accelerate launch, or unset WORLD_SIZE"
        )
    return World(int(os.environ["RANK"]), size)


def device() -> torch.device:
    """The device for the model of this process: its own GPU where there are any, else the CPU."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(kind) if launched().size == 1 else _connected(kind).device


def world(device: torch.device) -> World:
    """The processes that train the network on this device, connected.

    Raises:
        ValueError: the device is another than this process's own, or no CPU or CUDA device.
        NoAccelerate: it is not installed.
    """
    if launched().size == 1:
        return ALONE
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"several processes train on the CPU or on CUDA devices, the model is on {device}")
    state = _connected(device.type)
    if "gloo" not in dist.get_backend_config():
        raise ValueError(
            "the processes are connected without gloo, over which they agree when to stop: leave it to "
            "retain.parallel.device(), or give init_process_group the backend cuda:nccl,cpu:gloo"
        )
    if device.type == "cuda" and device != state.device:
        raise ValueError(
            f"the model is on {device}, this process's own device is {state.device}: "
            "model.to(retain.parallel.device()) comes before the learner"
        )
    return World(state.process_index, state.num_processes)


def _connected(kind: str) -> Any:
    """Accelerate's state of this process; connects the processes if they are not."""
    try:
        from accelerate import PartialState
    except ImportError as e:
        raise NoAccelerate from e
    ours = not dist.is_initialized()
    if kind == "cpu":
        state = PartialState(cpu=True, timeout=TIMEOUT)
    else:  # what is agreed on goes over gloo, so that no process waits for its GPU
        state = PartialState(backend="cuda:nccl,cpu:gloo", timeout=TIMEOUT)
    if ours and dist.is_initialized():
        atexit.register(state.destroy_process_group)
    return state
