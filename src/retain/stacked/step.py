"""One step of several learners at once.

The learners stay ordinary ones: what they own lies in tensors [K, ...], one row a learner, and each
learner's parameters, moments and state are views of its rows. So a task begins and ends, is tested and
saved by the ordinary code, and only the step is stacked. In it

- the network and its loss run once, by `torch.vmap`, and each run gets its own gradient from the one sum;
- the optimiser moves the stacked parameters: its formulas act entry by entry;
- `gradient` and `after_step` are stacked where `hooks.py` finds that they can be;
- `batch`, `view` and `loss`, where a method has them, are called for one learner after the other: they
  draw from its generator, write into its memory, decide on its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from retain import tree
from retain.learner import Learner
from retain.method import GradientMethod
from retain.optim import Optim
from retain.run import Portion
from retain.stacked.hooks import Around, Hooks, Lane, NotAlike, changes, rows
from retain.stepper import Stepper
from retain.types import Batch, Params, cross_entropy


class CannotStack(Exception):
    """Why runs cannot be stacked; separate runs give the same."""


class _Stepper(Stepper):
    """The optimisers of stacked parameters [K, ...]."""

    def shorten(self, members: list[Tensor], clip: float) -> None:
        """Each run's own gradient, as `torch.nn.utils.clip_grad_norm_` does it."""
        grads = [p.grad for p in members if p.grad is not None]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads]).norm(dim=0)
        factor = (clip / (norms + 1e-6)).clamp(max=1.0)
        for g in grads:
            g.mul_(factor.view(-1, *[1] * (g.dim() - 1)))


class Stack:
    """Learners that differ only in what their seeds made of them; at least one.

    Args:
        learners: all at the same step.
        alone: hooks that cannot be stacked, as another stack of such learners has found.
    """

    def __init__(self, learners: Sequence[Learner], alone: dict[str, str] | None = None):
        self.learners = list(learners)
        first = self.learners[0]
        if not isinstance(first.method, GradientMethod):
            raise CannotStack(f"{type(first.method).__name__} does not learn by gradient steps")
        self.method: GradientMethod[Any] = first.method
        self.alone = dict(alone or {})
        self.hooks = Hooks(self.method, self.alone)
        self.stepper: _Stepper | None = None
        self.shared = False  # whether the learners' optimisers look at the stacked moments

    def observe(self, portions: Sequence[Portion]) -> Tensor:
        """One step of each learner on its portion; their losses [K], not yet counted.

        Raises:
            CannotStack: they must run separately, from their beginning: what they learned here is spoilt.
        """
        if self.stepper is None:
            self.stepper = self._gathered()
        stepper = self.stepper
        stepper.factor = self.learners[0].scheduled().factor
        portions = _on(next(iter(stepper.live.values())).device, portions)
        each = [one.batch(p.x, p.y, p.tasks) for one, p in zip(self.learners, portions, strict=True)]
        lanes = [Lane(one, b) for one, b in zip(self.learners, each, strict=True)]
        losses = self._objective(stepper.live, lanes, _merged(each))
        moved = {k: p for k, p in stepper.live.items() if p.requires_grad}
        grads = tree.gradients(losses.sum(), moved)
        try:
            self._finish(stepper, lanes, {k: g.contiguous() for k, g in grads.items()})
        except NotAlike as why:
            raise CannotStack(str(why)) from why
        if portions[0].step == portions[0].steps:
            self.settle()
        elif not self.shared:
            self._share(stepper)
        return losses.detach()

    # ---- one step ----

    def _objective(self, params: Params, lanes: list[Lane], merged: Batch) -> Tensor:
        """As `GradientMethod.objective`, for each run: [K]."""
        problem, own = lanes[0].problem, lanes[0].learner.binding.own
        views = rows(params, len(lanes))
        seen = params
        if changes(self.method, "view"):
            views = [
                self.method.view(o.problem, v, o.learner.state, o.batch.task, o.learner.rng)
                for o, v in zip(lanes, views, strict=True)
            ]
            seen = {k: torch.stack([v[k] for v in views]) for k in own}

        def logits_of(p: Params, x: Tensor, task: Tensor) -> Tensor:
            return problem.logits(p, x, task, True)

        try:
            logits = torch.vmap(logits_of)({k: seen[k] for k in own}, merged.x, merged.task)
        except RuntimeError as why:
            drawn = "called random operation" in str(why)
            what = "it draws random numbers (Dropout)" if drawn else str(why).partition("\n")[0][:200]
            raise CannotStack(f"the network cannot be run stacked: {what}") from why
        if seen is not params:
            _copy_back(lanes, views, seen)
        allowed = [o.problem.allowed(o.batch.task) for o in lanes]
        among = None if allowed[0] is None else torch.cat([a for a in allowed if a is not None])
        each = cross_entropy(logits.flatten(0, 1), merged.y.flatten(0, 1), among).view(len(lanes), -1)
        losses = each.mean(1) if merged.weight is None else (merged.weight * each).sum(1)
        if not changes(self.method, "loss"):
            return losses
        found = [
            self.method.loss(o.problem, v, o.learner.state, o.batch, out, loss)
            for o, v, out, loss in zip(lanes, views, logits.unbind(), losses.unbind(), strict=True)
        ]
        return torch.stack(found)

    @torch.no_grad()
    def _finish(self, stepper: Stepper, lanes: list[Lane], grads: Params) -> None:
        """As `GradientMethod.finish`."""
        live = {k: p.detach() for k, p in stepper.live.items()}
        if changes(self.method, "gradient"):
            grads = self.hooks("gradient", lanes, Around(live, None, grads, {}), {})
        if not self.method.follows_steps:
            stepper(stepper.live, grads)
            return
        before = {k: live[k].clone() for k in grads}
        stepper(stepper.live, grads)
        self.hooks("after_step", lanes, Around(live, None, grads, before), stepper.lr)

    # ---- from the learners to the stack and back ----

    def _gathered(self) -> _Stepper:
        """Stack what the learners own, and let them look at it."""
        first = self.learners[0]
        if any({k: p.shape for k, p in o.params.items()} != {k: p.shape for k, p in first.params.items()}
               for o in self.learners):  # fmt: skip
            raise CannotStack("the runs' networks differ in their shapes")
        if not isinstance(first.stepper.optim, Optim):
            raise CannotStack("the learners have optimisers of their own; give settings, retain.Optim(...)")
        stacked = {}
        for k in first.params:
            stacked[k] = torch.stack([o.params[k].detach() for o in self.learners])
            for o, row in zip(self.learners, stacked[k], strict=True):
                o.params[k].data = row
            stacked[k].requires_grad_(first.params[k].requires_grad)
        old = first.stepper
        new = _Stepper(stacked, old.names, first.stepper.optim, old.added, old.clip)
        new.load(tree.alike(_moments, *(o.stepper.state() for o in self.learners)))
        self.shared = False
        return new

    def _share(self, stepper: Stepper, copy_steps: bool = False) -> None:
        """Let the learners' optimisers look at the stacked moments; Adam's number of steps is one for all."""
        state = stepper.state()
        for i, one in enumerate(self.learners):
            one.stepper.load(tree.alike(partial(_of_one, i, copy_steps), state))
        self.shared = True

    def settle(self) -> None:
        """Let the learners go: each goes on as if it had been alone. The next step stacks them anew."""
        if self.stepper is not None:
            self._share(self.stepper, copy_steps=True)
        self.stepper = None


