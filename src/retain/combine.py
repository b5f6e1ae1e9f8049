"""Several gradient methods as one, and any method in plain words."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, final, get_args

from torch import Generator, Tensor

from retain.method import GradientMethod, Growth, Method, Stores, Traits, Update
from retain.methods import discover
from retain.optim import Optim
from retain.types import Batch, Params, Problem, Step, Task


@final
@dataclass(frozen=True)
class Chain(GradientMethod[tuple[Any, ...]]):
    """Several gradient methods as one: each hook is a fold over theirs, in order."""

    methods: tuple[GradientMethod[Any], ...]

    @property
    def needs(self) -> Traits:
        """What any of them needs; it fails only where all of them do."""
        each = [m.needs for m in self.methods]
        common = tuple(s for s in each[0].scenarios if all(s in t.scenarios for t in each))
        return Traits(
            stores=max((t.stores for t in each), key=get_args(Stores).index),
            growth=max((t.growth for t in each), key=get_args(Growth).index),
            cost=" and ".join(dict.fromkeys(t.cost for t in each)),
            steps=1 + sum(t.steps - 1 for t in each),
            closed_form=all(t.closed_form for t in each),
            scenarios=common,
            fails_in=tuple(s for s in common if all(s in t.fails_in for t in each)),
            boundaries=any(t.boundaries for t in each),
            losses=tuple(x for x in each[0].losses if all(x in t.losses for t in each)),
        )

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, tuple[Any, ...]]:
        """Each one's state, side by side."""
        states = []
        for m in self.methods:
            params, s = m.init(problem, params, rng)
            states.append(s)
        return params, tuple(states)

    def begin_task(
        self, problem: Problem, params: Params, state: tuple[Any, ...], task: Task, rng: Generator
    ) -> tuple[Params, tuple[Any, ...]]:
        """Each one's, in order."""
        states = []
        for m, s in zip(self.methods, state, strict=True):
            params, s = m.begin_task(problem, params, s, task, rng)
            states.append(s)
        return params, tuple(states)

    def batch(
        self, problem: Problem, params: Params, state: tuple[Any, ...], batch: Batch, rng: Generator
    ) -> tuple[Batch, tuple[Any, ...]]:
        """Each one's, on the batch that the one before gave."""
        states = []
        for m, s in zip(self.methods, state, strict=True):
            batch, s = m.batch(problem, params, s, batch, rng)
            states.append(s)
        return batch, tuple(states)

    def view(
        self, problem: Problem, params: Params, state: tuple[Any, ...], task: Tensor, rng: Generator | None
    ) -> Params:
        """Each one's view of the view before."""
        for m, s in zip(self.methods, state, strict=True):
            params = m.view(problem, params, s, task, rng)
        return params

    def predict(
        self, problem: Problem, params: Params, state: tuple[Any, ...], x: Tensor, task: Tensor
    ) -> Tensor:
        """The one's that has a way of its own to predict, if any; else the logits of the view."""
        for i, m in enumerate(self.methods):
            if _predicts(m):
                for other, s in zip(self.methods, state, strict=True):
                    params = params if other is m else other.view(problem, params, s, task, None)
                return m.predict(problem, params, state[i], x, task)
        return super().predict(problem, params, state, x, task)

    def loss(
        self, problem: Problem, params: Params, state: tuple[Any, ...], batch: Batch, logits: Tensor,
        loss: Tensor,
    ) -> Tensor:  # fmt: skip
        """Each one's, on the loss that the one before gave."""
        for m, s in zip(self.methods, state, strict=True):
            loss = m.loss(problem, params, s, batch, logits, loss)
        return loss

    def gradient(
        self, problem: Problem, params: Params, state: tuple[Any, ...], batch: Batch, grads: Params
    ) -> Params:
        """Each one's, on the gradient that the one before gave."""
        for m, s in zip(self.methods, state, strict=True):
            grads = m.gradient(problem, params, s, batch, grads)
        return grads

    @property
    def divides(self) -> bool:
        """Whether each of them does, and none has something of its own to say of the rows."""
        return all(m.divides and type(m).rows is GradientMethod.rows for m in self.methods)

    @property
    def adds_loss(self) -> bool:
        """Whether any of them does."""
        return any(m.adds_loss for m in self.methods)

    @property
    def follows_steps(self) -> bool:
        """Whether any of them does."""
        return any(m.follows_steps for m in self.methods)

    def after_step(
        self, problem: Problem, params: Params, state: tuple[Any, ...], step: Step
    ) -> tuple[Params, tuple[Any, ...]]:
        """Each one's, in order."""
        states = []
        for m, s in zip(self.methods, state, strict=True):
            params, s = m.after_step(problem, params, s, step._replace(after=params))
            states.append(s)
        return params, tuple(states)

    def end_task(
        self,
        problem: Problem,
        params: Params,
        state: tuple[Any, ...],
        task: Task,
        update: Update,
        rng: Generator,
    ) -> tuple[Params, tuple[Any, ...]]:
        """Each one's, in order."""
        states = []
        for m, s in zip(self.methods, state, strict=True):
            params, s = m.end_task(problem, params, s, task, update, rng)
            states.append(s)
        return params, tuple(states)

    def optimizers(self) -> dict[str, Optim]:
        """All of theirs."""
        return {prefix: o for m in self.methods for prefix, o in m.optimizers().items()}

    def examples_stored(self, state: tuple[Any, ...]) -> int:
        """The sum of theirs."""
        return sum(m.examples_stored(s) for m, s in zip(self.methods, state, strict=True))

    @property
    def remedy(self) -> str:
        """What each of them advises."""
        return "; or ".join(dict.fromkeys(m.remedy for m in self.methods))

    def stiffness(self, state: tuple[Any, ...]) -> tuple[float, str]:
        """The stiffest of theirs."""
        return max((m.stiffness(s) for m, s in zip(self.methods, state, strict=True)), key=lambda s: s[0])

    def inspect(self, problem: Problem, params: Params, state: tuple[Any, ...], end: bool) -> dict[str, Any]:
        """All of theirs; the later one where two share a name."""
        shown: dict[str, Any] = {}
        for m, s in zip(self.methods, state, strict=True):
            shown |= m.inspect(problem, params, s, end)
        return shown


