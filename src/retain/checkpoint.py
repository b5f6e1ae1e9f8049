"""Nested state in one safetensors file: the tensors as they are, their structure as JSON in its header.

What may be stored: tensors, int, float, bool, str, None, nested in NamedTuple, tuple, list or dict
with str keys. Reading runs no code from the file: a NamedTuple is looked up by name among classes
that are already imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from retain.files import write_atomically
from retain.memory.mapped import mapped_in

FORMAT = "retain-checkpoint-1"


class BadCheckpoint(ValueError):
    """The file is no checkpoint, or a damaged one."""


def save(path: Path, tree: Any) -> None:
    """Write atomically: a crash leaves the old file or the new one.

    Memories on disk that are part of the tree are where they are, and are not copied: they can be
    brought back to what they are now, until the next time that a checkpoint with them is saved.
    """
    data = dumps(tree)
    for memory in mapped_in(tree):
        memory.mark()
    write_atomically(path, data)
    for memory in mapped_in(tree):
        memory.settle()


def dumps(tree: Any) -> bytes:
    """The content of the file that `save` writes: the same for the same state."""
    found: dict[str, Tensor] = {}
    structure = _pack(tree, found)
    return _in_order(to_bytes(found, {"format": FORMAT, "structure": json.dumps(structure)}))


def _in_order(data: bytes) -> bytes:
    """The same file with the entries of its header in one order: safetensors writes its metadata in any."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # what follows starts at a multiple of 8
    return len(header).to_bytes(8, "little") + header + data[end:]


def loads(data: bytes, name: str) -> Any:
    """What `dumps` was given.

    Raises:
        BadCheckpoint: names the file that the bytes are from, and what is wrong with them.
    """
    try:
        found = from_bytes(data)  # checks the header's bounds; what follows reads it again for its words
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header.get("__metadata__", {})
        if metadata.get("format") != FORMAT:
            raise BadCheckpoint(f"{name} is not a {FORMAT} file (format: {metadata.get('format')!r})")
        return _unpack(json.loads(metadata["structure"]), found)
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError, AttributeError) as e:
        if isinstance(e, BadCheckpoint):
            raise
        raise BadCheckpoint(f"{name} is damaged: {e}") from e


def load(path: Path) -> Any:
    """What `save` was given.

    Raises:
        BadCheckpoint: names the file and what is wrong with it.
        FileNotFoundError: there is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    return loads(path.read_bytes(), str(path))


def _pack(tree: Any, found: dict[str, Tensor]) -> Any:
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    if isinstance(tree, Tensor):
        name = str(len(found))
        found[name] = tree.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(tree, dict):
        if not all(isinstance(k, str) for k in tree):
            raise TypeError(f"state dicts have str keys, got {list(tree)[:3]}")
        return {"dict": [[k, _pack(v, found)] for k, v in tree.items()]}
    if isinstance(tree, list):
        return {"list": [_pack(v, found) for v in tree]}
    if isinstance(tree, tuple):
        kind = type(tree)
        of = None if kind is tuple else f"{kind.__module__}:{kind.__qualname__}"
        return {"tuple": [_pack(v, found) for v in tree], "of": of}
    raise TypeError(
        f"state holds a {type(tree).__name__}; it may hold tensors, numbers, str, None in containers"
    )


def _unpack(data: Any, found: dict[str, Tensor]) -> Any:
    if not isinstance(data, dict):
        return data
    if "tensor" in data:
        return found[data["tensor"]]
    if "dict" in data:
        return {k: _unpack(v, found) for k, v in data["dict"]}
    if "list" in data:
        return [_unpack(v, found) for v in data["list"]]
    values = [_unpack(v, found) for v in data["tuple"]]
    return tuple(values) if data["of"] is None else _named_tuple(data["of"])(*values)


def _named_tuple(name: str) -> type:
    module, _, qualname = name.partition(":")
    kind = getattr(sys.modules.get(module), qualname, None)
    if not (isinstance(kind, type) and issubclass(kind, tuple) and "_fields" in vars(kind)):
        raise BadCheckpoint(
            f"state of a kind that is not at hand: {name!r}; import the method that it belongs to"
        )
    return kind
