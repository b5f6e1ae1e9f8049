"""Probabilities that mean what they say: logits divided by one temperature (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor

from retain.seeds import generator
from retain.vault.errors import VaultError

FEWEST = 20  # examples that a temperature is fitted on
LOW, HIGH = 0.05, 20.0  # temperatures


class Calibration(NamedTuple):
    """A temperature, and what it does to examples that it was not fitted on."""

    temperature: float  # in [0.05, 20]
    ece: float  # expected calibration error without it, in [0, 1]
    ece_calibrated: float  # and with it
    note: str | None  # why the temperature is 1, where it was not fitted


def calibrate(logits: Tensor, y: Tensor) -> Calibration:
    """Fit a temperature on one half of the examples, and measure it on the other.

    Args:
        logits: [N, C], -inf at classes that are not in play.
        y: labels, int64 [N].

    >>> logits = 10 * torch.eye(2).repeat(500, 1)  # sure of itself, and right in 70 % of the cases
    >>> found = calibrate(logits, torch.tensor([0, 1, 0, 0, 0, 1, 1, 1, 0, 0] * 100))
    >>> found.temperature > 5, found.ece > 0.25, found.ece_calibrated < 0.05
    (True, True, True)

    Raises:
        VaultError: logits that are NaN or +inf, or without any class in play.
    """
    order = torch.randperm(len(y), generator=generator(0, "calibrate"))
    half, others = order[: (len(y) + 1) // 2], order[(len(y) + 1) // 2 :]
    fitted, note = _fitted(logits[half], y[half])
    rest, label = logits[others], y[others]
    return Calibration(fitted, ece(rest, label), ece(rest / fitted, label), note)


def temperature(logits: Tensor, y: Tensor) -> float:
    """The T in [0.05, 20] by which logits [N, C] are divided so that labels y [N] are likeliest (Guo et al., eq. 9).

    1 where there is no telling: on fewer than FEWEST examples, or where the likeliest T is the least there is,
    as when every example is right. Examples whose class is not in play (a logit of -inf) are left out.

    >>> temperature(10 * torch.eye(2).repeat(50, 1), torch.tensor([0, 1, 0, 1, 1] * 20)) > 5
    True

    Raises:
        VaultError: as `calibrate`.
    """
    return _fitted(logits, y)[0]


def _fitted(logits: Tensor, y: Tensor) -> tuple[float, str | None]:
    """The temperature, and why it is 1 where it was not fitted."""
    from scipy.optimize import minimize_scalar  # slow to import, and needed only here

    _check(logits)
    in_play = logits.gather(1, y[:, None])[:, 0].isfinite()
    logits, y = logits[in_play].double(), y[in_play]
    if len(y) < FEWEST:
        return 1.0, f"{len(y)} examples are too few to fit a temperature on: {FEWEST} would do"

    def loss(log_t: float) -> float:
        return float(nnf.cross_entropy(logits / math.exp(log_t), y))

    low, high = math.log(LOW), math.log(HIGH)  # the loss has one minimum in 1 / T: it is convex there
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    if loss(low) <= found.fun + 1e-9:
        return 1.0, "no temperature is likeliest: the surer, the better on all that it is fitted on"
    if loss(0.0) <= found.fun:  # as where the logits do not depend on the example
        return 1.0, None
    return float(math.exp(found.x)), None


def ece(logits: Tensor, y: Tensor, bins: int = 15) -> float:
    """The expected calibration error in [0, 1] (Guo et al., eq. 3): the gap of accuracy and confidence, bin by bin.

    Bins ((i - 1) / bins, i / bins] of the confidence in the likeliest class, each weighted by its examples; a
    label that is not in play (a logit of -inf) is a wrong answer. 0 without examples.

    >>> ece(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
    0.0

    Raises:
        VaultError: as `calibrate`.
    """
    _check(logits)
    if len(y) == 0:
        return 0.0
    confidence, guess = logits.double().softmax(1).max(1)
    which = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gap = torch.zeros(bins, dtype=torch.float64).index_add(0, which, (guess == y).double() - confidence)
    return float(gap.abs().sum() / len(y))


def _check(logits: Tensor) -> None:
    if bool((logits.isnan() | (logits == math.inf)).any()) or not bool(logits.isfinite().any(1).all()):
        raise VaultError(
            "logits must be finite, or -inf for a class that is not in play, and one class must be in play"
        )
