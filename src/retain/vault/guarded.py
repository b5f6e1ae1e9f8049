"""The guard sets of a version: in the vault's blobs, or where their owner keeps them."""

from __future__ import annotations

from retain import checkpoint
from retain.memory import in_bytes
from retain.vault.contents import Contents, Kept
from retain.vault.disk import sha256
from retain.vault.errors import BadData, Damaged
from retain.vault.guards import Guard, joined, within_budget
from retain.vault.plan import Plan
from retain.vault.prepare import Prepared, read_as, targets
from retain.vault.store import Store


def load(store: Store, c: Contents, plan: Plan) -> list[Guard]:
    """All guard sets of a version, in the order of its updates.

    Raises:
        Damaged: a blob is not what it was.
        BadData: a guard set outside the vault is gone, or is another one.
    """
    return [_blob(store, c, g) if g.source is None else _outside(c, g, plan) for g in c.guards]


def _number(c: Contents, g: Kept) -> int:
    """Of the one update that a guard is from."""
    return [t.name for t in c.tasks].index(g.name)


def _blob(store: Store, c: Contents, g: Kept) -> Guard:
    where = f"the guard of {g.name}"
    try:
        d = checkpoint.loads(store.blob(g.sha256), where)
        if "numbers" not in d:  # as they were written when each was of one update
            return Guard.of(g.name, d["x"], d["y"], _number(c, g))
        return Guard(g.name, d["x"], d["y"], d["numbers"])
    except (checkpoint.BadCheckpoint, KeyError, TypeError, ValueError) as e:
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
    return Guard.of(g.name, x, targets(raw, c.labels, plan)[1], _number(c, g))


def kept(
    old: list[Guard], base: Contents | None, p: Prepared, plan: Plan
) -> tuple[tuple[Kept, ...], dict[str, bytes]]:
    """What the new version keeps of the old guards and of its own, within the plan's bounds; and the blobs.

    Guards that stay outside the vault take nothing of them.
    """
    before = () if base is None else base.guards
    outside = {g.name: g for g in before if g.source is not None}
    if p.guard_source is not None:
        source, sha = p.guard_source
        outside[p.name] = Kept(p.name, sha, len(p.guard.y), source)
    updates = [p.name] if base is None else [*(t.name for t in base.tasks), p.name]
    inside = joined([g for g in (*old, p.guard) if g.name not in outside], plan.guard_sets, updates)
    found = {updates.index(name): g for name, g in outside.items()}
    blobs: dict[str, bytes] = {}
    for g in within_budget(inside, in_bytes(plan.guard_bytes)):
        if len(g.y):
            found[int(g.numbers.min())], blob = packed(g)
            blobs |= blob
    return tuple(found[k] for k in sorted(found)), blobs


def packed(g: Guard) -> tuple[Kept, dict[str, bytes]]:
    """A guard as a version names it, and its blob."""
    content = checkpoint.dumps({"x": g.x, "y": g.y, "numbers": g.numbers})
    sha = sha256(content)
    return Kept(g.name, sha, len(g.y), None), {sha: content}
