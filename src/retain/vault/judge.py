"""The served version and the candidate on every guard, example by example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor

from retain.examples import Examples
from retain.learner import Learner
from retain.types import Task
from retain.vault.contents import Contents, task_of
from retain.vault.gate import Compared
from retain.vault.guards import Guard

AT_ONCE = 1000  # examples a forward pass
LISTED = 100  # examples in a report that were right and are now wrong


def logits_of(learner: Learner, c: Contents, x: Tensor, numbers: Tensor | int | None = None) -> Tensor:
    """[N, C] of stored examples [N, ...], -inf at classes that are not in play or were forgotten.

    Args:
        learner: what the version is.
        c: the same version.
        x: uint8 or float32, as the preprocessing gives them.
        numbers: int64 [N], of the updates that they are like, where that is known; or of the one for all.
    """
    examples = Examples(x, torch.zeros(len(x), dtype=torch.int64))
    out = torch.zeros(len(x), learner.in_play.outputs, dtype=torch.get_default_dtype())
    for task, rows in _by_task(learner, c, examples, numbers):
        for r in rows.split(AT_ONCE):
            out[r] = learner.predict(examples.batch(r)[0], task)
    if c.forgotten:
        out[:, list(c.forgotten)] = -torch.inf
    return out


def _by_task(
    learner: Learner, c: Contents, examples: Examples, numbers: Tensor | int | None
) -> Iterator[tuple[Task | None, Tensor]]:
    """Rows that are predicted together: those of each task, where that is known."""
    if numbers is None or learner.in_play.scenario != "task":
        yield None, torch.arange(len(examples))
        return
    if isinstance(numbers, int):
        numbers = torch.full((len(examples),), numbers)
    for n in numbers.unique().tolist():
        yield task_of(n, c.tasks[n], examples), (numbers == n).nonzero()[:, 0]


@dataclass(frozen=True, eq=False)
class Seen:
    """Both versions on one guard."""

    guard: Guard
    served: Tensor | None  # logits [N, C]; None: nothing was served yet
    candidate: Tensor

    def compared(self, target: str, known: Sequence[int]) -> Compared:
        """For the gate: right or wrong, or losses; an old guard among the classes that the served version knew."""
        assert self.served is not None
        y = self.guard.y
        if target != "class":
            return Compared(
                self.guard.name, losses(self.served, y, target), losses(self.candidate, y, target), None, None
            )
        right = self.served.argmax(1) == y
        is_known = torch.zeros(self.candidate.shape[1], dtype=torch.bool)
        is_known[list(known)] = True
        among = self.candidate.masked_fill(~is_known, -torch.inf)
        is_new = ~is_known[self.candidate.argmax(1)]
        return Compared(
            self.guard.name, right, among.argmax(1) == y, y, (right & is_new) if is_new.any() else None
        )

    def measure(self, target: str, served: bool) -> float | None:
        """Accuracy among all classes, or the mean loss."""
        out = self.served if served else self.candidate
        if out is None:
            return None
        if target != "class":
            return float(losses(out, self.guard.y, target).mean())
        return float((out.argmax(1) == self.guard.y).double().mean())


def losses(out: Tensor, y: Tensor, target: str) -> Tensor:
    """The loss of each example [N]: what training minimises, as a number a user can follow.

    multilabel: the mean over labels of the cross-entropy; regression: of half the squared error.
    """
    if target == "multilabel":
        return nnf.binary_cross_entropy_with_logits(out, y, reduction="none").mean(1)
    return 0.5 * (out - y).square().mean(1)


def per_class(seen: Sequence[Seen], names: Sequence[str]) -> list[dict[str, Any]]:
    """For each class with guards: how many, and the share right before and now."""
    found = []
    y = torch.cat([s.guard.y for s in seen])
    now = torch.cat([s.candidate.argmax(1) for s in seen]) == y
    before = torch.cat([_right(s) for s in seen])
    for c in y.unique().tolist():
        of = y == c
        served = float(before[of].double().mean()) if bool((before[of] >= 0).all()) else None
        found.append(
            {
                "class": names[c],
                "n": int(of.sum()),
                "served": served,
                "candidate": float(now[of].double().mean()),
            }
        )
    return found


def _right(s: Seen) -> Tensor:
    """1 right, 0 wrong, -1 nothing was served: [N]."""
    if s.served is None:
        return torch.full((len(s.guard.y),), -1)
    return (s.served.argmax(1) == s.guard.y).long()


def changed(seen: Sequence[Seen], names: Sequence[str]) -> dict[str, Any]:
    """What was right and is now wrong, and the other way round."""
    lost, gained = 0, 0
    listed: list[dict[str, Any]] = []
    for s in seen:
        if s.served is None:
            continue
        y, was, now = s.guard.y, s.served.argmax(1), s.candidate.argmax(1)
        worse = (was == y) & (now != y)
        lost += int(worse.sum())
        gained += int(((was != y) & (now == y)).sum())
        for row in worse.nonzero()[:, 0].tolist():
            if len(listed) < LISTED:
                label, old, new = (names[int(t[row])] for t in (y, was, now))
                listed.append({"guard": s.guard.name, "row": row, "label": label, "was": old, "now": new})
    return {"right_to_wrong": lost, "wrong_to_right": gained, "examples": listed}
