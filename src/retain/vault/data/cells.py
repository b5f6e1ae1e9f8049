"""Columns of a table: numbers, or text, and what counts as one or the other.

A cell is missing if it is empty, NA, NaN, null or ?. A column is numeric if every other cell of it is a
number. What a column was written as is kept wherever its numbers do not say it ("007" is not "7"), since
a later month may have only such cells in a column of codes.
"""

from __future__ import annotations

import math
import re
import sys
from array import array
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.vault.errors import BadData

MISSING = frozenset({"", "na", "nan", "null", "?"})  # whatever the case of the letters
NUMBER = re.compile(
    r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?)", re.IGNORECASE
)
EXACT = 2**53  # whole numbers up to here are the same in float64
LARGEST = 1e38  # of a number in a table: its square is still a float64, and it is a float32


def number_in(cell: str) -> float | None:
    """The number that a cell is written as; None: it is none.

    >>> number_in("-1.5e3"), number_in("1_000"), number_in("12 kg")
    (-1500.0, None, None)
    """
    return float(cell) if NUMBER.fullmatch(cell) else None


def plain(number: float) -> str:
    """A number as it is usually written: whole ones without a point, the rest with the fewest digits.

    >>> plain(3.0), plain(0.1)
    ('3', '0.1')
    """
    return str(int(number)) if abs(number) <= EXACT and number == int(number) else repr(number)


def texts(numbers: Iterable[float]) -> list[str | None]:
    """Numbers as text; None where one is NaN, which stands for missing."""
    return [None if math.isnan(n) else plain(n) for n in numbers]


class Column(NamedTuple):
    """One column [N] of a table; at least one of the two is there."""

    numbers: Tensor | None  # float64 [N], NaN: missing; None: some cell is no number
    text: list[str | None] | None  # as it was written, None: missing; absent where the numbers say it

    @property
    def size(self) -> int:
        """N."""
        return len(self.names() if self.numbers is None else self.numbers)

    def names(self) -> list[str | None]:
        """Every cell as text; None: missing."""
        if self.text is not None:
            return self.text
        return [] if self.numbers is None else texts(self.numbers.tolist())

    def subset(self, index: Tensor) -> Column:
        """The cells that `index` [n] names, in its order."""
        rows = index.tolist()
        return Column(
            None if self.numbers is None else self.numbers[index],
            None if self.text is None else [self.text[i] for i in rows],
        )


class Growing:
    """A column while it is read: numbers for as long as every cell is one.

    >>> g = Growing()
    >>> g.add("1", "NA", "2.50")
    >>> g.column()
    Column(numbers=tensor([1.0000,    nan, 2.5000], dtype=torch.float64), text=['1', None, '2.50'])
    """

    def __init__(self) -> None:
        self._numbers: array[float] | None = array("d")
        self._text: list[str | None] | None = None

    def add(self, *cells: str) -> None:
        """More cells, as they were written; spaces around them do not count."""
        for cell in map(str.strip, cells):
            number = number_in(cell) if self._numbers is not None else None
            if number is not None and self._text is None and plain(number) == cell:
                self._numbers.append(number)  # type: ignore[union-attr]  # as most cells are
            else:
                self._add(None if cell.casefold() in MISSING else sys.intern(cell), number)

    def _add(self, cell: str | None, number: float | None) -> None:
        if (
            self._text is None and cell is not None
        ):  # its number, if it is one, does not say how it was written
            self._text = [] if self._numbers is None else texts(self._numbers)
        if self._text is not None:
            self._text.append(cell)
        if number is None and cell is not None:
            self._numbers = None
        if self._numbers is not None:
            self._numbers.append(math.nan if number is None else number)

    def extend(self, numbers: NDArray[np.float64]) -> None:
        """More cells [n] that were numbers where they come from; NaN: missing."""
        if self._numbers is not None:
            self._numbers.frombytes(np.ascontiguousarray(numbers).tobytes())
        if self._text is not None:
            self._text.extend(texts(numbers.tolist()))

    @property
    def size(self) -> int:
        """How many cells came."""
        return len(self._numbers if self._text is None else self._text)  # type: ignore[arg-type]

    def column(self) -> Column:
        """What was read so far."""
        if self._numbers is None:
            return Column(None, self._text)
        return Column(torch.from_numpy(np.array(self._numbers, dtype=np.float64)), self._text)


def finite(columns: dict[str, Column], where: Callable[[int], str]) -> None:
    """Refuse a table with a number that is infinite, or too large to be computed with.

    Raises:
        BadData: names the row, the column and the number.
    """
    for name, column in columns.items():
        if column.numbers is None:
            continue
        large = (column.numbers.abs() > LARGEST).nonzero()
        if len(large):
            row = int(large[0])
            raise BadData(
                f"{where(row)}: column {name!r} is {column.numbers[row].item()}; numbers must be finite and at most "
                f"{LARGEST:g} in size: correct it, or leave the cell empty"
            )
