"""Columns out of Arrow tables, which Parquet files and Hugging Face folders are read as."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from retain.missing import NotInstalled
from retain.vault.data.cells import EXACT, Column, Growing
from retain.vault.errors import BadData

# MemoryError: a length in the file that is larger than any memory
BROKEN = (OSError, ValueError, OverflowError, KeyError, TypeError, MemoryError)


class NoArrow(NotInstalled):
    """The package that reads the file is not installed."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} need pyarrow, which is not installed: pip install pyarrow")


def arrow(module: str, what: str) -> Any:
    """A module of pyarrow.

    Raises:
        NoArrow: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise NoArrow(what) from None


@contextmanager
def tampered(what: str) -> Iterator[None]:
    """Whatever Arrow raises on a file that is not what it says, as a refusal that begins with `what`.

    Raises:
        BadData: it did.
    """
    try:
        yield
    except BadData:
        raise
    except (importlib.import_module("pyarrow").ArrowException, *BROKEN) as e:
        raise BadData(f"{what}: {str(e) or type(e).__name__}") from None


class ArrowColumn:
    """One column while batches of it come in."""

    def __init__(self, kind: Any, name: str, source: str, names: list[str] | None = None) -> None:
        """`kind` is its Arrow type; `names` are what its whole numbers stand for, if anything.

        Raises:
            BadData: its type is none that a column of a table can have.
        """
        types = importlib.import_module("pyarrow").types
        inner = kind.value_type if types.is_dictionary(kind) else kind
        self._integer, self._bool = types.is_integer(inner), types.is_boolean(inner)
        number = self._integer or types.is_floating(inner) or types.is_decimal(inner) or types.is_null(inner)
        texts = types.is_string(inner) or types.is_large_string(inner) or types.is_string_view(inner)
        if not (number or texts or self._bool) or (names is not None and not self._integer):
            raise BadData(
                f"{source}: column {name!r} holds {kind}, which is neither a number nor a word: convert it, or "
                f"leave it out (--ignore {name})"
            )
        self._text, self._names, self._name, self._source = texts, names, name, source
        self._grown = Growing()

    def add(self, values: Any) -> None:
        """The next values, a pyarrow Array [n].

        Raises:
            BadData: a class number stands for nothing.
        """
        if self._text or self._bool or self._names is not None or (self._integer and _beyond(values)):
            for v in values.to_pylist():
                self._grown.add("" if v is None else self._named(v))
            return
        pa = importlib.import_module("pyarrow")
        kind = values.type.value_type if pa.types.is_dictionary(values.type) else None
        numbers = (values if kind is None else values.dictionary_decode()).cast(pa.float64(), safe=False)
        self._grown.extend(np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64))

    def _named(self, value: Any) -> str:
        if self._names is None:
            return str(value)
        if value == -1:  # what a ClassLabel has where there is no label
            return ""
        if not 0 <= value < len(self._names):
            raise BadData(
                f"{self._source}: column {self._name!r} has the class {value}, of {len(self._names)}"
            )
        return str(self._names[value])

    def column(self) -> Column:
        """All that came."""
        return self._grown.column()


def _beyond(values: Any) -> bool:
    """Whether whole numbers are too large for a float64 to tell from their neighbours."""
    ends = importlib.import_module("pyarrow.compute").min_max(values).as_py()
    return any(v is not None and abs(v) > EXACT for v in ends.values())
