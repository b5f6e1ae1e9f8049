"""The hooks `gradient` and `after_step` of stacked runs: once for all of them, or one after the other.

Most are formulas that act entry by entry (the pull of a penalty, a path integral): on stacked tensors they
do the same for every run. Some multiply matrices, decide on numbers or run the network. Which one a hook is
its operations tell, every time: on tensors of one shape, each of them entry by entry. And where the state
has a structure that it had in no step before, both ways are taken, on copies, and must give the same.
One after the other is always right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from retain import tree
from retain.combine import Chain
from retain.learner import Learner
from retain.method import GradientMethod
from retain.types import Batch, Params, Problem, Step

Hook = Literal["gradient", "after_step"]
RTOL, ATOL = 1e-4, 1e-6  # to which both ways must agree; atol: of a tensor's largest entry
PLAIN = {"copy_", "clone", "detach", "zero_", "zeros_like", "empty_like", "ones_like"}  # entry by entry too


class NotAlike(ValueError):
    """Why a hook cannot be called once for all runs."""


class _NoBatch:
    """In place of the batch, where all runs are asked at once: what looks at it is called run by run."""

    def __getattr__(self, name: str) -> Any:
        raise NotAlike("it looks at the batch")


class Lane(NamedTuple):
    """One of the runs, and what it learns from in this step."""

    learner: Learner
    batch: Batch

    @property
    def problem(self) -> Problem:
        """Its network and loss."""
        return self.learner._bound


class Around(NamedTuple):
    """What a hook is given beside the problem and the state: of one run, or stacked but for the batch."""

    params: Params
    batch: Batch | None
    grads: Params
    before: Params  # empty where the hook comes before the step


def changes(method: GradientMethod[Any], hook: str) -> bool:
    """Whether a method has a hook of this name of its own."""
    if isinstance(method, Chain):
        return any(changes(m, hook) for m in method.methods)
    return getattr(type(method), hook) is not getattr(GradientMethod, hook)


def rows(stacked: Params, lanes: int) -> list[Params]:
    """What is each run's: views, through which gradients flow."""
    each = {k: p.unbind() for k, p in stacked.items()}
    return [{k: p[i] for k, p in each.items()} for i in range(lanes)]


class Hooks:
    """How the two hooks of a method are called.

    Args:
        method: whose hooks.
        alone: hooks that are called run by run, and why; grows when one is found out.
    """

    def __init__(self, method: GradientMethod[Any], alone: dict[str, str]):
        self.method, self.alone = method, alone
        self._tried: set[tuple[Hook, str]] = set()
        self._sure: dict[Hook, Any] = {}  # the states with which a hook was called last
        self._whole: Any = None  # the states as one
        self._handed: list[Any] = []  # the runs' states, views of it
        self._views: dict[int, tuple[Tensor, list[Tensor]]] = {}  # of each stacked tensor, by the first's id

    def __call__(self, hook: Hook, lanes: list[Lane], around: Around, lr: dict[str, float]) -> Params:
        """Call it for all lanes: writes params and states, and gives the gradients [K, ...].

        Raises:
            NotAlike: it was stacked until now and can be no longer.
        """
        if hook in self.alone:
            return self._one_by_one(hook, lanes, around, lr)
        try:
            state = self._stacked_state([o.learner for o in lanes])
            if state is None or self._sure.get(hook) is not state:
                self._try(hook, lanes, state, around, lr)
                self._sure[hook] = state
        except NotAlike as why:
            self.alone[hook] = str(why)
            return self._one_by_one(hook, lanes, around, lr)
        grads, params = self._at_once(hook, lanes[0].problem, state, around, lr)
        for k, p in around.params.items():
            if params[k] is not p:
                p.copy_(params[k])
        return grads

    def _call(
        self, hook: Hook, problem: Problem, state: Any, a: Around, lr: dict[str, float]
    ) -> tuple[Params, Params, Any]:
        """Gradients, params and state after the hook."""
        batch: Any = _NoBatch() if a.batch is None else a.batch
        if hook == "gradient":
            return self.method.gradient(problem, a.params, state, batch, a.grads), a.params, state
        step = Step(a.before, a.params, a.grads, batch, lr)
        return a.grads, *self.method.after_step(problem, a.params, state, step)

    def _one_by_one(self, hook: Hook, lanes: list[Lane], around: Around, lr: dict[str, float]) -> Params:
        grads, before = rows(around.grads, len(lanes)), rows(around.before, len(lanes))
        for o, g, b in zip(lanes, grads, before, strict=True):
            one = o.learner
            own = Around(one.params, o.batch, dict(g), b)
            new, params, one.state = self._call(hook, o.problem, one.state, own, lr)
            one.params = one.stepper.adopt(params)
            for k, mine in g.items():
                if new[k] is not mine:
                    mine.copy_(new[k])
        return around.grads

    def _at_once(
        self, hook: Hook, problem: Problem, state: Any, around: Around, lr: dict[str, float]
    ) -> tuple[Params, Params]:
        with EntryByEntry():  # type: ignore[no-untyped-call]
            grads, params, after = self._call(hook, problem, state, around, lr)
        if not _same(after, state):
            raise NotAlike("it makes a new state in every step")
        return grads, params

    def _try(self, hook: Hook, lanes: list[Lane], state: Any, around: Around, lr: dict[str, float]) -> None:
        """Whether it gives the same both ways, once for each structure of the state.

        Raises:
            NotAlike: it does not, or cannot be stacked; nothing has changed.
        """
        key = hook, repr(tree.alike(_kind, state))
        if key in self._tried:
            return
        each = zip(*(rows(p, len(lanes)) for p in (around.params, around.grads, around.before)), strict=True)
        wanted = [
            (*self._call(hook, o.problem, own, Around(_copy(p), o.batch, _copy(g), b), lr)[:2], own)
            for (o, own), (p, g, b) in zip([(o, _copy(o.learner.state)) for o in lanes], each, strict=True)
        ]
        stacked = _copy(state)
        try:
            found = (*self._at_once(hook, lanes[0].problem, stacked, _copy(around), lr), stacked)
            for i, one in enumerate(wanted):
                tree.alike(partial(_agree, i), one, found)
        except (RuntimeError, ValueError, TypeError) as why:  # it was not written for this
            raise NotAlike(str(why).partition("\n")[0][:200]) from why
        self._tried.add(key)

    def _stacked_state(self, learners: Sequence[Learner]) -> Any:
        """The states as one, of which each run's own are views from now on.

        Raises:
            NotAlike: they are not of one structure.
        """
        states = [o.state for o in learners]
        if self._handed and all(a is b for a, b in zip(self._handed, states, strict=True)):
            return self._whole
        try:
            self._whole = tree.alike(self._leaf, *states)
        except ValueError as why:
            raise NotAlike(str(why)) from why
        views = {id(t): [t[i] for i in range(len(learners))] for t in tree.tensors(self._whole)}
        views |= {id(t): old for t, old in self._views.values() if id(t) in views}
        for i, one in enumerate(learners):
            one.state = tree.alike(partial(_row, views, i), self._whole, one.state)
        self._views = {id(views[id(t)][0]): (t, views[id(t)]) for t in tree.tensors(self._whole)}
        self._handed = [one.state for one in learners]
        return self._whole

    def _leaf(self, leaves: tuple[Any, ...]) -> Any:
        """The stacked tensor that the leaves are views of, where they are; otherwise they are stacked anew."""
        whole, views = self._views.get(id(leaves[0]), (None, []))
        if whole is not None and all(a is b for a, b in zip(leaves, views, strict=True)):
            return whole
        return _stacked(leaves)


