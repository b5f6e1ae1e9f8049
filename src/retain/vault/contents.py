"""What a version holds, and the learner that it is while it learns or predicts.

Two files: `contents.json`, what is known of the data (labels, preprocessing, tasks, method, guards), and
`state.safetensors`, the learner's snapshot. Whatever in it is exactly a byte divided by 255, as stored
images are, lies there as bytes: a quarter of the room, and the same bits when it is read.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from retain import checkpoint, tree
from retain.combine import describe
from retain.examples import Examples
from retain.experiment import method_from
from retain.learner import Learner
from retain.method import Method
from retain.types import Task
from retain.vault.data import Labels, Preprocessing
from retain.vault.errors import Damaged, VaultError
from retain.vault.models import build, check_trust
from retain.vault.plan import Charter
from retain.vault.store import Store

CONTENTS, STATE = "contents.json", "state.safetensors"
FEW = 4096  # entries: smaller tensors are not worth packing


class Learned(NamedTuple):
    """An update that the version has learned."""

    name: str
    classes: tuple[int, ...]  # outputs that occurred in it
    source: str  # where its data were
    sha256: str  # of them


class Kept(NamedTuple):
    """A guard set that belongs to the version."""

    name: str  # of the update that it is from, or of several
    sha256: str  # of its blob, or of the content at `source`
    examples: int
    source: str | None  # None: a blob of the vault; else where it lies, outside


@dataclass(frozen=True, eq=False)
class Contents:
    """Everything that a version is, but for its report."""

    tasks: tuple[Learned, ...]
    labels: Labels | None  # None: numbers are predicted
    preprocessing: Preprocessing
    columns: tuple[str, ...]  # that hold the targets, where columns have names
    outputs: int  # of the network, used or still in reserve
    method: Method[Any]
    why: str  # that method
    temperature: float  # by which logits are divided before they are called probabilities
    guards: tuple[Kept, ...]
    forgotten: tuple[int, ...]  # outputs of classes that were forgotten on purpose: never predicted
    snapshot: dict[str, Any] | None  # of the learner; None: it has not learned anything yet

    @property
    def known(self) -> tuple[int, ...]:
        """Outputs of the classes that it can predict, ascending."""
        seen = {c for task in self.tasks for c in task.classes}
        return tuple(sorted(seen - set(self.forgotten)))

    def files(self) -> dict[str, bytes]:
        """As the files of a version."""
        d = {
            "schema": 1,
            "tasks": [{**t._asdict(), "classes": list(t.classes)} for t in self.tasks],
            "labels": None if self.labels is None else self.labels.to_json(),
            "preprocessing": self.preprocessing.to_json(),
            "columns": list(self.columns),
            "outputs": self.outputs,
            "method": describe(self.method),
            "why": self.why,
            "temperature": self.temperature,
            "guards": [g._asdict() for g in self.guards],
            "forgotten": list(self.forgotten),
        }
        text = json.dumps(d, indent=1, ensure_ascii=False, allow_nan=False)
        return {CONTENTS: text.encode(), STATE: checkpoint.dumps(packed(self.snapshot))}


def read(store: Store, version: int) -> Contents:
    """A version from its files.

    Raises:
        Damaged: a file is not what its checksum says, or does not say what it has to.
    """
    d = _words(store, version)
    try:
        method = method_from(d["method"])  # imported before the state, whose parts are looked up by name
        snapshot = unpacked(checkpoint.loads(store.file(version, STATE), f"{STATE} of version {version}"))
        return Contents(
            tuple(Learned(**{**t, "classes": tuple(t["classes"])}) for t in d["tasks"]),
            None if d["labels"] is None else Labels.from_json(d["labels"]),
            Preprocessing.from_json(d["preprocessing"]),
            tuple(d["columns"]), d["outputs"], method, d["why"], float(d["temperature"]),
            tuple(Kept(**g) for g in d["guards"]), tuple(d["forgotten"]), snapshot,
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError, checkpoint.BadCheckpoint, RecursionError) as e:
        raise Damaged(f"version {version} does not say what it has to: {e}") from e
    except ValueError as e:
        if isinstance(e, VaultError):
            raise
        raise Damaged(f"version {version} does not say what it has to: {e}") from e


def columns(store: Store, version: int) -> tuple[str, ...]:
    """The columns that hold the targets of a version; its weights are not read.

    Raises:
        Damaged: `contents.json` is not what its checksum says, or does not say it.
    """
    found = _words(store, version).get("columns")
    if not (isinstance(found, list) and all(isinstance(name, str) for name in found)):
        raise Damaged(f"version {version} does not say which columns it predicts")
    return tuple(found)


def _words(store: Store, version: int) -> dict[str, Any]:
    """What `contents.json` says."""
    try:
        d = json.loads(store.file(version, CONTENTS))
    except (ValueError, RecursionError) as e:
        if isinstance(e, VaultError):
            raise
        raise Damaged(f"version {version} does not say what it has to: {e}") from e
    if not isinstance(d, dict):
        raise Damaged(f"version {version} does not say what it has to: it holds no object")
    if d.get("schema") != 1:
        raise VaultError(f"version {version} was written by a later retain: update it to read this vault")
    return d


class Bytes(NamedTuple):
    """A tensor whose every entry is one of these bytes divided by 255."""

    x: Tensor


def packed(state: Any) -> Any:
    """The same state with tensors of pixels as Bytes; `unpacked` gives back the same bits."""
    return tree.alike(lambda leaf: _packed(leaf[0]), state)


def _packed(leaf: Any) -> Any:
    if not (isinstance(leaf, Tensor) and leaf.dtype == torch.float32 and leaf.numel() >= FEW):
        return leaf
    x = leaf.detach().mul(255).round().clamp(0, 255).to(torch.uint8)
    # (0 and -0 are equal, and only one of them would come back)
    same = torch.equal(torch.div(x, 255), leaf) and not bool((leaf.signbit() & (leaf == 0)).any())
    return Bytes(x) if same else leaf


def unpacked(state: Any) -> Any:
    """The inverse of `packed`."""
    if isinstance(state, Bytes):
        return torch.div(state.x, 255)
    if isinstance(state, dict):
        return {k: unpacked(v) for k, v in state.items()}
    if isinstance(state, tuple | list):
        values = [unpacked(v) for v in state]
        return type(state)(*values) if "_fields" in vars(type(state)) else type(state)(values)
    return state


@contextmanager
def own_randomness(threads: int) -> Iterator[None]:
    """While it holds, torch's global generator and threads are the vault's; the caller's come back after."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def task_of(number: int, learned: Learned, train: Examples) -> Task:
    """An update as the learner's task."""
    return Task(number, learned.name, train, None, None, learned.classes)


