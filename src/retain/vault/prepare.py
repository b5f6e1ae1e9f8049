"""From data as they were found to what an update trains on and what guards it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retain.examples import Examples
from retain.seeds import derive
from retain.vault import data
from retain.vault.contents import Contents
from retain.vault.data import Labels, Preprocessing, Raw
from retain.vault.errors import BadData
from retain.vault.guards import Guard, hold_out
from retain.vault.plan import Plan

LARGEST_SHARE = 0.2  # of an update's examples that is held out


@dataclass(frozen=True, eq=False)
class Prepared:
    """An update's data, as the learner takes them."""

    name: str
    train: Examples
    guard: Guard
    guard_rows: tuple[str, ...]  # how each example of the guard is called
    guard_source: tuple[str, str] | None  # path and sha256 of a guard that stays where it is
    labels: Labels | None
    preprocessing: Preprocessing
    classes: tuple[int, ...]  # outputs that occur in it
    new: tuple[int, ...]  # of them those that the served version does not know
    notes: tuple[str, ...]
    source: str
    sha256: str
    counts: dict[str, int]  # examples of each class; empty where numbers are predicted

    def data(self) -> dict[str, Any]:
        """What the record says of it."""
        names = () if self.labels is None else self.labels.names
        return {
            "source": self.source,
            "sha256": self.sha256,
            "examples": len(self.train) + (0 if self.guard_source else len(self.guard.y)),
            "trained_on": len(self.train),
            "guards": len(self.guard.y),
            "classes": self.counts,
            "new_classes": [names[c] for c in self.new] if names else [],
            "notes": list(self.notes),
        }


def prepare(
    raw: Raw, name: str, base: Contents | None, plan: Plan, guard: Raw | None, stays: bool
) -> Prepared:
    """Check an update's data against what the vault knows, and hold out its guard.

    Args:
        raw: the data, with labels.
        name: of the update.
        base: the version that is served; None: there is none yet.
        plan: the vault's settings.
        guard: a guard set of the caller's; None: it is held out of the data.
        stays: whether that guard set stays where it is, and is only referred to.

    Raises:
        BadData: names the row, or the class, and what is wrong with it.
    """
    if len(raw) == 0:
        raise BadData(f"{raw.source} holds no example")
    preprocessing = Preprocessing.fit(raw, plan.size) if base is None else base.preprocessing
    x, notes = preprocessing.apply(raw)
    labels, y = targets(raw, None if base is None else base.labels, plan)
    rows, held = held_out(y, plan, guard is not None)
    number = 0 if base is None else len(base.tasks)
    if guard is None:
        kept = Guard.of(name, x[held], y[held], number)
        called = tuple(raw.where(i) for i in held.tolist())
    else:
        gx, more = preprocessing.apply(guard)
        notes = [*notes, *(f"guard: {n}" for n in more)]
        labels, gy = targets(guard, labels, plan)
        kept, called = Guard.of(name, gx, gy, number), tuple(guard.where(i) for i in range(len(guard)))
    is_class = plan.target == "class"
    classes = tuple(y.unique().tolist()) if is_class else ()
    known = set() if base is None else set(base.known)
    counts = Counter(raw.targets) if is_class and isinstance(raw.targets, list) else {}
    return Prepared(
        name, Examples(x[rows], y[rows]), kept, called,
        (guard.source, guard.sha256) if guard is not None and stays else None,
        labels, preprocessing, classes, tuple(c for c in classes if c not in known), tuple(notes),
        raw.source, raw.sha256, dict(sorted(counts.items())),
    )  # fmt: skip


def read_as(source: Any, columns: tuple[str, ...] | None, plan: Plan, labelled: bool | None = True) -> Raw:
    """Data, as a vault reads them.

    Args:
        source: a path, or arrays or a Dataset in Python.
        columns: that hold the targets, where columns have names; None: found by their names.
        plan: the vault's settings.
        labelled: whether there must be targets; None: if there are any.
    """
    return data.read(
        source, target=plan.target, label=columns, labelled=labelled, ignore=plan.ignored, size=plan.size
    )


def targets(raw: Raw, labels: Labels | None, plan: Plan) -> tuple[Labels | None, Tensor]:
    """Labels that know this data's classes, and the targets: int64 [N], or float [N, K].

    Raises:
        BadData: it has none of the kind that the vault predicts.
    """
    if plan.target == "class":
        if not isinstance(raw.targets, list):
            raise BadData(f"{raw.source} has no class for each example, which an update learns from")
        known = labels or Labels((), raw.integers)
        known = known.extended(raw.targets, raw.integers)
        return known, known.encode(raw.targets)
    if not isinstance(raw.targets, Tensor):
        raise BadData(
            f"{raw.source} has no numbers to predict; this vault was made with target {plan.target}"
        )
    return None, raw.targets


def held_out(y: Tensor, plan: Plan, given: bool) -> tuple[Tensor, Tensor]:
    """Rows of targets [N] to train on, and rows to guard: none of these where a guard is given.

    Raises:
        BadData: there are too few.
    """
    if given:
        return torch.arange(len(y)), torch.zeros(0, dtype=torch.int64)
    size = min(plan.guard, int(LARGEST_SHARE * len(y)))
    if size < 1:
        raise BadData(
            f"{len(y)} examples are too few to hold a guard out of them: give at least {round(1 / LARGEST_SHARE)}, "
            "or a guard set of their own (--guard PATH)"
        )
    return hold_out(y, size, derive(plan.seed, "guard"))
