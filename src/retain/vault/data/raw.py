"""Examples as they were found, whatever they were found in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from retain.vault.data.cells import Column, finite
from retain.vault.data.targets import Target, label_columns, targets_of, whole
from retain.vault.data.words import printable
from retain.vault.errors import BadData

Kind = Literal["images", "table", "arrays"]


@dataclass(frozen=True, eq=False)
class Raw:
    """N examples as they were found; nothing is converted that depends on earlier data.

    >>> from retain.vault.data import read
    >>> raw = read(([[1, 0, 0], [0, 1, 0], [0, 0, 1]], ["a", "b", "a"]))
    >>> len(raw), raw.kind, sorted(raw.x), raw.targets, raw.where(2)
    (3, 'table', ['x0', 'x1', 'x2'], ['a', 'b', 'a'], 'x[2]')
    """

    kind: Kind
    # images: uint8 [N, C, H, W], or N of [C, H, W] where they differ; arrays: [N, ...] float32 or int64
    x: Tensor | list[Tensor] | dict[str, Column]
    targets: (
        list[str] | Tensor | None
    )  # classes [N]; float32 [N, K] in {0, 1} or to regress on; None: no labels
    integers: bool  # whether all class names are whole numbers
    where: Callable[[int], str]  # how example i is called in a message
    source: str  # what was given, for people
    sha256: str  # of the content that was read
    label: tuple[str, ...] = ()  # the columns that hold the targets, where columns have names
    notes: tuple[str, ...] = ()  # what was left out, or changed, in words

    def __len__(self) -> int:
        if isinstance(self.x, dict):
            return next(iter(self.x.values())).size
        return len(self.x)

    def subset(self, index: Tensor) -> Raw:
        """Those that `index` [n] int64 names, in its order; each is called what it was called."""
        rows = [int(i) for i in index.tolist()]
        x: Tensor | list[Tensor] | dict[str, Column]
        if isinstance(self.x, dict):
            x = {name: column.subset(index) for name, column in self.x.items()}
        else:
            x = self.x[index] if isinstance(self.x, Tensor) else [self.x[i] for i in rows]
        targets = self.targets[index] if isinstance(self.targets, Tensor) else self.targets
        if isinstance(targets, list):
            targets = [targets[i] for i in rows]
        before = self.where
        return replace(self, x=x, targets=targets, where=lambda i: before(rows[i]))


@dataclass(frozen=True)
class Asked:
    """What the caller of `read` said of the data."""

    target: Target = "class"
    label: str | tuple[str, ...] | None = None
    labelled: bool | None = True
    ignore: tuple[str, ...] = ()
    split: str | None = None
    size: int | None = None


def from_columns(
    columns: dict[str, Column],
    asked: Asked,
    where: Callable[[int], str],
    source: str,
    sha256: str,
    images: Tensor | list[Tensor] | None = None,
) -> Raw:
    """Columns, some of which are labels, as examples: of the rest, or of `images` [N, C, H, W].

    Raises:
        BadData: names the row or the column that is not as it must be.
    """
    labels = label_columns(list(columns), asked.label, asked.target, asked.labelled, source)
    rest = {n: c for n, c in columns.items() if n not in labels and n not in asked.ignore}
    notes: list[str] = []
    targets = None
    if labels and asked.labelled is not False:
        chosen = [columns[n] for n in labels]
        if asked.labelled or all(c is not None for column in chosen for c in column.names()):
            targets = targets_of(chosen, labels, asked.target, where)
        else:
            notes.append("some rows have no label, so no label is used")
    x: Tensor | list[Tensor] | dict[str, Column]
    if images is None:
        finite(rest, where)
        kind, x = "table", rest
    else:
        kind, x = "images", images
        notes += [f"column {name!r} is not used: the examples are images" for name in rest]
    return made(kind, x, targets, where, source, sha256, labels, notes)  # type: ignore[arg-type]


def made(
    kind: Kind,
    x: Tensor | list[Tensor] | dict[str, Column],
    targets: list[str] | Tensor | None,
    where: Callable[[int], str],
    source: str,
    sha256: str,
    label: tuple[str, ...] = (),
    notes: Sequence[str] = (),
) -> Raw:
    """A Raw of at least one example.

    Raises:
        BadData: there is none.
    """
    integers = isinstance(targets, list) and whole(set(targets))
    raw = Raw(
        kind, x, targets, integers, lambda i: printable(where(i)), printable(source), sha256, label,
        tuple(printable(n) for n in notes),
    )  # fmt: skip
    if raw.x == {}:
        raise BadData(f"{source} has no column besides its labels: an example needs at least one value")
    if len(raw) == 0:
        raise BadData(f"{source} holds no example: it needs at least one")
    return raw
