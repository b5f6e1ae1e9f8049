"""What is learned of each column of a table, and how later values of it are read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retain.vault.data.cells import LARGEST, Column, number_in
from retain.vault.data.targets import LONGEST
from retain.vault.data.words import short
from retain.vault.errors import BadData, Damaged

MOST_WORDS = 1000
FEW_WORDS = 20  # a column of as many words or fewer is one of categories, however few rows there are
SHOWN = 3


@dataclass(frozen=True)
class Number:
    """A numeric column: its value in standard deviations from the mean, and whether it is missing."""

    name: str
    median: float
    mean: float
    sd: float  # > 0
    width = 2

    def apply(self, column: Column, where: Callable[[int], str]) -> tuple[Tensor, list[str]]:
        """Float32 [N, 2], and findings.

        Raises:
            BadData: names the first row that holds a word.
        """
        if column.numbers is None:
            row, text = next((i, t) for i, t in enumerate(column.names()) if t and number_in(t) is None)
            raise BadData(
                f"{where(row)}: column {self.name!r} is {short(text)}, but the first data had numbers in it: "
                "correct it, or leave the cell empty"
            )
        missing = column.numbers.isnan()
        values = torch.where(missing, self.median, column.numbers).sub(self.mean).div(self.sd).float()
        bad = (~values.isfinite()).nonzero()
        if len(bad):
            raise BadData(
                f"{where(int(bad[0]))}: column {self.name!r} is {column.numbers[int(bad[0])].item()}, too far from the "
                f"first data's mean {self.mean:g} to be computed with"
            )
        count = int(missing.sum())
        said = (
            f"column {self.name!r}: {count} of {len(missing)} values missing; {self.median}, the first data's median, "
            "stands in"
        )
        return torch.stack([values, missing.float()], 1), [said] if count else []

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"name": self.name, "kind": "number", "median": self.median, "mean": self.mean, "sd": self.sd}


@dataclass(frozen=True)
class Category:
    """A column of words: a 1 for the word, one for any that the first data had not, one for none."""

    name: str
    words: tuple[str, ...]  # of the first data, sorted

    @property
    def width(self) -> int:
        """Outputs: the words, another word, none."""
        return len(self.words) + 2

    def apply(self, column: Column, where: Callable[[int], str]) -> tuple[Tensor, list[str]]:
        """Float32 [N, width], and findings."""
        place: dict[str | None, int] = {word: k for k, word in enumerate(self.words)}
        other = len(self.words)
        place[None] = other + 1
        names = column.names()
        unknown = Counter(n for n in names if n is not None and n not in place)
        x = torch.zeros(len(names), self.width)
        x[torch.arange(len(names)), torch.tensor([place.get(n, other) for n in names])] = 1
        if not unknown:
            return x, []
        shown = ", ".join(f"{short(n)} ({count})" for n, count in unknown.most_common(SHOWN))
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        return x, [
            f"column {self.name!r} has words that the first data had not, read as other: {shown}{more}"
        ]

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"name": self.name, "kind": "category", "words": list(self.words)}


Field = Number | Category


def learned(name: str, column: Column, source: str) -> Field:
    """What the first data teach of a column. Sums are exact, so the order of the rows does not matter.

    Raises:
        BadData: it is empty, or has so many words that it names the rows rather than says something of them.
    """
    if column.numbers is not None:
        there = column.numbers[~column.numbers.isnan()].tolist()
        if not there:
            raise BadData(f"{source}: column {name!r} is empty: leave it out (--ignore {name})")
        mean = math.fsum(there) / len(there)
        sd = math.sqrt(math.fsum((v - mean) ** 2 for v in there) / len(there))
        if min(there) == max(there) or sd == 0:  # constant: a rounding error is no spread
            mean, sd = there[0], 1.0
        return Number(name, float(np.median(there)), mean, sd)
    words = {n for n in column.names() if n is not None}
    most = min(MOST_WORDS, max(FEW_WORDS, column.size // 2))
    if len(words) > most or any(len(w) > LONGEST for w in words):
        raise BadData(
            f"{source}: column {name!r} has {len(words)} different words in {column.size} rows, as a name or free text "
            f"has, not a category (at most {most}, of {LONGEST} characters): leave it out (--ignore {name})"
        )
    return Category(name, tuple(sorted(words)))


def field_from_json(d: object) -> Field:
    """What `to_json` gave.

    Raises:
        Damaged: it is anything else.
    """
    wrong = Damaged(f"{short(d)} does not describe a column")
    if not isinstance(d, dict) or not _is_name(d.get("name")):
        raise wrong
    if d.get("kind") == "number" and set(d) == {"name", "kind", "median", "mean", "sd"}:
        numbers = [d["median"], d["mean"], d["sd"]]
        if not all(type(n) is float and abs(n) <= LARGEST for n in numbers) or d["sd"] <= 0:
            raise wrong
        return Number(d["name"], *numbers)
    if d.get("kind") == "category" and set(d) == {"name", "kind", "words"}:
        words = d["words"]
        if not isinstance(words, list) or len(words) > MOST_WORDS or not all(map(_is_name, words)):
            raise wrong
        if words != sorted(set(words)):
            raise wrong
        return Category(d["name"], tuple(words))
    raise wrong


def _is_name(word: object) -> bool:
    return isinstance(word, str) and 0 < len(word) <= LONGEST
