"""Which method a vault uses where none was named, and why: one line, with the figure behind it."""

from __future__ import annotations

import math
from typing import Any

from retain.advise import Constraints, advise
from retain.experiment import method_from
from retain.memory import in_bytes
from retain.method import Method
from retain.methods import discover
from retain.vault.data import Preprocessing
from retain.vault.errors import VaultError
from retain.vault.plan import Plan

PER_EXAMPLE = 16  # bytes of an example's label and task
MANY = 2000  # examples that are kept where no number of bytes was named
IN_A_FILE = "keeps its memory in a file beside the run; a vault keeps it inside its versions"


def choose(plan: Plan, preprocessing: Preprocessing) -> tuple[Method[Any], str]:
    """The method for a vault with this plan and these data, and the reason in one line.

    Raises:
        VaultError: no method of the package keeps to what may be stored.
    """
    if plan.store == "examples":
        n = capacity(plan, preprocessing)
        room = f"{n} of them fill {plan.memory_bytes}" if plan.memory_bytes else f"{n} of them by default"
        whole = {"name": "replay", "memory": n, "select": "random", "weighting": "tasks"}
        if plan.target != "class":
            whole = {"name": "replay", "memory": n}
        return method_from(whole), f"replay: examples may be stored, {room}, and every network learns with it"
    if plan.target != "class":
        name, why = (
            ("si", "statistics may be stored") if plan.store != "nothing" else ("l2", "nothing may be stored")
        )
        return method_from(name), f"{name}: {why}, and numbers are predicted"
    most = None if plan.memory_bytes is None else in_bytes(plan.memory_bytes)
    given = Constraints(task_known=plan.task_known, store=plan.store, memory_bytes=most)
    usable = [a for a in advise(given) if not a.lacks and fits(discover()[a.name](), plan)]
    if preprocessing.kind != "images":  # generators draw pixels
        usable = [a for a in usable if discover()[a.name].traits.stores != "generator"]
    if not usable:
        raise VaultError(
            f"no method keeps old classes apart from new ones where {plan.store} may be stored and the task is "
            "hidden: allow more (--store statistics or examples), say that the task is known when predicting "
            "(--task-known), or name a method (--method)"
        )
    best = usable[0]
    figure = f"{best.figure}" if best.figure else "by what it keeps and costs; it was not reproduced here"
    known = "known" if plan.task_known else "hidden"
    method = method_from(best.figure.method if best.figure else best.name)
    return method, f"{best.name}: {plan.store} may be stored and the task is {known}; {figure}"


def capacity(plan: Plan, preprocessing: Preprocessing) -> int:
    """How many examples the memory has room for.

    Raises:
        VaultError: for none.
    """
    if plan.memory_bytes is None:
        return MANY
    bytes_each = math.prod(preprocessing.shape) * (1 if preprocessing.kind == "images" else 4) + PER_EXAMPLE
    n = in_bytes(plan.memory_bytes) // bytes_each
    if n < 1:
        raise VaultError(
            f"memory_bytes {plan.memory_bytes} holds no example of {bytes_each} bytes: give more"
        )
    return n


def fits(method: Method[Any], plan: Plan) -> bool:
    """Whether a vault with this plan can use the method."""
    return not _misfit(method, plan)


def check(method: Method[Any], plan: Plan) -> None:
    """Raise VaultError where a vault with this plan cannot use the method; says why."""
    if why := _misfit(method, plan):
        raise VaultError(f"{type(method).__name__} {why}")


def _misfit(method: Method[Any], plan: Plan) -> str:
    if method.data != "task":
        return "trains on the data of all updates again, which a vault does not keep"
    if getattr(method, "memory_bytes", None) is not None:
        return IN_A_FILE
    if plan.loss not in method.needs.losses:
        return f"does not learn target {plan.target}"
    if plan.scenario not in method.needs.scenarios:
        return f"needs to know which update an example is like (--task-known), here scenario {plan.scenario}"
    return ""
