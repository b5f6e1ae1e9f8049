"""The optimiser of somebody else's loop, as what a learner steps with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from retain.optim import Optim
from retain.stepper import Stepper
from retain.types import Params


class Borrowed(Stepper):
    """The loop steps its optimiser; this one knows it, and steps what the method added to the network.

    Learning rates are those of the optimiser's groups now, so a scheduler of the loop is followed.
    """

    def __init__(self, own: Params, names: tuple[str, ...], added: dict[str, Optim], clip: float | None):
        super().__init__(own, names, Optim(), added, clip)
        self.theirs: Optimizer | None = None
        self.stepping = False  # while a method steps it, and not the loop
        self.waiting: dict[str, Any] = {}  # moments that were loaded before the optimiser was known

    def meet(self, optimizer: Optimizer) -> bool:
        """Whether this is the optimiser of the model; if so it is the one from now on.

        Raises:
            ValueError: it holds some of the model's trained parameters, but not all.
        """
        if optimizer is self.theirs:
            return True
        held = {id(p) for g in optimizer.param_groups for p in g["params"]}
        mine = [k for k in self.names if id(self.live[k]) in held]
        if not mine:
            return False
        if len(mine) < len(self.names):
            lacking = next(k for k in self.names if k not in mine)
            raise ValueError(
                f"the optimiser holds {len(mine)} of the model's {len(self.names)} trained parameters (not "
                f"{lacking!r}): give one optimiser all of them, in groups if need be, or freeze the others "
                "before retain.attach"
            )
        self.theirs = optimizer
        self._build_theirs()
        return True

    def _build(self) -> None:
        self._build_theirs()
        for prefix, optim in self.added.items():
            self.optimizers[prefix] = optim.build([self.live[k] for k in self.members(prefix)])

    def _build_theirs(self) -> None:
        if self.theirs is not None:
            self.optimizers = {"": self.theirs, **{k: o for k, o in self.optimizers.items() if k}}
            self._take_up()

    def ready(self) -> None:
        """Make the optimisers of what was added, if they are not."""
        if {*self.added, *([""] if self.theirs else [])} - set(self.optimizers):
            self._build()

    @property
    def plain_sgd(self) -> bool:
        """Whether the model's own parameters are moved by SGD without momentum, as far as is known."""
        return self.theirs is not None and super().plain_sgd

    @property
    def largest_lr(self) -> float:
        """Of the model's own parameters, now; 0 before the optimiser is known."""
        return max((float(g["lr"]) for g in self.theirs.param_groups), default=0.0) if self.theirs else 0.0

    @property
    def lr(self) -> dict[str, float]:
        """The learning rate that each entry is moved with now."""
        self.ready()
        of = {id(p): float(g["lr"]) for o in self.optimizers.values()
              for g in o.param_groups for p in g["params"]}  # fmt: skip
        return {k: of[id(p)] for k, p in self.live.items() if id(p) in of}

    def __call__(self, params: Params, grads: Params) -> Params:
        """Step along grads as part of consolidation, with the loop's optimiser.

        Raises:
            RuntimeError: no optimiser has stepped the model yet.
        """
        if self.theirs is None:
            raise RuntimeError(
                "the method trains while it consolidates, and no optimiser has stepped the model yet: "
                "retain.attach(model, method, optimizer)"
            )
        self.ready()
        self.base = {k: [g["lr"] for g in o.param_groups] for k, o in self.optimizers.items()}
        with self.by_the_method():
            return super().__call__(params, grads)

    @contextmanager
    def by_the_method(self) -> Iterator[None]:
        """What is stepped inside is no step of the loop."""
        self.stepping = True
        try:
            yield
        finally:
            self.stepping = False

    def step_added(self, grads: Params) -> None:
        """Step what the method added, and clear its gradients."""
        self.ready()
        for prefix in self.added:
            members = self.lay(prefix, grads)
            self.optimizers[prefix].step()
            for p in members:
                p.grad = None

    # ---- what a checkpoint holds ----

    def groups(self) -> list[dict[str, Any]]:
        """The settings of the loop's optimiser, group by group: its learning rates, above all."""
        if self.theirs is None:
            return []
        return [{k: _plain(v) for k, v in g.items() if k != "params"} for g in self.theirs.param_groups]

    def load(self, state: dict[str, Any]) -> None:
        """Take up moments; those of the loop's optimiser wait until it is known."""
        self._build()
        for prefix in self.added:
            self._fill(prefix, state.get(prefix, {}))
        if "" in state:
            self.waiting["moments"] = state[""]
        self._take_up()

    def load_groups(self, groups: list[dict[str, Any]]) -> None:
        """Take up what `groups` gave, now or once the optimiser is known.

        Raises:
            ValueError: the optimiser has another number of groups.
        """
        self.waiting["groups"] = groups
        self._take_up()

    def _take_up(self) -> None:
        if self.theirs is None:
            return
        groups, now = self.waiting.pop("groups", []), self.theirs.param_groups
        if groups and len(groups) != len(now):
            raise ValueError(
                f"the file is of an optimiser with {len(groups)} groups of parameters, this one has {len(now)}: "
                "make it as it was"
            )
        for mine, saved in zip(now, groups, strict=False):
            for k, v in saved.items():
                mine[k] = torch.full_like(mine[k], v) if isinstance(mine.get(k), Tensor) else v
        self._fill("", self.waiting.pop("moments", {}))

    def _fill(self, prefix: str, moments: dict[str, Any]) -> None:
        for k, values in moments.items():
            p = self.live[k]
            self.optimizers[prefix].state[p] = {
                n: v.to(p.device) if isinstance(v, Tensor) and v.dim() else v for n, v in values.items()
            }


def _plain(value: Any) -> Any:
    """A setting as a checkpoint may hold it."""
    return float(value) if isinstance(value, Tensor) else value
