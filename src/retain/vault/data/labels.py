"""Class names and the outputs of the network that stand for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retain.vault.data.targets import LONGEST, class_name, whole
from retain.vault.data.words import listed, short
from retain.vault.errors import BadData, Damaged

MOST_CLASSES = 100_000


@dataclass(frozen=True)
class Labels:
    """Classes in the order of their first coming: output k of the network is `names[k]`.

    >>> labels = Labels((), True).extended(["10", "9"], True)
    >>> labels.names
    ('9', '10')
    >>> labels.extended(["1", "9"], True).encode(["1", "9"])
    tensor([2, 0])
    """

    names: tuple[str, ...]
    integers: bool  # whether all of them are whole numbers: predictions are then given back as int

    def extended(self, targets: Iterable[str], integers: bool) -> Labels:
        """The same with the classes in `targets` that are new, after those known, sorted among themselves.

        `integers` says whether `targets` are whole numbers, all of them; new ones then sort as numbers.

        Raises:
            BadData: there would be more classes than a network can have outputs.
        """
        known = set(self.names)
        new = {t for t in targets if t not in known}
        names = self.names + tuple(sorted(new, key=int) if whole(new) else sorted(new))
        if len(names) > MOST_CLASSES:
            raise BadData(f"{len(names)} classes are more than {MOST_CLASSES}: is this column the label?")
        return Labels(names, integers and (self.integers or not self.names))

    def encode(self, targets: list[str]) -> Tensor:
        """The outputs int64 [N] that stand for class names [N].

        Raises:
            BadData: names the class that is not known.
        """
        place = {name: k for k, name in enumerate(self.names)}
        try:
            return torch.tensor([place[t] for t in targets], dtype=torch.int64)
        except KeyError as e:
            raise BadData(f"no class is called {short(e.args[0])}; known are {listed(self.names)}") from None

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it.

        >>> Labels(("cat", "dog"), False).to_json()
        {'schema': 1, 'names': ['cat', 'dog'], 'integers': False}
        """
        return {"schema": 1, "names": list(self.names), "integers": self.integers}

    @classmethod
    def from_json(cls, d: object) -> Labels:
        """What `to_json` gave.

        >>> Labels.from_json({"schema": 1, "names": ["cat"], "integers": False})
        Labels(names=('cat',), integers=False)

        Raises:
            Damaged: it is anything else.
        """
        if not isinstance(d, dict) or set(d) != {"schema", "names", "integers"} or d["schema"] != 1:
            raise Damaged(f"labels have schema 1, names and integers, got {short(d)}")
        names, integers = d["names"], d["integers"]
        if not isinstance(names, list) or len(names) > MOST_CLASSES or not isinstance(integers, bool):
            raise Damaged(f"labels are a list of names and whether they are integers, got {short(d)}")
        for n in names:
            if (
                not isinstance(n, str)
                or not 0 < len(n) <= LONGEST
                or class_name(n) != n
                or not n.isprintable()
            ):
                raise Damaged(f"{short(n)} is not the name of a class as this package writes it")
        if len(set(names)) < len(names) or integers > whole(names):
            raise Damaged(f"labels are each named once, and whole numbers if they say so, got {short(names)}")
        return cls(tuple(names), integers)
