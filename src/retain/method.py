"""The central interface: what a method of lifelong learning is.

A method is a frozen dataclass of hyper-parameters and a few pure functions. All that it remembers
is its state, which it receives and gives back; it never sees the loop, the optimiser, the device
or a logger. Params and state are consumed: after a call only what was returned is valid. Batch,
task and the inputs of `predict` are never changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import (
    Any,
    ClassVar,
    Generic,
    Literal,
    Protocol,
    TypeVar,
    final,
    get_args,
    get_origin,
    get_type_hints,
)

import torch
from torch import Generator, Tensor

from retain.optim import Optim
from retain.types import Batch, Params, Problem, Step, Task

S = TypeVar("S")


class Update(Protocol):
    """Steps the optimiser."""

    @property
    def lr(self) -> dict[str, float]:
        """The learning rate that each entry of params is moved with now."""

    def __call__(self, params: Params, grads: Params) -> Params:
        """Write params into the live storage where they are other tensors, then step along grads."""


class Method(ABC, Generic[S]):
    """Anything that learns a stream of tasks."""

    paper: ClassVar[str] = ""
    data: ClassVar[Literal["task", "all so far"]] = "task"  # what the learner feeds it
    remedy: ClassVar[str] = "lower the learning rate (lr, --lr) or clip the gradient (clip, --clip)"

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, S]:
        """The state before any task; may add entries to params under a prefix of its own."""
        return params, None  # type: ignore[return-value]

    def begin_task(
        self, problem: Problem, params: Params, state: S, task: Task, rng: Generator
    ) -> tuple[Params, S]:
        """Before the first step on a task."""
        return params, state

    @abstractmethod
    def observe(
        self, problem: Problem, params: Params, state: S, batch: Batch, update: Update, rng: Generator
    ) -> tuple[Params, S, Tensor]:
        """Learn from one batch; gives the loss too, a scalar tensor."""

    def end_task(
        self, problem: Problem, params: Params, state: S, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, S]:
        """After the last step on a task: consolidate."""
        return params, state

    def predict(self, problem: Problem, params: Params, state: S, x: Tensor, task: Tensor) -> Tensor:
        """Logits [N, C], finite and deterministic; the learner leaves out classes not in play."""
        return problem.logits(params, x, task)

    def optimizers(self) -> dict[str, Optim]:
        """What moves the entries of params that this method adds, by their prefix."""
        return {}

    def examples_stored(self, state: S) -> int:
        """How many raw examples of the past the state holds."""
        return 0

    def stiffness(self, state: S) -> tuple[float, str]:
        """The largest second derivative of what the method adds to the loss, and its formula.

        Explicit SGD with learning rate lr diverges once lr times this exceeds 2. 0: adds none.
        """
        return 0.0, ""

    def inspect(self, problem: Problem, params: Params, state: S, end: bool) -> dict[str, Any]:
        """What a report shows of the inside, JSON-able; `end`: right after `end_task`."""
        return {}


class GradientMethod(Method[S]):
    """A method that learns by gradient steps: five hooks, each the identity by default."""

    def batch(
        self, problem: Problem, params: Params, state: S, batch: Batch, rng: Generator
    ) -> tuple[Batch, S]:
        """What to learn from (replay)."""
        return batch, state

    def view(self, problem: Problem, params: Params, state: S, task: Tensor, rng: Generator | None) -> Params:
        """What the network is run with (masks, a sample of the weights); rng is None in prediction."""
        return params

    def loss(self, problem: Problem, params: Params, state: S, batch: Batch, loss: Tensor) -> Tensor:
        """What to minimise (distillation); `loss` is the cross-entropy of the batch."""
        return loss

    def gradient(self, problem: Problem, params: Params, state: S, batch: Batch, grads: Params) -> Params:
        """Where to go (GEM, a quadratic penalty); grads is consumed."""
        return grads

    def after_step(self, problem: Problem, params: Params, state: S, step: Step) -> tuple[Params, S]:
        """What to remember of the step taken, or a constraint that must hold exactly after it."""
        return params, state

    @property
    def follows_steps(self) -> bool:
        """Whether `after_step` is overridden: only then are the old parameters cloned each step."""
        return type(self).after_step is not GradientMethod.after_step

    @final
    def objective(self, problem: Problem, params: Params, state: S, batch: Batch, rng: Generator) -> Tensor:
        """The scalar that one step descends: `view`, the cross-entropy, `loss`."""
        view = self.view(problem, params, state, batch.task, rng)
        return self.loss(problem, view, state, batch, problem.loss(view, batch))

    @final
    def finish(
        self, problem: Problem, params: Params, state: S, batch: Batch, grads: Params, update: Update
    ) -> tuple[Params, S]:
        """From the gradients of the objective to the end of the step."""
        with torch.no_grad():
            grads = self.gradient(problem, params, state, batch, grads)
            if not self.follows_steps:
                return update(params, grads), state
            before = {k: params[k].detach().clone() for k in grads}
            params = update(params, grads)
            return self.after_step(problem, params, state, Step(before, params, grads, batch, update.lr))

    @final
    def observe(
        self, problem: Problem, params: Params, state: S, batch: Batch, update: Update, rng: Generator
    ) -> tuple[Params, S, Tensor]:
        """One step: batch, objective, gradient, update, after_step."""
        with torch.no_grad():
            batch, state = self.batch(problem, params, state, batch, rng)
        loss = self.objective(problem, params, state, batch, rng)
        moved = {k: p for k, p in params.items() if p.requires_grad}
        grads = torch.autograd.grad(loss, list(moved.values()), allow_unused=True)
        filled = {
            k: torch.zeros_like(p) if g is None else g for (k, p), g in zip(moved.items(), grads, strict=True)
        }
        params, state = self.finish(problem, params, state, batch, filled, update)
        return params, state, loss.detach()

    def predict(self, problem: Problem, params: Params, state: S, x: Tensor, task: Tensor) -> Tensor:
        """The logits of the view."""
        return problem.logits(self.view(problem, params, state, task, None), x, task)


@final
@dataclass(frozen=True)
class Chain(GradientMethod[tuple[Any, ...]]):
    """Several gradient methods as one: each hook is a fold over theirs, in order."""

    methods: tuple[GradientMethod[Any], ...]

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

    def loss(
        self, problem: Problem, params: Params, state: tuple[Any, ...], batch: Batch, loss: Tensor
    ) -> Tensor:
        """Each one's, on the loss that the one before gave."""
        for m, s in zip(self.methods, state, strict=True):
            loss = m.loss(problem, params, s, batch, loss)
        return loss

    def gradient(
        self, problem: Problem, params: Params, state: tuple[Any, ...], batch: Batch, grads: Params
    ) -> Params:
        """Each one's, on the gradient that the one before gave."""
        for m, s in zip(self.methods, state, strict=True):
            grads = m.gradient(problem, params, s, batch, grads)
        return grads

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

    def stiffness(self, state: tuple[Any, ...]) -> tuple[float, str]:
        """The stiffest of theirs."""
        return max((m.stiffness(s) for m, s in zip(self.methods, state, strict=True)), key=lambda s: s[0])

    def inspect(self, problem: Problem, params: Params, state: tuple[Any, ...], end: bool) -> dict[str, Any]:
        """All of theirs; the later one where two share a name."""
        shown: dict[str, Any] = {}
        for m, s in zip(self.methods, state, strict=True):
            shown |= m.inspect(problem, params, s, end)
        return shown


def check_choices(method: Method[Any]) -> None:
    """Raise ValueError where a field that is a choice among words holds none of them."""
    for name, hint in get_type_hints(type(method)).items():
        if get_origin(hint) is Literal and getattr(method, name) not in get_args(hint):
            words = ", ".join(get_args(hint))
            kind = type(method).__name__
            raise ValueError(f"{kind}.{name} must be one of {words}, got {getattr(method, name)!r}")


def chain(*methods: GradientMethod[Any]) -> GradientMethod[Any]:
    """Combine gradient methods: `chain(Replay(...), EWC(...))`. One method alone is itself.

    Raises:
        ValueError: no method; two of a kind that need parameters under the same prefix.
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
    return methods[0] if len(methods) == 1 else Chain(methods)