def chain(*methods: GradientMethod[Any]) -> GradientMethod[Any]:
    """Combine gradient methods: `chain(Replay(...), EWC(...))`. One method alone is itself.

    Raises:
        ValueError: no method; two of a kind that need parameters under the same prefix; two that
            predict in ways of their own.
        TypeError: something that is not a GradientMethod (joint training cannot be combined).
    """
    if not methods:
        raise ValueError("chain needs at least one method")
    for m in methods:
        if not isinstance(m, GradientMethod) or m.data != "task":
            raise TypeError(f"chain combines gradient methods on the current task, got {m!r}")
    prefixes = [p for m in methods for p in m.optimizers()]
    if len(set(prefixes)) < len(prefixes):
        raise ValueError(f"two methods of the chain add parameters under one prefix: {sorted(prefixes)}")
    if len(own := [type(m).__name__ for m in methods if _predicts(m)]) > 1:
        raise ValueError(f"two methods of the chain predict in ways of their own: {' and '.join(own)}")
    return methods[0] if len(methods) == 1 else Chain(methods)


def _predicts(method: GradientMethod[Any]) -> bool:
    """Whether it has a way of its own to predict."""
    return type(method).predict is not GradientMethod.predict


def describe(method: Method[Any]) -> dict[str, Any]:
    """Name and hyper-parameters, JSON-able."""
    if isinstance(method, Chain):
        return {"name": "chain", "methods": [describe(m) for m in method.methods]}
    names = {kind: name for name, kind in discover().items()}
    plain: dict[str, Any] = {}
    if dataclasses.is_dataclass(method):
        for f in dataclasses.fields(method):
            value = getattr(method, f.name)
            plain[f.name] = list(value) if isinstance(value, tuple) else value
    return {"name": names.get(type(method), type(method).__name__), **plain}


def owners(field: str) -> list[str]:
    """The methods that have a hyper-parameter of this name.

    >>> owners("proximal")
    ['ewc']
    """
    return [
        name
        for name, kind in discover().items()
        if dataclasses.is_dataclass(kind) and field in {f.name for f in dataclasses.fields(kind)}
    ]
