"""Whether every file of a vault is what it was when it was written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from retain.vault.errors import VaultError
from retain.vault.store import NAME, Store

TOP = {"vault.json", "HEAD", "lock", "versions", "blobs", "history", "work"}


class Problem(NamedTuple):
    """Something that is not as it should be."""

    path: str  # within the vault
    what: str
    serving: bool  # whether predictions need it


def verify(store: Store) -> list[Problem]:
    """All that is wrong; reads every file, and changes nothing. Never raises, whatever is in the folder."""
    found: list[Problem] = []
    head = _try(found, "HEAD", True, store.head)
    _try(found, "vault.json", True, lambda: Store.open(store.path))
    if head is None:
        return found
    versions = _try(found, "versions", True, store.versions) or []
    if head.served is not None and head.served not in versions:
        found.append(Problem(f"versions/{head.served:06}", "the version that is served is gone", True))
    named: set[str] = set()
    for version in versions:
        serves = version == head.served
        named |= _version(store, version, serves, found)
    for n in range(1, head.events + 1):
        _try(found, f"history/{n:06}.json", False, lambda n=n: store.event(n))  # type: ignore[misc]
    found += _strays(store, versions, named, head.events)
    return found


def _version(store: Store, version: int, serves: bool, found: list[Problem]) -> set[str]:
    """Check one version; gives the blobs that it names."""
    folder = f"versions/{version:06}"
    manifest = _try(found, f"{folder}/manifest.json", serves, lambda: store.manifest(version))
    if manifest is None:
        return set()
    for name in manifest["files"]:
        _try(found, f"{folder}/{name}", serves, lambda name=name: store.file(version, name))  # type: ignore[misc]
    for path in _entries(store.folder(version)):
        if path.name not in {*manifest["files"], "manifest.json"}:
            found.append(Problem(f"{folder}/{path.name}", "does not belong to the version", False))
    for sha in manifest["blobs"]:
        _try(found, f"blobs/{sha}", False, lambda sha=sha: store.blob(sha))  # type: ignore[misc]
    return set(manifest["blobs"])


def _strays(store: Store, versions: list[int], named: set[str], events: int) -> Iterator[Problem]:
    """What lies in the folder and belongs to nothing."""
    known: dict[str, Callable[[str], bool]] = {
        ".": lambda n: n in TOP,
        "versions": lambda n: bool(re.fullmatch(r"\d+", n)) and int(n) in versions,
        "blobs": lambda n: n in named,
        "history": lambda n: bool(re.fullmatch(r"\d{6,}\.json", n)) and 1 <= int(n[:-5]) <= events,
    }
    for folder, belongs in known.items():
        for path in _entries(store.path / folder):
            where = path.name if folder == "." else f"{folder}/{path.name}"
            if path.is_symlink():
                yield Problem(where, "is a link: a vault follows none", False)
            elif not belongs(path.name):
                left = path.name.endswith((".part", ".gone")) or bool(NAME.fullmatch(path.name))
                what = "is left over; the next update removes it" if left else "does not belong here"
                yield Problem(where, what, False)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _try(found: list[Problem], path: str, serving: bool, look: Callable[[], Any]) -> Any:
    """What `look` gives; None where it finds a problem, which is noted."""
    try:
        return look()
    except (VaultError, OSError) as e:
        found.append(Problem(path, " ".join(str(e).split()), serving))
        return None


def text(found: list[Problem]) -> str:
    """For people."""
    if not found:
        return "every file is what it was when it was written"
    return "\n".join(f"{p.path}: {p.what}{' (predictions need it)' if p.serving else ''}" for p in found)
