"""What a network would reach that is trained from scratch on the data of all updates, where they are at hand."""

from __future__ import annotations

from typing import Any

from retain.examples import Examples, Union
from retain.methods.naive import Naive
from retain.order import batches
from retain.types import Task
from retain.vault.contents import Contents, Maker, Progress
from retain.vault.data import Raw
from retain.vault.errors import BadData
from retain.vault.judge import Seen, logits_of
from retain.vault.plan import Plan
from retain.vault.prepare import held_out, read_as, targets


def sources(c: Contents, latest: Raw, plan: Plan) -> list[Raw]:
    """The data of all updates of a version; the latest are at hand.

    Raises:
        BadData: those of an update are gone, or are others now; names it.
    """
    found = []
    for task in c.tasks[:-1]:
        try:
            raw = read_as(task.source, plan.columns or c.columns or None, plan)
        except (OSError, ValueError) as e:
            raise BadData(
                f"from scratch needs the data of every update, and those of {task.name} are gone: {e}"
            ) from e
        if raw.sha256 != task.sha256:
            raise BadData(
                f"from scratch needs the data of every update, and {task.source} ({task.name}) has changed"
            )
        found.append(raw)
    return [*found, latest]


def compared(
    maker: Maker, c: Contents, raws: list[Raw], seen: list[Seen], progress: Progress
) -> dict[str, Any]:
    """Train on the union of all data, with the same plan, and measure on the same guards."""
    plan = maker.charter.plan
    parts = []
    for raw in raws:
        x, _ = c.preprocessing.apply(raw)
        y = targets(raw, c.labels, plan)[1]
        rows, _ = held_out(y, plan, given=False)
        parts.append(Examples(x[rows], y[rows]))
    union = Union(tuple(parts))
    learner = maker.fresh(Naive(), c.preprocessing, c.outputs)
    classes = c.known if plan.target == "class" else ()
    task = Task(0, "all", union, None, None, classes)
    order = plan.order(len(union))
    steps = order.steps(len(union))
    learner.begin_task(task, steps)
    for i, (x, y) in enumerate(batches(union, order, plan.seed, 0)):
        if i % 64 == 0:
            progress("training from scratch, to compare with", i, steps)
        learner.observe(x, y)
    learner.end_task()
    whole = {}
    for guard in (s.guard for s in seen):
        whole[guard.name] = Seen(
            guard, None, logits_of(learner, c, guard.x, 0)
        )  # all that it learned is one task
    return {
        "examples": len(union),
        "guards": list(whole),
        "accuracy" if plan.target == "class" else "loss": [
            s.measure(plan.target, False) for s in whole.values()
        ],
    }
