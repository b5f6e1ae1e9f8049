"""A sum of quadratic penalties is one quadratic, so many tasks cost no more than one.

sum_k F_k (p - a_k)^2 = W (p - a)^2 + c  with  W = sum F_k,  a = sum F_k a_k / W  and a constant c.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from retain import tree
from retain.types import Params


class Quadratic(NamedTuple):
    """W (p - a)^2 + c, summed over all entries."""

    weight: Params  # W >= 0
    anchor: Params  # a; anything where W = 0
    constant: float  # c >= 0, which moves no parameter but belongs to the value

    def plus(self, weight: Params, anchor: Params) -> Quadratic:
        """The same plus weight (p - anchor)^2, exactly; entries that nothing guards stay unguarded."""
        c = self.constant
        total, mean = {}, {}
        for k, W in self.weight.items():
            F, gap = weight[k], anchor[k] - self.anchor[k]
            total[k] = W + F
            share = torch.where(total[k] > 0, F / total[k], torch.ones_like(F))
            mean[k] = self.anchor[k] + share * gap
            c += float((W * share * gap.square()).sum(dtype=torch.float64))
        return Quadratic(total, mean, c)

    def value(self, params: Params) -> float:
        """The penalty at params, without its factor lam / 2."""
        parts = (
            float((W * (params[k].detach() - self.anchor[k]).square()).sum(dtype=torch.float64))
            for k, W in self.weight.items()
        )
        return sum(parts) + self.constant

    def pull(self, strength: float, params: Params, grads: Params) -> Params:
        """`grads` plus the gradient of strength / 2 times the penalty, in place."""
        return tree.add_pull(grads, strength, self.weight, params, self.anchor)

    def proximal_step(self, strength: float, params: Params, lr: dict[str, float]) -> Params:
        """argmin_q of strength / 2 W (q - a)^2 + (q - p)^2 / (2 lr), in place: stable for any strength.

        (Parikh & Boyd 2014, section 6.1.1.)
        """
        for k, W in self.weight.items():
            s = lr[k] * strength * W
            params[k].copy_((params[k] + s * self.anchor[k]) / (1 + s))
        return params

    def largest(self) -> float:
        """max W."""
        return max((float(W.max()) for W in self.weight.values()), default=0.0)
