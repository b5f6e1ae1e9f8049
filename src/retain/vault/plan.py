"""What a vault is told once, when it is made: the same for every update after."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from retain.combine import describe
from retain.experiment import from_plain, method_from
from retain.method import Method, Stores
from retain.optim import Optim, Schedule, check_word
from retain.order import Order
from retain.types import Loss, Scenario
from retain.vault.errors import Damaged, VaultError
from retain.vault.gate import Gate

Target = Literal["class", "multilabel", "regression"]
LOSSES: dict[str, Loss] = {"class": "cross-entropy", "multilabel": "binary", "regression": "squared"}
STEPS = 200  # of an update's training, for which a batch size that is not given leaves room
BATCH = (8, 128)  # between which it lies


@dataclass(frozen=True)
class Plan:
    """Settings of a vault.

    Raises:
        VaultError: a setting outside its range; names it.
    """

    target: Target = "class"  # what is predicted: one class, several at once (0 or 1 each), or numbers
    label: str | None = None  # the column that holds it; several with commas; none: label, class, target or y
    ignore: str | None = None  # columns to leave out, with commas, such as an id
    size: int | None = None  # side to which images are resized; none: all must have the first ones' size
    task_known: bool = False  # which update an example is like is known when predicting
    store: Stores = "examples"  # the most that may be kept of the data, for the method to learn from
    memory_bytes: str | None = None  # room for that, such as 2MB; none: 2000 examples
    outputs: int = (
        128  # of the network, for classes to come, which are never predicted before; more where needed
    )
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"  # what moves the weights
    lr: float = 0.001  # learning rate
    schedule: Schedule = "cosine"  # of the learning rate within an update; one that ends at 0 forgets less
    batch_size: int | None = None  # examples a step; none: 128, of a small update fewer, for 200 steps
    epochs: int = 5  # passes over each update's data, at most
    patience: int | None = None  # stop after so many passes without progress on held-out rows; none: never
    class_weights: Literal["none", "balanced"] = "none"  # rare classes count more
    guard: int = 900  # examples held out of each update to guard it later; at most a fifth of them
    guard_bytes: str = "64MB"  # room for the guards of all updates together
    guard_sets: int = (
        40  # sets that they are kept and tested in, >= 2: beyond, neighbouring updates share one
    )
    margin: float | None = None  # points that a guard may lose; none: 1, or what the guards can resolve
    new_margin: float = 10.0  # points of old guards that may go to new classes
    alpha: float = 0.05  # size of each test of the gate
    keep: int = 5  # versions that were served before and can be gone back to
    seed: int = 0  # of all that is drawn
    threads: int = 1  # that torch computes with; other numbers may give other last bits

    def __post_init__(self) -> None:
        for name in ("outputs", "epochs", "keep", "threads", "guard"):
            _require(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        _require(self.guard_sets >= 2, "guard_sets", ">= 2", self.guard_sets)
        for name in ("patience", "size", "batch_size"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, ">= 1 or none", value)
        for name in ("margin", "new_margin"):
            value = getattr(self, name)
            fits = value is None or (math.isfinite(value) and 0 < value < 100)
            _require(fits, name, "points between 0 and 100", value)
        _require(0 < self.alpha < 0.5, "alpha", "in (0, 0.5)", self.alpha)
        for name, kind in (
            ("target", Target),
            ("store", Stores),
            ("class_weights", Literal["none", "balanced"]),
            ("schedule", Schedule),
        ):
            check_word(name, getattr(self, name), kind)
        self.optim  # noqa: B018  (it checks its own settings)

    def order(self, n: int) -> Order:
        """How an update's n examples are gone through.

        >>> Plan().order(50_000).batch_size, Plan().order(1_000).batch_size, Plan().order(20).batch_size
        (128, 25, 8)

        A batch that is not given leaves no last one of a single example, which BatchNorm cannot take.
        """
        if self.batch_size is not None:
            return Order(self.epochs, None, self.batch_size)
        small, large = BATCH
        batch = min(max(n * self.epochs // STEPS, small), large)
        while n > 1 and n % batch == 1:
            batch += 1
        return Order(self.epochs, None, batch)

    @property
    def optim(self) -> Optim:
        """What the weights are moved with."""
        return Optim(self.optimizer, self.lr)

    @property
    def gate(self) -> Gate:
        """The gate's settings; margins there are shares, here points."""
        margin = None if self.margin is None else self.margin / 100
        return Gate(alpha=self.alpha, margin=margin, new_margin=self.new_margin / 100)

    @property
    def scenario(self) -> Scenario:
        """Which of the three this is."""
        if self.target != "class":
            return "domain"
        return "task" if self.task_known else "class"

    @property
    def loss(self) -> Loss:
        """What training minimises."""
        return LOSSES[self.target]

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of the columns to predict."""
        return _names(self.label)

    @property
    def ignored(self) -> tuple[str, ...]:
        """The names of the columns to leave out."""
        return _names(self.ignore) or ()


@dataclass(frozen=True)
class Charter:
    """All that vault.json says: the plan, the network and the method."""

    plan: Plan
    model: dict[str, Any]  # {"name": "mlp", ...}; {"name": "own"}: a module of the caller's
    method: Method[Any] | None  # None: chosen when the first data are seen

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        method = None if self.method is None else describe(self.method)
        return {"plan": dataclasses.asdict(self.plan), "model": self.model, "method": method}

    @classmethod
    def from_json(cls, d: dict[str, Any]) -> Charter:
        """The inverse.

        Raises:
            Damaged: a setting that this version of retain does not know, or one of the wrong kind.
        """
        try:
            plan, model, method = d["plan"], d["model"], d["method"]
            if not (isinstance(model, dict) and isinstance(model.get("name"), str)):
                raise ValueError(f"the model is {model!r}")
            return cls(from_plain(Plan, plan), model, None if method is None else method_from(method))
        except (KeyError, TypeError, ValueError) as e:
            raise Damaged(f"vault.json does not say what a vault is: {e}") from e


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(","))


def _require(fits: bool, name: str, rule: str, value: object) -> None:
    if not fits:
        raise VaultError(f"{name} must be {rule}, got {value}")
