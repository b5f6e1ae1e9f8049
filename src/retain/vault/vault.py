"""The durable home of one model that goes on learning."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from retain.method import Method
from retain.vault import auto, contents, forget, guarded, update
from retain.vault.contents import Contents, Maker, Progress, empty, own_randomness, read, task_of
from retain.vault.data import Raw
from retain.vault.errors import BadData, VaultError
from retain.vault.export import About, Exported, to_onnx, to_torch
from retain.vault.guards import Guard
from retain.vault.judge import Seen, logits_of
from retain.vault.look import look
from retain.vault.models import parse_model
from retain.vault.plan import Charter, Plan
from retain.vault.prepare import prepare, read_as, targets
from retain.vault.records import REPORT, event
from retain.vault.serving import Serving, network_of
from retain.vault.store import Store
from retain.vault.update import Ask, Update
from retain.vault.verify import Problem, verify

CHECKED = 1000  # examples on which an export is compared with the vault's own predictions, at least

Source = Any
"""A path (a folder of images, .csv, .parquet, .npz, .safetensors, a saved Hugging Face dataset), a torch
Dataset, or arrays (x, y)."""


class Predictions(NamedTuple):
    """What a version says of N examples."""

    labels: list[Any]  # the classes, as they were named; multilabel, regression: lists of K numbers
    probabilities: Tensor  # float [N, K], in the order of `classes`; regression: the numbers themselves
    classes: list[Any]  # names of the columns of `probabilities`
    where: list[str]  # how each example is called


class Vault:
    """One model, version by version. Made by `retain.init`, opened by `retain.open`."""

    def __init__(self, store: Store, model: nn.Module | str | None = None):
        self.store = store
        self.charter = Charter.from_json(store.charter)
        self._model = model
        self._loaded: tuple[int, Contents, Any] | None = None

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.store.path

    @property
    def plan(self) -> Plan:
        """Its settings."""
        return self.charter.plan

    @property
    def served(self) -> int | None:
        """The number of the version that predicts; None: there is none yet."""
        return self.store.head().served

    # ---- learning ----

    def learn(
        self, source: Source, name: str | None = None, *, guard: Source = None, guard_stays: bool = False,
        force: bool = False, scratch: bool = False, progress: Progress | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Update:  # fmt: skip
        """Train a candidate on new data, and serve it if the gate lets it pass.

        Args:
            source: the new data, with labels.
            name: of the update; None: update-1, update-2, ...
            guard: a held-out set of one's own; None: it is held out of the data.
            guard_stays: the guard stays at its path and is only referred to, by its checksum.
            force: serve the candidate also if the gate refuses it; that is recorded.
            scratch: also train from scratch on the data of all updates, where they are at hand, to compare.
            progress: is told what is being done, how much is done and how much there is.
            stop: asked in every step whether to stop.

        Raises:
            BadData: the data do not fit; names the row or file, and the fix. Nothing has changed.
            Busy: another process is writing.
            Interrupted: `stop` said so; the same call goes on from there.
        """
        raw = self.read(source)
        own = None if guard is None else self.read(guard)
        ask = Ask(raw, name, own, guard_stays, force, scratch)
        return update.learn(self.store, self._maker(), ask, progress or _quiet, stop or _never)

    def read(self, source: Source, labelled: bool | None = True) -> Raw:
        """Data, as this vault reads them."""
        if isinstance(source, Raw):
            return source
        columns, served = self.plan.columns, self.served
        if columns is None and served is not None:  # a feature called y is no label later on, either
            columns = contents.columns(self.store, served) or None
        raw = read_as(source, columns, self.plan, labelled)
        # Where they lie must be found again from any folder: by a guard that stays, and from scratch.
        return replace(raw, source=str(Path(source).resolve())) if isinstance(source, str | Path) else raw

    # ---- what it knows ----

    def evaluate(self, source: Source = None, version: int | None = None) -> dict[str, float]:
        """Accuracy in [0, 1], or mean loss, on every guard, or on data with labels.

        Args:
            source: the data; None: the guards of the version.
            version: its number; None: the one that is served.
        """
        _, c, learner = self._load(version)
        with own_randomness(self.plan.threads):
            if source is None:
                guards = guarded.load(self.store, c, self.plan)
                seen = [Seen(g, None, logits_of(learner, c, g.x, g.numbers)) for g in guards]
            else:
                raw = self.read(source)
                x, _ = c.preprocessing.apply(raw)
                y = _known_targets(raw, c, self.plan)
                one = Guard.of(raw.source, x, y, len(c.tasks) - 1)
                seen = [Seen(one, None, logits_of(learner, c, x, one.numbers))]
            return {s.guard.name: float(s.measure(self.plan.target, served=False) or 0.0) for s in seen}

    def predict(self, source: Source, version: int | None = None, task: str | None = None) -> Predictions:
        """What a version says of examples.

        Args:
            source: the data; labels in them are not looked at.
            version: its number; None: the one that is served.
            task: the name of the update that they are like, where the vault knows that when predicting.
        """
        _, c, learner = self._load(version)
        raw = self.read(source, labelled=None)
        x, _ = c.preprocessing.apply(raw)
        with own_randomness(self.plan.threads):
            logits = logits_of(learner, c, x, self._number(c, task))
        return _predictions(logits, c, self.plan, [raw.where(i) for i in range(len(raw))])

    def _number(self, c: Contents, task: str | None) -> int | None:
        names = [t.name for t in c.tasks]
        if self.plan.scenario != "task":
            if task is not None:
                raise VaultError(
                    "this vault does not know the task when predicting (it was made without task_known)"
                )
            return None
        if task not in names:
            raise VaultError(
                f"predicting needs the update that the examples are like: one of {', '.join(names)}"
            )
        return names.index(task)

    # ---- versions ----

    def history(self) -> list[dict[str, Any]]:
        """Every event, oldest first."""
        return self.store.history()

    def record(self, version: int) -> dict[str, Any]:
        """The whole record of the update that made a version."""
        found: dict[str, Any] = json.loads(self.store.file(version, REPORT))
        return found

    def promote(self, version: int, why: str = "") -> None:
        """Serve a version that is there, such as a candidate that the gate refused; that is recorded."""
        with self.store.writing():
            read(self.store, version)  # whole, or Damaged
            before = self.store.head().served
            self.store.serve(version, event("promote", version, why or "promoted by hand", parent=before))

    def rollback(self) -> int:
        """Serve again what was served before the served version; gives its number.

        Raises:
            VaultError: there is no earlier version, or it is no longer kept.
        """
        with self.store.writing():
            now = self.store.head().served
            if now is None:
                raise VaultError("nothing is served yet: there is nothing to go back from")
            parent = self.store.meta(now).get("parent")
            if parent is None or parent not in self.store.versions():
                raise VaultError(
                    f"version {now} has no earlier version that is still kept: there is nothing to go back to"
                )
            read(self.store, parent)
            self.store.serve(parent, event("rollback", parent, f"rolled back from version {now}", parent=now))
            return int(parent)

    def forget(
        self, cls: str | None = None, task: str | None = None, examples: Source = None
    ) -> dict[str, Any]:
        """Remove what is stored of a class, of an update, or of examples, and every earlier version.

        Gives the record: `removed` and `kept` say in words what could be removed, and what could not.

        Raises:
            VaultError: there is no such class or update.
        """
        raw = None if examples is None else self.read(examples, labelled=None)
        record = forget.forget(self.store, self._maker(), cls, task, raw)
        self._loaded = None
        return record

    def watch(self, source: Source) -> dict[str, Any]:
        """How data differ from what the served version knows; changes nothing.

        Gives `drifted`, `findings` in words, and `tests`.
        """
        _, c, learner = self._load(None)
        plan = self.plan
        p = prepare(self.read(source), "watched", c, plan, None, stays=False)
        with own_randomness(plan.threads):
            old = guarded.load(self.store, c, plan)
            return look(learner, c, old, p, plan).watched()

    def export(
        self, path: str | Path, kind: Literal["onnx", "torch"] = "onnx", version: int | None = None,
        task: str | None = None,
    ) -> Exported:  # fmt: skip
        """Write a version as ONNX, or as a torch.export program, once it has been seen to predict the same.

        Args:
            path: the file; a JSON with labels and preprocessing is written beside it.
            kind: of file.
            version: its number; None: the one that is served.
            task: the name of the update that examples will be like, where the vault knows that when predicting.

        Raises:
            VaultError: the method's way to predict cannot be exported, or predicts otherwise once it is.
        """
        number, c, learner = self._load(version)
        place = self._number(c, task)
        if self.plan.target == "class":
            known = sorted(c.known if place is None else set(c.known) & set(c.tasks[place].classes))
            names = _class_names(c, known)
        else:
            known = list(range(c.outputs))
            names = list(c.columns or (f"y{k}" for k in known))

        def reference(x: Tensor) -> Tensor:
            return _told(logits_of(learner, c, x, place)[:, known], c, self.plan)

        with own_randomness(self.plan.threads):
            guards = [g.x for g in guarded.load(self.store, c, self.plan)]
            examples = torch.cat(guards) if sum(map(len, guards)) >= CHECKED else None
            like = empty(c.preprocessing, None).x
            at = None if place is None else task_of(place, c.tasks[place], empty(c.preprocessing, None))
            serving = Serving(network_of(learner, like, at), known, c.temperature, self.plan.target)
            about = About(tuple(names), c.preprocessing.to_json(), number)
            write = to_onnx if kind == "onnx" else to_torch
            return write(serving, about, reference, Path(path), examples)

    def verify(self) -> list[Problem]:
        """Everything that is wrong with the files of the vault; an empty list: nothing."""
        return verify(self.store)

    def report_path(self, version: int) -> Path:
        """The page that says what an update did."""
        return self.store.folder(version) / "report.html"

    # ---- inside ----

    def _maker(self) -> Maker:
        return Maker(self.charter, self._model)

    def _load(self, version: int | None) -> tuple[int, Contents, Any]:
        """A version and the learner that it is; kept until another one is asked for."""
        number = self.served if version is None else version
        if number is None:
            raise VaultError("nothing is served yet: let it learn first (retain learn PATH DATA)")
        if self._loaded is None or self._loaded[0] != number:
            c = read(self.store, number)
            with own_randomness(self.plan.threads):
                self._loaded = number, c, self._maker().learner(c)
        return self._loaded


def init(
    path: str | Path, model: str | nn.Module = "mlp", method: Method[Any] | None = None, **settings: Any
) -> Vault:
    """Make a vault.

    Args:
        path: a folder that is not there yet, or is empty.
        model: mlp, mlp:400,400, cnn, resnet18, PACKAGE.MODULE:FACTORY (called with shape and outputs), or a
            module of one's own with its weights: then `open` needs it, too.
        method: such as `retain.Replay(memory=500)`; None: chosen when the first data are seen, and said.
        settings: of `Plan`.

    Raises:
        VaultError: a setting outside its range, or a folder that holds something.

    >>> import tempfile
    >>> vault = init(tempfile.mkdtemp(), "mlp:32", epochs=2)
    >>> vault.served is None
    True
    """
    known = {f.name for f in dataclasses.fields(Plan)}
    if odd := sorted(set(settings) - known):
        raise VaultError(f"a vault has no setting {odd[0]!r}; it has {', '.join(sorted(known))}")
    plan = Plan(**settings)
    if method is not None:
        auto.check(method, plan)
    spec = (
        parse_model(model) if isinstance(model, str) else {"name": "own", "class": type(model).__qualname__}
    )
    charter = Charter(plan, spec, method)
    return Vault(Store.create(Path(path), charter.to_json()), model)


def open_vault(path: str | Path, model: nn.Module | str | None = None) -> Vault:
    """Open a vault, to read or to write.

    Args:
        path: its folder.
        model: the module of one's own that it is about, if it is; its weights count only before the first update.
            Or the factory, PACKAGE.MODULE:FACTORY, that its network is made with: a vault is data, and nothing
            that it names is imported unless it is named here or its module is in the variable RETAIN_MODELS.

    Raises:
        FileNotFoundError: there is no vault.
        Damaged: there is one, and it cannot be read.
    """
    return Vault(Store.open(Path(path)), model)


def _predictions(logits: Tensor, c: Contents, plan: Plan, where: list[str]) -> Predictions:
    if plan.target == "class":
        known = list(c.known)
        p, names = _told(logits[:, known], c, plan), _class_names(c, known)
        return Predictions([names[i] for i in p.argmax(1).tolist()], p, names, where)
    p = _told(logits, c, plan)
    columns: list[Any] = list(c.columns or (f"y{k}" for k in range(logits.shape[1])))
    labels = (
        [[int(v) for v in row] for row in (p > 0.5).tolist()] if plan.target == "multilabel" else p.tolist()
    )
    return Predictions(labels, p, columns, where)


def _told(logits: Tensor, c: Contents, plan: Plan) -> Tensor:
    """What people are told of logits [N, K]: calibrated probabilities, each label's own, or the numbers."""
    if plan.target == "class":
        return (logits / c.temperature).softmax(1)
    return logits.sigmoid() if plan.target == "multilabel" else logits


def _class_names(c: Contents, known: Sequence[int]) -> list[Any]:
    """What these outputs are called, as they were given: strings or whole numbers."""
    assert c.labels is not None
    return [int(c.labels.names[k]) if c.labels.integers else c.labels.names[k] for k in known]


def _known_targets(raw: Raw, c: Contents, plan: Plan) -> Tensor:
    """Targets of data to evaluate on; a class that the version does not know counts as wrong."""
    labels, y = targets(raw, c.labels, plan)
    if labels is not None and c.labels is not None and len(labels.names) > len(c.labels.names):
        y = torch.where(y < len(c.labels.names), y, -1)
    if len(y) == 0:
        raise BadData(f"{raw.source} holds no example")
    return y


def _quiet(what: str, done: int, of: int) -> None:
    pass


def _never() -> bool:
    return False
