"""A sum of quadratic penalties is one quadratic, so many tasks cost no more than one.

sum_k F_k (p - a_k)^2 = W p^2 - 2 m p + c  with  W = sum F_k,  m = sum F_k a_k,  c = sum F_k a_k^2.

Kept as W, m and c, not as W and the mean anchor m / W: the sums are exact, an entry with F = 0 needs
no care, and W p - m is one pass over memory less than W (p - a), in the one place where it counts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from retain import tree
from retain.types import Params


class Quadratic(NamedTuple):
    """W p^2 - 2 m p + c, summed over all entries."""

    weight: Params  # W >= 0
    moment: Params  # m
    constant: float  # c >= 0, which moves no parameter but belongs to the value

    @classmethod
    def around(cls, weight: Params, anchor: Params) -> Quadratic:
        """weight (p - anchor)^2."""
        moment = {k: W * anchor[k] for k, W in weight.items()}
        return cls(weight, moment, sum(_sum64(W, anchor[k], anchor[k]) for k, W in weight.items()))

    def plus(self, other: Quadratic) -> Quadratic:
        """The sum of both."""
        return Quadratic(
            {k: W + other.weight[k] for k, W in self.weight.items()},
            {k: m + other.moment[k] for k, m in self.moment.items()},
            self.constant + other.constant,
        )

    def value(self, params: Params) -> float:
        """The penalty at params, without its factor lam / 2; summed in float64."""
        found = self.constant
        for k, W in self.weight.items():
            p = params[k].detach()
            found += _sum64(W, p, p) - 2 * _sum64(self.moment[k], p)
        return found

    def pull(self, strength: float, params: Params, grads: Params) -> Params:
        """`grads` plus strength (W p - m), the gradient of strength / 2 times the penalty, in place."""
        return tree.add_pull(grads, strength, self.weight, params, self.moment)

    def proximal_step(self, strength: float, params: Params, lr: dict[str, float]) -> Params:
        """argmin_q of strength / 2 (W q^2 - 2 m q) + (q - p)^2 / (2 lr), in place: stable for any strength.

        (Parikh & Boyd 2014, section 6.1.1.)
        """
        for k, W in self.weight.items():
            if (s := lr[k] * strength) > 0:
                # (p + s m) / (1 + s W), both divided by s where that is the smaller: no product overflows
                mine, theirs = (1.0, s) if s <= 1 else (max(1 / s, torch.finfo(W.dtype).tiny), 1.0)
                params[k].copy_((params[k] * mine + self.moment[k] * theirs) / (mine + W * theirs))
        return params

    def by_layer(self) -> dict[str, float]:
        """The mean of W over each layer's entries, its weight and its bias together; summed in float64."""
        sums: dict[str, Tensor] = {}
        for k, W in self.weight.items():
            layer = k.rpartition(".")[0]  # of a bare layer as the model: ""
            here = torch.stack((W.double().sum(), W.new_tensor(W.numel(), dtype=torch.float64)))
            sums[layer] = sums[layer] + here if layer in sums else here
        return {layer: float(total / count) for layer, (total, count) in sums.items()}

    def largest(self) -> float:
        """max W."""
        return max((float(W.max()) for W in self.weight.values()), default=0.0)


def _sum64(*factors: Tensor) -> float:
    """Sum over all entries of the product of tensors, in float64."""
    product = factors[0].double()
    for f in factors[1:]:
        product = product * f
    return float(product.sum())
