"""Which parameter earned how much of the loss's decrease, added up along the way that training takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from retain.types import Params, Step


class Path(NamedTuple):
    """omega_i = - sum over steps of g_i (theta_i after - theta_i before).

    With small steps the sum of all omega_i is the decrease of the loss whose gradient g is: that of
    the task, without any penalty, before clipping. (Zenke et al. 2017, eq. 3.)
    """

    omega: Params
    task: Params  # g of the step being taken

    @classmethod
    def start(cls, params: Params, names: Iterable[str]) -> Path:
        """No way gone yet."""
        names = list(names)
        omega, task = ({k: torch.zeros_like(params[k]) for k in names} for _ in range(2))
        return cls(omega, task)

    def note(self, grads: Params) -> None:
        """Remember g, in place: clipping and the pull of a penalty overwrite the gradients themselves."""
        for k, g in self.task.items():
            g.copy_(grads[k])

    def walk(self, step: Step) -> None:
        """Add a step's share, in place: its true movement, whatever the optimiser made of g."""
        assert step.before is not None
        for k, w in self.omega.items():
            w.addcmul_(self.task[k], step.before[k] - step.after[k])

    def score(self, F: Params, start: Params, here: Params, eps: float) -> Params:
        """max(0, omega_i) / (F_i (here_i - start_i)^2 / 2 + eps): what a distance in outputs achieved."""
        found = {}
        for k, w in self.omega.items():
            length = F[k] * (here[k].detach() - start[k]).square() / 2 + eps
            found[k] = torch.relu(w / length)
        return found

    def clear(self) -> None:
        """Begin anew from where training is now, in place."""
        for w in self.omega.values():
            w.zero_()


def scaled(a: Params) -> Params:
    """All entries brought to [0, 1], the smallest of all to 0 and the largest to 1."""
    low = torch.stack([t.min() for t in a.values()]).min()
    width = torch.stack([t.max() for t in a.values()]).max() - low
    return {k: (t - low) / width.clamp_min(torch.finfo(t.dtype).tiny) for k, t in a.items()}