def _moments(leaves: tuple[Any, ...]) -> Any:
    """One entry of the optimisers' states: a number of steps, which all have made, or something a run each."""
    first = leaves[0]
    if not isinstance(first, Tensor):
        return first
    if first.dim():
        return torch.stack(leaves)
    if any(int(leaf) != int(first) for leaf in leaves):
        raise CannotStack("the runs' optimisers have made different numbers of steps")
    return first.clone()


def _of_one(i: int, copy_steps: bool, leaves: tuple[Any, ...]) -> Any:
    """Run i's part of what `_moments` made."""
    leaf = leaves[0]
    if isinstance(leaf, Tensor) and leaf.dim():
        return leaf[i]
    return leaf.clone() if copy_steps and isinstance(leaf, Tensor) else leaf


def _on(device: torch.device, portions: Sequence[Portion]) -> Sequence[Portion]:
    """The portions on a device, brought there in one piece where they are of one size."""
    if len({(p.x.shape, p.y.shape, p.x.device) for p in portions}) > 1 or portions[0].x.device == device:
        return portions
    x = torch.stack([p.x for p in portions]).to(device)
    y = torch.stack([p.y for p in portions]).to(device)
    return [p._replace(x=x[i], y=y[i]) for i, p in enumerate(portions)]


def _merged(each: list[Batch]) -> Batch:
    """All batches as one, [K, N, ...], without their extras."""
    if len({(b.x.shape, b.y.shape, b.weight is None) for b in each}) > 1:
        sizes = ", ".join(str(len(b.y)) for b in each)
        raise CannotStack(f"the runs learn from batches of different sizes in one step: {sizes}")
    x, y, task = (torch.stack(tensors) for tensors in zip(*((b.x, b.y, b.task) for b in each), strict=True))
    weights = [b.weight for b in each if b.weight is not None]
    return Batch(x, y, task, torch.stack(weights) if weights else None)


def _copy_back(lanes: list[Lane], views: list[Params], seen: Params) -> None:
    """Running statistics that the pass has moved in the stacked views, to where the views have them from."""
    with torch.no_grad():
        for k, p in lanes[0].learner.binding.own.items():
            if not p.requires_grad:
                for v, row in zip(views, seen[k], strict=True):
                    v[k].copy_(row)
