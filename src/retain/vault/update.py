"""One update: a candidate is trained from the served version, judged on every guard, and published.

Nothing that is served changes before the last step, which is one rename: whatever happens earlier, the
vault serves what it served. The same update of the same version gives the same bits, however often it
was begun.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from retain.combine import describe
from retain.grow import grow
from retain.learner import Learner
from retain.vault import auto, calibrate, guarded, scratch
from retain.vault.agreement import Agreement
from retain.vault.contents import Contents, Learned, Maker, Progress, own_randomness, read, task_of
from retain.vault.data import Raw
from retain.vault.disk import sha256
from retain.vault.errors import BadData, VaultError
from retain.vault.gate import Verdict, judge
from retain.vault.guards import Guard
from retain.vault.judge import Seen, changed, logits_of, per_class
from retain.vault.look import Look, look, nothing
from retain.vault.plan import Plan
from retain.vault.prepare import Prepared, prepare
from retain.vault.records import REPORT, brief, test_of
from retain.vault.report import html
from retain.vault.store import Store, retained
from retain.vault.train import Work, train

SHOWN = 60  # events on a report's page: what is written must not grow with the history


@dataclass(frozen=True)
class Ask:
    """What one update is to do."""

    data: Raw
    name: str | None = None  # none: update-1, update-2, ...
    guard: Raw | None = None  # a guard set of one's own; none: held out of the data
    guard_stays: bool = False  # it is referred to where it lies, not copied into the vault
    force: bool = False  # serve the candidate even if the gate refuses it; recorded
    scratch: bool = False  # also train a network from scratch on the data of all updates, to compare with
    seconds: float = 60.0  # between saves of a long training


@dataclass(frozen=True)
class Update:
    """What came of it."""

    version: int
    promoted: bool
    record: dict[str, Any]  # docs/vault-record.md says what is in it

    @property
    def reason(self) -> str:
        """Why it is served, or why not, in one line."""
        return str(self.record["reason"])


def learn(store: Store, maker: Maker, ask: Ask, progress: Progress, stop: Callable[[], bool]) -> Update:
    """Train a candidate, judge it and publish it.

    Raises:
        BadData: the data do not fit; names the row and the fix.
        Busy: another process is writing.
        Interrupted: `stop` said so; the same call goes on from there.
        Diverged: training did.
    """
    with store.writing(), own_randomness(maker.charter.plan.threads):
        return _Updating(store, maker, ask, progress).run(stop)


class _Updating:
    """The steps of one update, and what they hand on."""

    def __init__(self, store: Store, maker: Maker, ask: Ask, progress: Progress):
        self.store, self.maker, self.ask, self.progress = store, maker, ask, progress
        self.plan: Plan = maker.charter.plan
        self.began = time.perf_counter()
        self.parent = store.head().served
        self.base = None if self.parent is None else read(store, self.parent)
        self.p = self._prepared()
        self.contents = self._contents()
        path = store.path / "work" / "training.safetensors"
        self.work = Work(path, self._identity(), ask.seconds, time.monotonic)

    def run(self, stop: Callable[[], bool]) -> Update:
        """All of it, in order."""
        # Before the training: it would be in vain if they are gone.
        raws = scratch.sources(self.contents, self.ask.data, self.plan) if self.ask.scratch else None
        learner = self._learner()
        old = [] if self.base is None else guarded.load(self.store, self.base, self.plan)
        served = self._served(learner, old)
        found = self._look(learner, old, served)
        began = time.perf_counter()
        epochs = self._train(learner, stop)
        seconds = time.perf_counter() - began
        seen = self._seen(learner, old, served)
        verdict = self._judge(seen, found.labels)
        temperature, calibration = self._calibrated(seen)
        guards, blobs = guarded.kept(old, self.base, self.p, self.plan)
        contents = replace(self.contents, temperature=temperature, guards=guards, snapshot=learner.snapshot())
        files = contents.files()
        record = self._record(verdict, seen, found, calibration)
        record["scratch"] = (
            None if raws is None else scratch.compared(self.maker, self.contents, raws, seen, self.progress)
        )
        record["cost"] = {
            "seconds": round(time.perf_counter() - self.began, 3),
            "training_seconds": round(seconds, 3),
            "epochs": epochs,
            "examples_stored": learner.method.examples_stored(learner.state),
            "bytes": sum(map(len, files.values())),
        }
        return self._publish(files, blobs, record)

    # ---- before training ----

    def _prepared(self) -> Prepared:
        base, ask = self.base, self.ask
        done = () if base is None else base.tasks
        name = ask.name or f"update-{len(done) + 1}"
        if name in {t.name for t in done}:
            raise VaultError(
                f"an update called {name!r} was learned already: give this one another name (--name)"
            )
        if base is not None and name in {g.name for g in base.guards}:
            raise VaultError(
                f"a guard of several updates is called {name!r}: give this one another name (--name)"
            )
        return prepare(ask.data, name, base, self.plan, ask.guard, ask.guard_stays)

    def _contents(self) -> Contents:
        """What the candidate will be, but for what training gives."""
        p, base = self.p, self.base
        learned = Learned(p.name, p.classes, p.source, p.sha256)
        if base is not None:
            outputs = self._outputs(base.outputs)
            return replace(base, tasks=(*base.tasks, learned), labels=p.labels, outputs=outputs)
        method, why = self.maker.charter.method, "named when the vault was made"
        if method is None:
            method, why = auto.choose(self.plan, p.preprocessing)
        auto.check(method, self.plan)
        first = p.guard.y.shape[1] if p.labels is None else self.maker.outputs(p.preprocessing)
        return Contents(
            (learned,), p.labels, p.preprocessing, self.ask.data.label, self._outputs(first), method, why, 1.0,
            (), (), None,
        )  # fmt: skip

    def _outputs(self, now: int) -> int:
        """The network's outputs: those of classes to come are there, and masked, and double where they are too few.

        Raises:
            VaultError: there are more classes than a module of the caller's own has outputs.
            BadData: other numbers are to be predicted than before.
        """
        labels = self.p.labels
        if labels is None and self.p.guard.y.shape[1] != now:
            raise BadData(
                f"{self.p.source} has {self.p.guard.y.shape[1]} numbers to predict, the vault {now}"
            )
        if labels is None or len(labels.names) <= now:
            return now
        if self.maker.model is not None:
            raise VaultError(
                f"the network has {now} outputs, and there are {len(labels.names)} classes now: make a vault with a "
                "module with more outputs"
            )
        return max(2 * now, len(labels.names))

    def _learner(self) -> Learner:
        """The served version, about to learn."""
        weights = None
        if self.plan.class_weights == "balanced" and self.p.labels is not None:
            weights = balanced(self.p.train.labels(), self.contents.outputs)
        c = self.contents
        if self.base is None:
            return self.maker.fresh(c.method, c.preprocessing, c.outputs, weights)
        if c.outputs == self.base.outputs:
            return self.maker.learner(self.base, weights)
        try:
            return grow(
                self.maker.learner(self.base),
                lambda n: self.maker.fresh(c.method, c.preprocessing, n, weights if n == c.outputs else None),
                c.outputs,
            )
        except ValueError as e:
            raise VaultError(
                f"the vault was made for {self.base.outputs} classes and there are more now: {e} "
                f"(retain init --outputs {c.outputs})"
            ) from e

    def _served(self, learner: Learner, old: list[Guard]) -> list[Tensor]:
        """The served version's logits on the old guards and the new one."""
        if self.base is None:
            return []
        self.progress("predicting with the served version", 0, 1)
        outs = [logits_of(learner, self.base, g.x, g.numbers) for g in old]
        latest = self.p.guard.numbers - 1  # as if the new examples were like the latest ones it knows
        return [*outs, logits_of(learner, self.base, self.p.guard.x, latest)]

    def _look(self, learner: Learner, old: list[Guard], served: list[Tensor]) -> Look:
        """How the new data differ from what the served version knows."""
        if self.base is None:
            return nothing("the first update: there is nothing to compare with")
        self.progress("comparing the data with what is known", 0, 1)
        return look(learner, self.base, old, self.p, self.plan, served[:-1])

    # ---- training and after ----

    def _train(self, learner: Learner, stop: Callable[[], bool]) -> int:
        nothing = self.p.train.subset(torch.zeros(0, dtype=torch.int64))
        past = [task_of(i, t, nothing) for i, t in enumerate(self.contents.tasks[:-1])]
        task = task_of(len(past), self.contents.tasks[-1], self.p.train)
        return train(learner, task, past, self.plan, self.progress, stop, self.work)

    def _identity(self) -> str:
        """Of this training: another version, other data or settings are another one."""
        said = [
            self.parent, self.p.name, self.p.sha256, len(self.p.train), describe(self.contents.method),
            self.maker.charter.to_json(), torch.__version__,
        ]  # fmt: skip
        return sha256(json.dumps(said, sort_keys=True).encode())

    def _seen(self, learner: Learner, old: list[Guard], served: list[Tensor]) -> list[Seen]:
        self.progress("judging the candidate", 0, 1)
        found = []
        for i, g in enumerate([*old, self.p.guard]):
            before = None if self.base is None else served[i]
            found.append(Seen(g, before, logits_of(learner, self.contents, g.x, g.numbers)))
        return found

    def _judge(self, seen: list[Seen], labels: Agreement | None) -> Verdict | None:
        """The gate's verdict; None: there is nothing to compare with."""
        if self.base is None:
            return None
        *old, new = [s.compared(self.plan.target, self.base.known) for s in seen]
        if self.plan.target == "class":  # on the new data all classes count
            y, out = seen[-1].guard.y, seen[-1].candidate
            new = replace(new, candidate=out.argmax(1) == y, to_new=None)
        names = () if self.p.labels is None else self.p.labels.names
        return judge(old, new, self.plan.gate, names, labels)

    def _calibrated(self, seen: list[Seen]) -> tuple[float, dict[str, Any] | None]:
        """The temperature of the candidate, by the guards, and what it does."""
        if self.p.labels is None:
            return 1.0, None
        logits, y = torch.cat([s.candidate for s in seen]), torch.cat([s.guard.y for s in seen])
        found = calibrate.calibrate(logits, y)
        return found.temperature, found._asdict()

    def _record(
        self,
        verdict: Verdict | None,
        seen: list[Seen],
        found: Look,
        calibration: Any,
    ) -> dict[str, Any]:
        """The update's record, as docs/vault-record.md has it."""
        passed = verdict is None or verdict.passed
        reason = "the first version: there was nothing to compare with" if verdict is None else verdict.reason
        if not passed and self.ask.force:
            reason = f"served by force; the gate says: {reason}"
        target, names = self.plan.target, () if self.p.labels is None else self.p.labels.names
        gate = self.plan.gate
        return {
            "schema": 1,
            "event": "learn",
            "version": self.store.head().last + 1,
            "parent": self.parent,
            "name": self.p.name,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "promoted": passed or self.ask.force,
            "forced": self.ask.force and not passed,
            "reason": reason,
            "data": self.p.data(),
            "method": describe(self.contents.method),
            "why": self.contents.why,
            "drift": found.drift,
            "gate": {
                "alpha": gate.alpha,
                "margin": None if verdict is None else verdict.margin,
                "new_margin": gate.new_margin,
                "tests": [] if verdict is None else [test_of(t) for t in verdict.tests],
                "labels": None if found.labels is None else asdict(found.labels),
            },
            "matrix": {
                "measure": "accuracy" if target == "class" else "loss",
                "guards": [s.guard.name for s in seen],
                "served": [s.measure(target, served=True) for s in seen],
                "candidate": [s.measure(target, served=False) for s in seen],
            },
            "per_class": per_class(seen, names) if names else [],
            "changed": changed(seen, names) if names else None,
            "calibration": calibration,
        }

    def _publish(self, files: dict[str, bytes], blobs: dict[str, bytes], record: dict[str, Any]) -> Update:
        """The last step."""
        self.progress("publishing", 0, 1)
        page = html(record, self.store.history(SHOWN))
        files = {
            **files,
            REPORT: json.dumps(record, indent=1, allow_nan=False).encode(),
            "report.html": page.encode(),
        }
        meta = {"parent": self.parent, "name": record["name"], "promoted": record["promoted"]}
        version = self.store.publish(files, meta, blobs, brief(record), record["promoted"])
        self.store.collect(retained(self.store, self.plan.keep))
        self.work.clear()
        return Update(version, record["promoted"], record)


def balanced(y: Tensor, outputs: int) -> Tensor:
    """Weights [outputs] by which each class of labels [N] counts as much as any other; 1 for the rest."""
    counts = torch.bincount(y, minlength=outputs).float()
    present = counts > 0
    weights = torch.ones(outputs)
    weights[present] = counts[present].mean() / counts[present]
    return weights
