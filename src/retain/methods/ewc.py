"""Elastic weight consolidation: guard each parameter by how much the old tasks depend on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, final, get_args

from torch import Generator

from retain import tree
from retain.curvature import Labels, Quadratic, fisher
from retain.losses import with_fisher
from retain.method import GradientMethod, Traits, Update, check_choices, check_numbers
from retain.types import Batch, Loss, Params, Problem, Step, Task


class State(NamedTuple):
    """The past tasks' penalties, merged into one; None before the first is learned."""

    penalty: Quadratic | None


@final
@dataclass(frozen=True)
class EWC(GradientMethod[State]):
    """L(theta) + lam / 2 sum_k sum_i F_k,i (theta_i - theta_k,i)^2.

    (Kirkpatrick et al. 2017, eq. 3, one penalty for each past task k.) F_k,i, the lecture's b_i, is
    the diagonal of the Fisher information at theta_k: the loss's second derivative there. Per
    example, beside the mean loss of a batch. The sum of quadratics is kept as one, exactly, so time
    and memory do not grow with the tasks.

    With `online`, one penalty around the latest weights, F* = gamma F* + F_k (Schwarz et al. 2018,
    section 4). With `proximal`, the penalty is taken as a proximal step after the optimiser's, which
    is stable for every lam; as a gradient, SGD diverges once lr * lam * max F > 2. The sum F grows with
    the tasks: what fits a few stops late on many. The recipes take lam 15 to 30 as a gradient at lr 0.1
    for 2 or 3 tasks, and for 10 tasks lam 43 with `proximal`, at lr 0.46. F is small where the network is
    sure of its answers: a task that is fitted without an error may need 1e3 to 1e5. Raise lam tenfold, with
    `proximal`, until the old tasks hold.
    """

    traits: ClassVar[Traits] = Traits(
        losses=get_args(Loss), stores="statistics", cost="one step and a pull", fails_in=("class",)
    )
    paper: ClassVar[str] = (
        "Kirkpatrick et al. 2017, arXiv:1612.00796; online: Schwarz et al. 2018, arXiv:1805.06370"
    )

    lam: float = (
        10.0  # strength of the guard, >= 0; 15 to 30 suits 2 or 3 tasks at lr 0.1; for many add proximal
    )
    labels: Labels = "exact"  # the Fisher's: expected exactly, sampled, true, or the model's choice
    examples: int | None = 2000  # of the task, drawn for the Fisher; none: all of them
    split: Literal["train", "validation"] = "train"  # which examples the Fisher is taken over
    online: bool = False  # one penalty around the latest weights instead of one a task
    gamma: float = 1.0  # online: decay of the old Fisher, in [0, 1]
    proximal: bool = False  # the penalty as a proximal step, stable for every lam

    def __post_init__(self) -> None:
        check_choices(self)
        rules = {"lam": "a number >= 0", "examples": ">= 1 or none (all)", "gamma": "in [0, 1]"}
        check_numbers(self, rules)
        if self.gamma != 1 and not self.online:
            raise ValueError("EWC.gamma decays the online Fisher: it needs online=True (--online)")

    @property
    def needs(self) -> Traits:
        """Some labels leave some losses without a Fisher."""
        return replace(self.traits, losses=with_fisher(self.labels))

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Nothing to guard yet."""
        return params, State(None)

    def gradient(self, problem: Problem, params: Params, state: State, batch: Batch, grads: Params) -> Params:
        """g + lam sum_k F_k (theta - theta_k)."""
        if state.penalty is None or self.proximal:
            return grads
        return state.penalty.pull(self.lam, params, grads)

    @property
    def follows_steps(self) -> bool:
        """Only the proximal form acts after the step."""
        return self.proximal

    def after_step(self, problem: Problem, params: Params, state: State, step: Step) -> tuple[Params, State]:
        """(theta + lr lam F theta_k) / (1 + lr lam F)."""
        if state.penalty is None or not self.proximal:
            return params, state
        return state.penalty.proximal_step(self.lam, params, step.lr), state

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """F_k at theta_k, added to the guard."""
        data = task.train if self.split == "train" else task.validation
        if data is None:
            raise ValueError("EWC.split is validation, but the stream keeps none: set --validation N")
        F = fisher(problem, params, data, task.index, rng, self.labels, self.examples)
        here = tree.clone(params, problem.spec.names)
        past = state.penalty
        if past is None:
            return params, State(Quadratic.around(F, here))
        if self.online:
            decayed = {k: self.gamma * past.weight[k] + F[k] for k in F}
            return params, State(Quadratic.around(decayed, here))
        return params, State(past.plus(Quadratic.around(F, here)))

    def inspect(self, problem: Problem, params: Params, state: State, end: bool) -> dict[str, Any]:
        """After each task, the mean of sum_k F_k over each layer's parameters."""
        return {"importance": state.penalty.by_layer()} if end and state.penalty else {}

    def stiffness(self, state: State) -> tuple[float, str]:
        """lam max F; the proximal form adds nothing to the loss."""
        if state.penalty is None or self.proximal:
            return 0.0, ""
        return self.lam * state.penalty.largest(), "lam * max F"

    @property
    def remedy(self) -> str:
        """A weaker guard, or the form that cannot diverge."""
        proximal = "take the penalty as a proximal step (proximal=True, --proximal), stable for every lam"
        return f"lower lam (--lam) or the learning rate (--lr), or {proximal}"
