"""What a group of parameters is moved with."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)
Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class Optim:
    """An optimiser with its settings, not yet bound to parameters.

    Raises:
        ValueError: a setting outside its range; names it.
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.0  # sgd only
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "adam", "adamw"):
            raise ValueError(f"optimizer must be sgd, adam or adamw, got {self.optimizer!r}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr must be a number > 0, got {self.lr}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum is a setting of sgd; {self.optimizer} has its own")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay must be >= 0, got {self.weight_decay}")

    def build(self, params: Sequence[Tensor]) -> torch.optim.Optimizer | Descent:
        """The optimiser of these parameters, fused where torch has it."""
        params = list(params)
        if self.optimizer == "sgd" and not self.momentum and not self.weight_decay:
            return Descent(params, self.lr)
        if self.optimizer == "sgd":
            return SGD(params, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True)
        kind = Adam if self.optimizer == "adam" else AdamW
        return kind(params, lr=self.lr, weight_decay=self.weight_decay, fused=True)


def _eager(kind: type[Kind]) -> type[Kind]:
    """The same optimiser, seen by no compiler.

    torch wraps these methods to hide them from its compiler, and loads it for that: two seconds of a process that
    compiles nothing, as long as torch itself takes.
    """
    hidden = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in hidden}
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {**methods, "step": step, "__module__": __name__})


SGD, Adam, AdamW = _eager(torch.optim.SGD), _eager(torch.optim.Adam), _eager(torch.optim.AdamW)


class Descent:
    """Gradient descent and nothing else, p - lr * g, in one call for all parameters.

    It is what torch.optim.SGD does without momentum, less what that costs around it: on a network of three
    small layers as much as the network's own forward pass.
    """

    def __init__(self, params: list[Tensor], lr: float):
        self.param_groups: list[dict[str, Any]] = [{"params": params, "lr": lr}]
        self.state: dict[Tensor, dict[str, Any]] = {}  # it has none

    @torch.no_grad()
    def step(self) -> None:
        """Along the gradients that the parameters have."""
        for group in self.param_groups:
            params = group["params"]
            torch._foreach_add_(params, [p.grad for p in params], alpha=-group["lr"])

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None


def check_word(name: str, value: object, kind: object) -> None:
    """Raise ValueError unless the value is one of the words of a Literal."""
    if value not in get_args(kind):
        raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {value!r}")


def schedule_factor(kind: Schedule, step: int, steps: int) -> float:
    """The factor on the learning rate at step 0 <= step < steps of a task: 1 at its first step.

    >>> [round(schedule_factor("linear", i, 4), 2) for i in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    if kind == "constant":
        return 1.0
    done = step / max(steps, 1)
    return 1 - done if kind == "linear" else 0.5 * (1 + math.cos(math.pi * done))