def empty(preprocessing: Preprocessing, outputs: int | None) -> Examples:
    """One example of zeros, from which a learner sees the shape of the data; outputs: of regression."""
    dtype = torch.uint8 if preprocessing.kind == "images" else torch.float32
    y = torch.zeros(1, dtype=torch.int64) if outputs is None else torch.zeros(1, outputs)
    return Examples(torch.zeros(1, *preprocessing.shape, dtype=dtype), y)


class Maker:
    """Makes the learners of one vault.

    Args:
        charter: what the vault was told when it was made.
        model: the module that a vault with a model of the caller's own is about; it is copied, never changed.
            Or the name of the factory that the vault may import.

    Raises:
        VaultError: such a module is missing, or one is given that the vault does not want; or it names a factory
            that nobody here has named.
    """

    def __init__(self, charter: Charter, model: nn.Module | str | None = None):
        check_trust(charter.model["name"], model if isinstance(model, str) else None)
        self.charter, self.model = charter, model if isinstance(model, nn.Module) else None
        own = charter.model["name"] == "own"
        if own and self.model is None:
            raise VaultError(
                f"this vault is about a module of your own ({charter.model.get('class', '?')}): "
                "open it in Python, as retain.open(path, model=...)"
            )
        if self.model is not None and not own:
            raise VaultError(f"this vault makes its own model ({charter.model['name']}): open it without one")

    def module(self, preprocessing: Preprocessing, outputs: int) -> nn.Module:
        """A new network."""
        if self.model is not None:
            return copy.deepcopy(self.model)
        return build(self.charter.model, preprocessing.shape, outputs, self.charter.plan.seed)

    def outputs(self, preprocessing: Preprocessing) -> int:
        """How many outputs a module of the caller's own has; else how many are reserved for classes."""
        if self.model is None:
            return self.charter.plan.outputs
        module = copy.deepcopy(self.model).eval()
        with torch.no_grad():
            return int(
                module(empty(preprocessing, None).batch(torch.zeros(1, dtype=torch.int64))[0]).shape[-1]
            )

    def fresh(
        self, method: Method[Any], preprocessing: Preprocessing, outputs: int, weights: Tensor | None = None
    ) -> Learner:
        """A learner that has not learned anything, bound to the shape of the data; weights: of classes [C]."""
        plan = self.charter.plan
        learner = Learner(
            self.module(preprocessing, outputs), method, plan.optim, seed=plan.seed,
            scenario=plan.scenario, classes="seen" if plan.scenario == "class" else None,
            schedule=plan.schedule, loss=plan.loss, class_weights=weights,
        )  # fmt: skip
        torch.manual_seed(plan.seed)
        learner.start(empty(preprocessing, None if plan.target == "class" else outputs))
        return learner

    def learner(self, c: Contents, weights: Tensor | None = None) -> Learner:
        """The learner that a version is; weights: of classes [C], in what it learns next."""
        learner = self.fresh(c.method, c.preprocessing, c.outputs, weights)
        if c.snapshot is not None:
            nothing = empty(c.preprocessing, None)
            restore(learner, c.snapshot, [task_of(i, t, nothing) for i, t in enumerate(c.tasks)])
        return learner


def restore(
    learner: Learner, snapshot: dict[str, Any], tasks: list[Task], amid: Task | None = None, steps: int = 0
) -> None:
    """Become what was snapshot after these tasks, or amid one of so many steps.

    Raises:
        Damaged: the snapshot is not one of such a learner.
    """
    try:
        learner.restore(snapshot, tasks, amid, steps)
    except (KeyError, TypeError, IndexError, RuntimeError, ValueError) as e:
        raise Damaged(f"the state is none of {type(learner.method).__name__} on this model: {e}") from e


Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and how much there is in all."""
