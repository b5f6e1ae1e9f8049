"""Steps the optimisers: one for the model's own parameters, one for each prefix that a method adds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retain.optim import Descent, Optim
from retain.types import Params


class Stepper:
    """The `Update` of a learner, with the live storage that it writes to.

    The order within a step: gradient hook (before this), clip, optimiser, `after_step` (after it).
    """

    def __init__(
        self,
        own: Params,
        names: tuple[str, ...],
        optim: Optim | torch.optim.Optimizer,
        added: dict[str, Optim],
        clip: float | None,
    ):
        if clip is not None and not clip > 0:
            raise ValueError(f"clip must be > 0, got {clip}")
        self.live: Params = dict(own)
        self.names, self.optim, self.added, self.clip = names, optim, added, clip
        self.factor = 1.0  # of the schedule, on every learning rate
        self.optimizers: dict[str, torch.optim.Optimizer | Descent] = {}
        self.base: dict[str, list[float]] = {}

    def reset(self) -> None:
        """Forget the optimisers' state (moments); they are made anew when next needed."""
        self.optimizers = {}

    def members(self, prefix: str) -> list[str]:
        """The entries that the optimiser of a prefix moves; the empty prefix is the model's own."""
        if not prefix:
            return list(self.names)
        return [k for k in self.live if k.startswith(prefix)]

    def adopt(self, params: Params) -> Params:
        """Write values into the live storage; entries that are new become parameters.

        Raises:
            ValueError: a new entry under no prefix that has an optimiser, or a changed shape.
        """
        for k, value in params.items():
            mine = self.live.get(k)
            if mine is None:
                if not any(k.startswith(p) for p in self.added):
                    raise ValueError(f"a method added {k!r}, with no optimiser for it: {sorted(self.added)}")
                self.live[k] = value.detach().clone().requires_grad_()
                self.reset()
            elif mine is not value:
                if mine.shape != value.shape:
                    raise ValueError(f"a method changed {k!r} from {list(mine.shape)} to {list(value.shape)}")
                mine.detach().copy_(value)
        return self.live

    def _build(self) -> None:
        for prefix, optim in {"": self.optim, **self.added}.items():
            if not self.members(prefix):
                raise ValueError(f"an optimiser for {prefix!r}, but the method added no entry under it")
            if isinstance(optim, torch.optim.Optimizer):
                held = {id(p) for g in optim.param_groups for p in g["params"]}
                if not any(id(self.live[k]) in held for k in self.members(prefix)):
                    raise ValueError(
                        "the optimiser holds none of the model's parameters: make it over this model"
                    )
                optim.state.clear()
                self.optimizers[prefix] = optim
            else:
                self.optimizers[prefix] = optim.build([self.live[k] for k in self.members(prefix)])
            self.base.setdefault(prefix, [g["lr"] for g in self.optimizers[prefix].param_groups])

    def ready(self) -> None:
        """Make the optimisers, if they are not."""
        if not self.optimizers:
            self._build()

    @property
    def plain_sgd(self) -> bool:
        """Whether the model's own parameters are moved by SGD without momentum."""
        self.ready()
        own = self.optimizers[""]
        if isinstance(own, torch.optim.SGD):
            return not any(g["momentum"] for g in own.param_groups)
        return isinstance(own, Descent)

    @property
    def largest_lr(self) -> float:
        """Of the model's own parameters, before the schedule."""
        self.ready()
        return max(self.base[""])

    @property
    def lr(self) -> dict[str, float]:
        """The learning rate that each entry is moved with now."""
        self.ready()
        of = {p: self.factor * self.base[o][i] for o, opt in self.optimizers.items()
              for i, g in enumerate(opt.param_groups) for p in map(id, g["params"])}  # fmt: skip
        return {k: of[id(p)] for k, p in self.live.items() if id(p) in of}

    def __call__(self, params: Params, grads: Params) -> Params:
        """Step along grads; gives the live params."""
        live = self.adopt(params) if params is not self.live else self.live
        self.ready()
        for prefix, optimizer in self.optimizers.items():
            members = self.lay(prefix, grads)
            for base, group in zip(self.base[prefix], optimizer.param_groups, strict=True):
                group["lr"] = base * self.factor
            optimizer.step()
            for p in members:
                p.grad = None
        return live

    def lay(self, prefix: str, grads: Params) -> list[Tensor]:
        """Put the gradients where the optimiser of a prefix finds them, and clip; gives what it moves."""
        names = self.members(prefix)
        members = [self.live[k] for k in names]
        for k, p in zip(names, members, strict=True):
            g = grads[k]
            # torch's fused SGD misreads a gradient whose layout is not the parameter's, without an error
            p.grad = g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
        if self.clip is not None:
            self.shorten(members, self.clip)
        return members

    def shorten(self, members: list[Tensor], clip: float) -> None:
        """Scale the gradients of an optimiser's members down to a norm of `clip`, in place."""
        torch.nn.utils.clip_grad_norm_(members, clip)

    def state(self) -> dict[str, Any]:
        """Moments and step counts of each optimiser, by the name of what they belong to."""
        found: dict[str, Any] = {}
        for prefix, opt in self.optimizers.items():
            known = [k for k in self.members(prefix) if self.live[k] in opt.state]
            found[prefix] = {k: dict(opt.state[self.live[k]]) for k in known}
        return found

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self._build()
        for prefix, entries in state.items():
            for k, values in entries.items():
                p = self.live[k]
                self.optimizers[prefix].state[p] = {
                    n: v.to(p.device) if isinstance(v, Tensor) and v.dim() else v for n, v in values.items()
                }
        if not state:
            self.reset()
