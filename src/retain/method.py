"""The central interface: what a method of lifelong learning is.

A method is a frozen dataclass of hyper-parameters and a few pure functions. All that it remembers
is its state, which it receives and gives back; it never sees the loop, the optimiser, the device
or a logger. Params and state are consumed: after a call only what was returned is valid. Batch,
task and the inputs of `predict` are never changed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
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

from retain import tree
from retain.optim import Optim
from retain.types import Batch, Loss, Params, Problem, Scenario, Step, Task

S = TypeVar("S")
Stores = Literal["nothing", "statistics", "generator", "examples"]
Growth = Literal["constant", "with tasks", "with classes"]
RULES: dict[str, Callable[[float], bool]] = {
    "> 0": lambda v: v > 0,
    ">= 0": lambda v: v >= 0,
    "> 1": lambda v: v > 1,
    ">= 1": lambda v: v >= 1,
    "in [0, 1)": lambda v: 0 <= v < 1,
    "in [0, 1]": lambda v: 0 <= v <= 1,
    "in (0, 1]": lambda v: 0 < v <= 1,
}
SLOWER = "lower the learning rate (lr, --lr) or clip the gradient (clip, --clip)"


@dataclass(frozen=True)
class Traits:
    """What a method needs, what it keeps and what it costs: shown by `retain list`, enforced by the learner."""

    stores: Stores = "nothing"  # of the data; weights and masks of the network are no data
    growth: Growth = "constant"  # of what it keeps
    cost: str = "one step"  # of one step of training, in words, a plain step being "one step"
    steps: float = 1.0  # the same in plain steps, a forward pass being a third of one; inf: grows with tasks
    closed_form: bool = False  # takes no gradient step, and needs no more of the network than its features
    scenarios: tuple[Scenario, ...] = ("task", "domain", "class")  # where it can be used at all
    fails_in: tuple[Scenario, ...] = ()  # where it runs but is known to forget nearly all
    boundaries: bool = True  # must be told where a task begins and ends
    losses: tuple[Loss, ...] = ("cross-entropy",)  # what it can learn


class Update(Protocol):
    """Steps the optimiser."""

    @property
    def lr(self) -> dict[str, float]:
        """The learning rate that each entry of params is moved with now."""

    def __call__(self, params: Params, grads: Params) -> Params:
        """Write params into the live storage where they are other tensors, then step along grads."""

    def reset(self) -> None:
        """Forget the optimiser's moments."""


class Method(ABC, Generic[S]):
    """Anything that learns a stream of tasks."""

    paper: ClassVar[str] = ""
    traits: ClassVar[Traits] = Traits()
    data: ClassVar[Literal["task", "all so far"]] = "task"  # what the learner feeds it

    @property
    def needs(self) -> Traits:
        """The traits of the method with these hyper-parameters, where they depend on them."""
        return self.traits

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

    @property
    def remedy(self) -> str:
        """What to do where training diverges because of the method's `stiffness`."""
        return SLOWER

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

    def loss(
        self, problem: Problem, params: Params, state: S, batch: Batch, logits: Tensor, loss: Tensor
    ) -> Tensor:
        """What to minimise (distillation); `loss` is the cross-entropy of the batch, params the view."""
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

    @property
    def divides(self) -> bool:
        """Whether several processes can each do some rows of a batch: the loss is a weighted sum over them.

        By default where neither `view` nor `loss` is overridden. Where not, each process does them all.
        """
        cls = type(self)
        return cls.view is GradientMethod.view and cls.loss is GradientMethod.loss

    @property
    def adds_loss(self) -> bool:
        """Whether `loss` is overridden: what it makes of the batch's loss is the method's own."""
        return type(self).loss is not GradientMethod.loss

    def rows(self, batch: Batch, rows: slice) -> Batch:
        """These rows of a batch, and what `batch.extra` says of them, for a method that `divides`."""
        weight = None if batch.weight is None else batch.weight[rows]
        return Batch(batch.x[rows], batch.y[rows], batch.task[rows], weight, batch.extra)

    @final
    def part(self, problem: Problem, params: Params, batch: Batch) -> Batch:
        """What this process evaluates of a batch, so weighted that the mean over all processes is the whole loss.

        (So a term that does not depend on the rows counts once.)
        """
        world, n = problem.world, len(batch.y)
        if world.size == 1 or n < world.size or not self.divides:
            return batch
        weight = batch.weight
        if weight is None:
            weight = params[problem.spec.names[0]].new_full((n,), 1 / n)
        return self.rows(batch._replace(weight=world.size * weight), world.rows(n))

    @final
    def objective(self, problem: Problem, params: Params, state: S, batch: Batch, rng: Generator) -> Tensor:
        """The scalar that one step descends: `view`, the cross-entropy, `loss`."""
        view = self.view(problem, params, state, batch.task, rng)
        logits = problem.logits(view, batch.x, batch.task, True)
        loss = problem.batch_loss(batch, logits)
        return self.loss(problem, view, state, batch, logits, loss)

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
        loss = self.objective(problem, params, state, self.part(problem, params, batch), rng)
        grads = tree.gradients(loss, {k: p for k, p in params.items() if p.requires_grad})
        grads, loss = tree.averaged(problem.world, grads, loss.detach())
        params, state = self.finish(problem, params, state, batch, grads, update)
        return params, state, loss

    def predict(self, problem: Problem, params: Params, state: S, x: Tensor, task: Tensor) -> Tensor:
        """The logits of the view."""
        return problem.logits(self.view(problem, params, state, task, None), x, task)


def check_choices(method: Method[Any]) -> None:
    """Raise ValueError where a field that is a choice among words holds none of them."""
    for name, hint in get_type_hints(type(method)).items():
        if get_origin(hint) is Literal and getattr(method, name) not in get_args(hint):
            words = ", ".join(get_args(hint))
            kind = type(method).__name__
            raise ValueError(f"{kind}.{name} must be one of {words}, got {getattr(method, name)!r}")


def check_numbers(method: Method[Any], rules: dict[str, str]) -> None:
    """Raise ValueError where a field, or a member of a tuple, is infinite or breaks its rule.

    A rule is one of RULES as the message says it, such as "a number > 0 or none"; None passes where the
    field's type has it.
    """
    hints = get_type_hints(type(method))
    for name, words in rules.items():
        value = getattr(method, name)
        if value is None and type(None) in get_args(hints[name]):
            continue
        rule = RULES[words.removeprefix("a number ").partition(" or ")[0]]
        for v in value if isinstance(value, tuple) else (value,):
            if not (math.isfinite(v) and rule(v)):
                raise ValueError(f"{type(method).__name__}.{name} must be {words}, got {value}")