class EntryByEntry(TorchDispatchMode):
    """Lets operations through that act on tensors of one shape, entry by entry: a run's row sees only itself.

    (A tensor without dimensions holds one number, the same for all runs: what differs between them has one
    dimension more.)
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation.

        Raises:
            NotAlike: it is another one.
        """
        name = func.overloadpacket.__name__
        shapes = {t.shape for t in tree.tensors([list(args), kwargs or {}]) if t.dim()}
        if (torch.Tag.pointwise not in func.tags and name not in PLAIN) or len(shapes) > 1:
            raise NotAlike(f"it does more than act entry by entry ({name})")
        return func(*args, **(kwargs or {}))


def _stacked(leaves: tuple[Any, ...]) -> Any:
    """What the runs have in one place, as one: a tensor [K, ...], or what is the same in all.

    A number that differs becomes NaN, and a hook that uses it gives something else than the runs one by one.

    Raises:
        NotAlike: neither.
    """
    first = leaves[0]
    if isinstance(first, Tensor):
        if any(leaf.shape != first.shape for leaf in leaves):
            raise NotAlike("the runs' states have different shapes")
        return torch.stack(leaves)
    if all(leaf is first or (type(leaf) is type(first) and leaf == first) for leaf in leaves):
        return first
    if all(isinstance(leaf, float) for leaf in leaves):
        return math.nan
    raise NotAlike(f"the runs' states hold different {type(first).__name__}s")


def _row(views: dict[int, list[Tensor]], i: int, leaves: tuple[Any, Any]) -> Any:
    whole, own = leaves
    return views[id(whole)][i] if isinstance(whole, Tensor) else own


def _same(a: Any, b: Any) -> bool:
    """Whether two nested states are made of the same things."""
    if a is b:
        return True
    if type(a) is not type(b) or not isinstance(a, dict | tuple | list) or len(a) != len(b):
        return False
    if isinstance(a, dict):
        return all(k in b and _same(v, b[k]) for k, v in a.items())
    return all(_same(v, w) for v, w in zip(a, b, strict=True))


def _copy(a: Any) -> Any:
    return tree.alike(lambda leaves: leaves[0].clone() if isinstance(leaves[0], Tensor) else leaves[0], a)


def _kind(leaves: tuple[Any, ...]) -> str:
    leaf = leaves[0]
    return f"{tuple(leaf.shape)} {leaf.dtype}" if isinstance(leaf, Tensor) else type(leaf).__name__


def _agree(i: int, leaves: tuple[Any, Any]) -> None:
    """Whether run i's row of a stacked tensor is what the run alone gave; ValueError where it is not."""
    wanted, found = leaves
    if isinstance(wanted, Tensor):
        mine = found[i]
        scale = float(wanted.abs().max()) if wanted.is_floating_point() and wanted.numel() else 0.0
        if mine.shape != wanted.shape or not torch.allclose(mine, wanted, RTOL, ATOL * scale, equal_nan=True):
            raise ValueError("stacked it gives something else")
