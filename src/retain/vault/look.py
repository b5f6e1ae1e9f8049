"""What new data look like to the served version, before anything is learned from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retain.examples import Examples
from retain.learner import Learner
from retain.types import HIDDEN
from retain.vault import drift
from retain.vault.agreement import Agreement, Rows, agreement, chosen
from retain.vault.contents import Contents
from retain.vault.guards import Guard
from retain.vault.judge import logits_of
from retain.vault.plan import Plan
from retain.vault.prepare import Prepared


@dataclass(frozen=True)
class Look:
    """What was found."""

    drift: dict[str, Any]  # as the record has it
    labels: Agreement | None  # None: there was nothing to compare, or no classes are told apart

    def watched(self) -> dict[str, Any]:
        """The drift, to which labels that contradict what is served belong."""
        wrong = self.labels and self.labels.contradiction
        findings = [*self.drift["findings"], *([wrong] if wrong else [])]
        return {**self.drift, "drifted": self.drift["drifted"] or bool(wrong), "findings": findings}


def nothing(why: str) -> Look:
    """Where there is nothing to compare with."""
    return Look({"drifted": False, "findings": [why], "tests": []}, None)


def look(
    learner: Learner, c: Contents, old: Sequence[Guard], p: Prepared, plan: Plan,
    served: Sequence[Tensor] | None = None,
) -> Look:  # fmt: skip
    """Compare an update's data with the guards, in the features of the network as it stands.

    Args:
        learner: what the served version is.
        c: the served version.
        old: its guards.
        p: the update's data.
        plan: the vault's settings.
        served: its logits [N, C] on each guard; None: they are computed where they are needed.
    """
    if not old:
        return nothing("there is no guard to compare with")
    x, y = p.train.stored(torch.arange(len(p.train))), p.train.labels()
    known, labels = torch.cat([_features(learner, g.x) for g in old]), torch.cat([g.y for g in old])
    new = _features(learner, x)
    names = () if p.labels is None else p.labels.names
    unseen = [f"a class that was never seen: {names[k]}" for k in p.new] if names else []
    found = drift.compare(known, new, (labels, y), names, [*unseen, *p.notes], plan.alpha, plan.seed)
    if plan.scenario != "class":
        return Look(found.to_json(), None)
    outs = served or [logits_of(learner, c, g.x, g.numbers) for g in old]
    answers = torch.cat([out.argmax(1) for out in outs])
    shares = {k: float((answers[labels == k] == k).double().mean()) for k in labels.unique().tolist()}
    a, b = (chosen(t, labels, x[0].numel(), plan.seed) for t in (labels, y))
    guards = Rows(torch.cat([g.x for g in old])[a], known[a], labels[a], answers[a])
    asked = Rows(x[b], new[b], y[b], logits_of(learner, c, x[b]).argmax(1))
    return Look(found.to_json(), agreement(guards, asked, shares))


def _features(learner: Learner, x: Tensor) -> Tensor:
    """[N, D] of stored examples: what the last layer takes in, or what the network gives where that is not known."""
    examples = Examples(x, torch.zeros(len(x), dtype=torch.int64))
    problem = learner.start(examples)
    out = []
    with torch.no_grad():
        for rows in torch.arange(len(x)).split(1000):
            batch = examples.batch(rows)[0]
            try:
                out.append(problem.features(learner.params, batch).flatten(1))
            except ValueError:  # it does not end in a linear layer
                out.append(problem.logits(learner.params, batch, torch.full((len(batch),), HIDDEN)))
    return torch.cat(out)
