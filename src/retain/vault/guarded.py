"""The guard sets of a version: in the vault's blobs, or where their owner keeps them."""

from __future__ import annotations

from retain import checkpoint
from retain.vault.contents import Contents, Kept
from retain.vault.disk import sha256
from retain.vault.errors import BadData, Damaged
from retain.vault.guards import Guard, within_budget
from retain.vault.plan import Plan
from retain.vault.prepare import Prepared, read_as, targets
from retain.vault.store import Store


def load(store: Store, c: Contents, plan: Plan) -> list[Guard]:
    """All guard sets of a version, in the order of its updates.

    Raises:
        Damaged: a blob is not what it was.
        BadData: a guard set outside the vault is gone, or is another one.
    """
    return [_blob(store, g) if g.source is None else _outside(c, g, plan) for g in c.guards]


def _blob(store: Store, g: Kept) -> Guard:
    where = f"the guard of {g.name}"
    try:
        d = checkpoint.loads(store.blob(g.sha256), where)
        return Guard(g.name, d["x"], d["y"])
    except (checkpoint.BadCheckpoint, KeyError, TypeError) as e:
        raise Damaged(f"{where} is damaged: {e}") from e


def _outside(c: Contents, g: Kept, plan: Plan) -> Guard:
    """A guard set that stayed where it lies."""
    assert g.source is not None
    raw = read_as(g.source, plan.columns or c.columns or None, plan)
    if raw.sha256 != g.sha256:
        raise BadData(
            f"{g.source}, the guard of {g.name}, is not what it was (its content has another checksum): "
            "bring the old content back"
        )
    x, _ = c.preprocessing.apply(raw)
    return Guard(g.name, x, targets(raw, c.labels, plan)[1])


def kept(
    old: list[Guard], base: Contents | None, p: Prepared, budget: int
) -> tuple[tuple[Kept, ...], dict[str, bytes]]:
    """What the new version keeps of the old guards and of its own, within the budget; and the blobs.

    Guards that stay outside the vault take nothing of the budget.
    """
    before = () if base is None else base.guards
    outside = {g.name: g for g in before if g.source is not None}
    if p.guard_source is not None:
        source, sha = p.guard_source
        outside[p.name] = Kept(p.name, sha, len(p.guard.y), source)
    inside = {g.name: g for g in within_budget([g for g in (*old, p.guard) if g.name not in outside], budget)}
    found: list[Kept] = []
    blobs: dict[str, bytes] = {}
    for g in (*old, p.guard):
        if g.name in outside:
            found.append(outside[g.name])
            continue
        name, blob = packed(inside[g.name])
        found.append(name)
        blobs |= blob
    return tuple(found), blobs


def packed(g: Guard) -> tuple[Kept, dict[str, bytes]]:
    """A guard as a version names it, and its blob."""
    content = checkpoint.dumps({"x": g.x, "y": g.y})
    sha = sha256(content)
    return Kept(g.name, sha, len(g.y), None), {sha: content}
