"""What is to be predicted: which columns hold it, and the classes or numbers in them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

from retain.vault.data.cells import Column, number_in
from retain.vault.data.words import listed, short
from retain.vault.errors import BadData

Target = Literal["class", "multilabel", "regression"]
USUAL = ("label", "class", "target", "y")  # names of a column of labels that need not be given
WHOLE = re.compile(r"([+-]?)(0|[1-9][0-9]*)(?:\.0*)?")
WHOLE_NAME = re.compile(r"0|-?[1-9][0-9]*")
LONGEST = 200  # characters of the name of a class, or of a column, or of a word in one


def class_name(text: str) -> str:
    """The name of a class, one way of writing it for all data: "3", "3.0" and 3 are the same class.

    >>> class_name("3.0"), class_name("007"), class_name(" cat ")
    ('3', '007', 'cat')
    """
    text = unicodedata.normalize("NFC", text.strip())  # file systems differ in how they write "é"
    found = WHOLE.fullmatch(text)
    if found is None:
        return text
    return found[2] if found[1] in ("", "+") or found[2] == "0" else f"-{found[2]}"


def whole(names: Iterable[str]) -> bool:
    """Whether every class name is a whole number."""
    return all(WHOLE_NAME.fullmatch(n) for n in names)


def label_columns(
    names: list[str], label: str | tuple[str, ...] | None, target: Target, labelled: bool | None, source: str
) -> tuple[str, ...]:
    """Which columns hold what is to be predicted; () where there are none and none are asked for.

    Raises:
        BadData: there must be some and there are none, or it is not clear which; lists the columns.
    """
    if label is not None:
        wanted = (label,) if isinstance(label, str) else tuple(label)
        missing = [n for n in wanted if n not in names]
        if missing and (labelled or len(missing) < len(wanted)):
            raise BadData(f"{source} has no column {missing[0]!r} for labels; it has {listed(names)}")
        if target == "class" and len(wanted) != 1:
            raise BadData(
                f"classes are in one column, got {list(wanted)}: name one, or predict several (multilabel)"
            )
        return () if missing else wanted
    if labelled is False:  # whatever is there may be what the model takes in
        return ()
    usual = [n for n in USUAL if n in names]
    if target == "multilabel":
        raise BadData(
            f"{source}: name the columns of 0 and 1 to predict (--label A,B); it has {listed(names)}"
        )
    if len(usual) > 1:
        raise BadData(f"{source} may have its labels in {listed(usual)}: say which (--label COLUMN)")
    if not usual and labelled:
        raise BadData(
            f"{source} has no column called {' or '.join(USUAL)}: name it when the vault is made (retain init "
            f"--label COLUMN); it has {listed(names)}"
        )
    return tuple(usual)


def targets_of(
    columns: list[Column], names: tuple[str, ...], target: Target, where: Callable[[int], str]
) -> list[str] | Tensor:
    """Class names [N] as str, or numbers [N, K] float32: in {0, 1} for multilabel, finite for regression.

    Raises:
        BadData: names the row whose label is missing, or is not of the kind to be predicted.
    """
    if target == "class":
        return _classes(columns[0], names[0], where)
    for name, column in zip(names, columns, strict=True):
        if column.numbers is None:
            row, text = next((i, t) for i, t in enumerate(column.names()) if t and number_in(t) is None)
            raise BadData(f"{where(row)}: {name!r} is {short(text)}, which is no number to predict")
        bad = ~column.numbers.isfinite() | (column.numbers.abs() > torch.finfo(torch.float32).max)
        if target == "multilabel":
            bad |= (column.numbers != 0) & (column.numbers != 1)
        if bad.any():
            row = int(bad.nonzero()[0])
            rule = "0 or 1" if target == "multilabel" else "a finite number"
            raise BadData(f"{where(row)}: {name!r} is {column.numbers[row].item()}; it must be {rule}")
    return torch.stack([c.numbers for c in columns if c.numbers is not None], 1).float()


def _classes(column: Column, name: str, where: Callable[[int], str]) -> list[str]:
    named: dict[str, str] = {}  # each way of writing once
    classes = []
    for row, text in enumerate(column.names()):
        if text is None:
            raise BadData(f"{where(row)} has no label in {name!r}: add it, or leave the row out")
        if text not in named:
            named[text] = class_name(text)
            if not 0 < len(named[text]) <= LONGEST or not named[text].isprintable():
                raise BadData(
                    f"{where(row)}: the label in {name!r} is {short(text)}; the name of a class has 1 to {LONGEST} "
                    "printable characters"
                )
        classes.append(named[text])
    if column.numbers is not None and not whole(named.values()):
        row = next(i for i, c in enumerate(classes) if not whole([c]))
        raise BadData(
            f"{where(row)}: the label in {name!r} is {short(classes[row])}; classes are names or whole numbers: to "
            "predict numbers, make the vault with the target regression"
        )
    return classes
