"""Forgetting on purpose: examples, guards and statistics of a class, an update, or single examples.

What is stored is removed, exactly, from the served version; every other version still holds it, and is
removed as a whole. What was learned from it stays in the weights of a network: no step back undoes a step
of training on shared weights, and the record says so. Closed-form heads are sums over the examples, and
what is subtracted from a sum was never in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from retain.examples import Examples
from retain.learner import Learner
from retain.memory.removal import without
from retain.types import Batch
from retain.vault import guarded
from retain.vault.contents import Contents, Kept, Maker, own_randomness, read
from retain.vault.data import Raw
from retain.vault.errors import VaultError
from retain.vault.guards import Guard
from retain.vault.records import event
from retain.vault.store import Store


@dataclass(frozen=True, eq=False)
class What:
    """What is to be forgotten: one of the three."""

    output: int | None = None  # of the class
    number: int | None = None  # of the update
    rows: Tensor | None = None  # examples [K, ...], as the network takes them
    y: Tensor | None = None  # their labels [K], where they were given
    name: str = ""  # in words

    def among(self, x: Tensor, y: Tensor, task: Tensor) -> Tensor:
        """bool [N]: which of inputs x [N, ...] with labels y [N] of tasks [N]."""
        if self.output is not None:
            return y.eq(self.output)
        if self.rows is not None:
            return _among(x, self.rows)
        assert self.number is not None
        return task.eq(self.number)


def _among(x: Tensor, rows: Tensor) -> Tensor:
    """bool [N]: which of x [N, ...] are equal to one of rows [K, ...], bit for bit."""
    wanted = {r.numpy().tobytes() for r in rows.float().contiguous()}
    return torch.tensor([r.numpy().tobytes() in wanted for r in x.float().contiguous()], dtype=torch.bool)


def forget(
    store: Store, maker: Maker, cls: str | None, task: str | None, examples: Raw | None
) -> dict[str, Any]:
    """Publish a version that no longer holds them, and remove all others; gives the record.

    Raises:
        VaultError: nothing is served, or there is no such class or update.
    """
    with store.writing(), own_randomness(maker.charter.plan.threads):
        served = store.head().served
        if served is None:
            raise VaultError("nothing is served yet: there is nothing to forget")
        c = read(store, served)
        what = _what(c, cls, task, examples)
        learner = maker.learner(c)
        removed: list[str] = []
        kept: list[str] = []
        old = guarded.load(store, c, maker.charter.plan)
        guards, names = _guards(c, old, what, removed)
        _state(learner, what, old, removed, kept)
        left = replace(c, guards=names, forgotten=_forgotten(c, what), snapshot=learner.snapshot())
        kept += _kept(what, learner)
        record = event(
            "forget", store.head().last + 1, f"forgot {what.name}", removed=removed, kept=kept, parent=served
        )
        meta = {"parent": None, "name": f"without {what.name}", "promoted": True}
        version = store.publish(left.files(), meta, guards, record, serve=True)
        store.collect({version})
        return record


def _what(c: Contents, cls: str | None, task: str | None, examples: Raw | None) -> What:
    if cls is not None:
        names = () if c.labels is None else c.labels.names
        known = [names[k] for k in c.known] if names else []
        if cls not in known:
            raise VaultError(f"no class is called {cls!r}; there are {', '.join(known) or 'none'}")
        return What(output=names.index(cls), name=f"class {cls}")
    if task is not None:
        tasks = [t.name for t in c.tasks]
        if task not in tasks:
            raise VaultError(f"no update is called {task!r}; there are {', '.join(tasks)}")
        return What(number=tasks.index(task), name=f"update {task}")
    assert examples is not None
    x, _ = c.preprocessing.apply(examples)
    rows = Examples(x, torch.zeros(len(x), dtype=torch.int64)).batch(torch.arange(len(x)))[0]
    y = None
    if (
        c.labels is not None
        and isinstance(examples.targets, list)
        and set(examples.targets) <= set(c.labels.names)
    ):
        y = c.labels.encode(examples.targets)
    return What(rows=rows, y=y, name=f"{len(x)} examples of {examples.source}")


def _guards(
    c: Contents, old: list[Guard], what: What, removed: list[str]
) -> tuple[dict[str, bytes], tuple[Kept, ...]]:
    """The guards without them, as blobs and as the version names them."""
    blobs: dict[str, bytes] = {}
    names: list[Kept] = []
    for g, k in zip(old, c.guards, strict=True):
        out = what.among(_read(g), g.y, g.numbers)
        if k.source is not None:
            if bool(out.any()):
                raise VaultError(
                    f"{int(out.sum())} of them lie in {k.source}, the guard of {k.name}: remove them there"
                )
            names.append(k)
            continue
        if bool(out.any()):
            removed.append(f"{int(out.sum())} of {len(g.y)} examples of the guard of {g.name}")
        if bool(out.all()):
            continue
        kept, blob = guarded.packed(g.part(~out))
        names.append(kept)
        blobs |= blob
    return blobs, tuple(names)


def _read(g: Guard) -> Tensor:
    return Examples(g.x, torch.zeros(len(g.x), dtype=torch.int64)).batch(torch.arange(len(g.x)))[0]


def _state(learner: Learner, what: What, guards: list[Guard], removed: list[str], kept: list[str]) -> None:
    """The method's state without them: memories, and sums over the examples (guards were never in these)."""

    def gone(batch: Batch) -> Tensor:
        return what.among(batch.x, batch.y, batch.task)

    learner.state, n = without(learner.state, gone)
    if n:
        removed.append(f"{n} examples that the method had kept")
    method: Any = learner.method
    if not hasattr(method, "forget"):
        return
    try:
        if what.output is not None:
            learner.state = method.forget(learner.state, [what.output])
        elif what.rows is not None and what.y is not None:
            held = torch.cat([_read(g) for g in guards]) if guards else what.rows[:0]
            left = ~_among(what.rows, held)
            problem = learner.start(Examples(what.rows, what.y))
            learner.state = method.remove(
                learner.state, problem, learner.params, what.rows[left], what.y[left]
            )
        else:
            kept.append(
                "sums over the examples: give the examples with their labels (--examples FILE), or a class"
            )
            return
        removed.append("the sums over them, exactly: as if they had never come")
    except ValueError as e:
        kept.append(str(e))


def _forgotten(c: Contents, what: What) -> tuple[int, ...]:
    """Outputs that are never predicted again."""
    return c.forgotten if what.output is None else tuple(sorted({*c.forgotten, what.output}))


def _kept(what: What, learner: Learner) -> list[str]:
    """What could not be removed."""
    said = []
    if not learner.method.traits.closed_form:
        said.append(
            "the weights of the network, which keep traces of what they learned: train anew to be rid of them"
        )
    if learner.method.traits.stores == "generator":
        said.append("the generator's weights, which can still draw what they learned")
    if (
        what.number is not None
        and learner.in_play.scenario != "task"
        and learner.method.traits.stores == "examples"
    ):
        said.append(
            "examples in the memory, which do not say which update they are from: --examples FILE finds them"
        )
    said.append("the history, which names the update and its classes, but holds no example")
    said.append("copies outside the vault: its data, exports, backups")
    return said
