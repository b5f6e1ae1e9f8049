"""The folder of a vault: versions, guards and history on disk, of which one small file says what counts.

    vault.json              settings, fixed when it is made
    HEAD                    which version is served, the newest one, how many events: the commit point
    lock                    one process writes at a time; any number read
    versions/000004/        manifest.json, with the checksum of each file, and the files
    blobs/SHA256            what several versions share, by its content
    history/000007.json     a record of each event

A publication writes blobs, then the version under a name of its own, flushed and renamed, then the record,
and at last replaces HEAD, by one rename. What HEAD does not know of is left over from a writer that did not
get that far: readers do not see it, and the next writer removes it. Whatever is read is held against its
checksum before it is used. Made for local file systems of POSIX; network file systems whose locks or renames
are not atomic are not.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from retain.vault import disk
from retain.vault.disk import sha256
from retain.vault.errors import Busy, Damaged, VaultError

SCHEMA = 2  # of vault.json, HEAD, manifests and records; 1: HEAD counted no events, manifests no bytes
RECORD = 10_000  # bytes of an event in the history, at most
LARGEST = 1 << 36  # bytes of a file of schema 1, whose manifest does not say how many it has
HEX = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9]+)*")


class Head(NamedTuple):
    """What counts."""

    served: int | None  # the version that predicts; None: none yet
    last: int  # the highest number that was given to a version
    events: int  # in the history


class Store:
    """A vault's folder; `create` makes one, `open` opens it."""

    def __init__(self, path: Path, charter: dict[str, Any]):
        self.path, self.charter = path, charter
        self._lock = FileLock(path / "lock")

    @classmethod
    def create(cls, path: Path, charter: dict[str, Any]) -> Store:
        """Make the folder.

        Raises:
            VaultError: there is something in it.
        """
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        if (path / "vault.json").exists():
            raise VaultError(
                f"{path} is a vault already: retain learn {path} DATA teaches it; for other settings make another "
                "one, or remove this folder first"
            )
        if found := next((p for p in path.iterdir()), None):
            raise VaultError(f"{path} is not empty ({found.name} lies in it): name a new folder")
        for name in ("versions", "blobs", "history", "work"):
            disk.make(path / name)
        store = cls(path, charter)
        with store._lock:
            store._put("HEAD", disk.to_json({"schema": SCHEMA, **Head(None, 0, 0)._asdict()}))
            store._put(
                "vault.json", disk.to_json({"schema": SCHEMA, "charter": charter})
            )  # last: now it is one
        return store

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open it.

        Raises:
            FileNotFoundError: there is no vault.
            Damaged: vault.json is not what it was.
        """
        path = Path(path)
        if not (path / "vault.json").is_file():
            raise FileNotFoundError(f"no vault at {path}: retain init {path} makes one")
        d = _checked(disk.from_json(disk.read(path / "vault.json"), f"{path / 'vault.json'}"), "vault.json")
        if not isinstance(d.get("charter"), dict):
            raise Damaged(f"{path / 'vault.json'} has no settings")
        return cls(path, d["charter"])

    # ---- reading ----

    def head(self) -> Head:
        """What counts now."""
        d = _checked(disk.from_json(disk.read(self.path / "HEAD"), f"{self.path / 'HEAD'}"), "HEAD")
        events = d.get("events")
        if d["schema"] == 1:
            events = len(list((self.path / "history").glob("*.json")))
        head = Head(d.get("served"), d.get("last"), events)  # type: ignore[arg-type]
        if not all(_is_number(n) for n in (head.served or 0, head.last, head.events)):
            raise Damaged(f"{self.path / 'HEAD'} does not say what counts")
        return head

    def versions(self) -> list[int]:
        """Those that are there and count, ascending."""
        last = self.head().last
        found = [int(p.name) for p in (self.path / "versions").iterdir() if re.fullmatch(r"\d{6,}", p.name)]
        return sorted(n for n in found if n <= last)

    def manifest(self, version: int) -> dict[str, Any]:
        """What a version is made of, and what it says of itself.

        Raises:
            VaultError: it is not there.
            Damaged: it is not what it was.
        """
        folder = self.folder(version)
        if version not in self.versions():
            raise VaultError(f"there is no version {version}; there are {_listed(self.versions())}")
        name = f"{folder / 'manifest.json'}"
        d = _checked(disk.from_json(disk.read(folder / "manifest.json"), name), name)
        files, blobs = d.get("files"), d.get("blobs")
        if not (isinstance(files, dict) and isinstance(blobs, list) and isinstance(d.get("meta"), dict)):
            raise Damaged(f"{name} does not say what version {version} is made of")
        if d.get("version") != version:
            raise Damaged(f"{name} does not say what version {version} is made of")
        for file, said in files.items():
            whole = isinstance(said, dict) and _is_sha(said.get("sha256"))
            sized = d["schema"] == 1 or (whole and _is_number(said.get("bytes")))
            if not (NAME.fullmatch(file) and whole and sized):
                raise Damaged(f"{name} names {file!r}, or does not say what is in it")
        if not all(_is_sha(b) for b in blobs):
            raise Damaged(f"{name} names a blob that is no checksum")
        return d

    def meta(self, version: int) -> dict[str, Any]:
        """What a version says of itself: its parent, its name, whether the gate let it pass."""
        found: dict[str, Any] = self.manifest(version)["meta"]
        return found

    def file(self, version: int, name: str) -> bytes:
        """A file of a version, held against its checksum.

        Raises:
            Damaged: it is not what it was.
        """
        said = self.manifest(version)["files"].get(name)
        if said is None:
            raise Damaged(f"version {version} has no {name}")
        path = self.folder(version) / name
        data = disk.read(path, said.get("bytes", LARGEST))
        if sha256(data) != said["sha256"]:
            raise Damaged(f"{path} is damaged: its checksum is not that of its content")
        return data

    def blob(self, sha: str) -> bytes:
        """What is stored under this checksum, held against it."""
        if not _is_sha(sha):
            raise Damaged(f"{sha!r} is no checksum")
        path = self.path / "blobs" / sha
        data = disk.read(path, LARGEST)
        if sha256(data) != sha:
            raise Damaged(f"{path} is damaged: its checksum is not that of its content")
        return data

    def history(self, most: int | None = None) -> list[dict[str, Any]]:
        """Every event, oldest first; or the last so many."""
        events = self.head().events
        first = 1 if most is None else max(1, events - most + 1)
        return [self.event(n) for n in range(first, events + 1)]

    def event(self, n: int) -> dict[str, Any]:
        """The n-th event, from 1."""
        path = self.path / "history" / f"{n:06}.json"
        return disk.from_json(disk.read(path), f"{path}")

    def folder(self, version: int) -> Path:
        """Where a version lies."""
        return self.path / "versions" / f"{version:06}"

    # ---- writing ----

    @contextmanager
    def writing(self, timeout: float = 0) -> Iterator[None]:
        """The right to write; what an earlier writer left over is removed first.

        Raises:
            Busy: another process has it for longer than `timeout` seconds.
        """
        if self._lock.is_locked:
            yield
            return
        try:
            self._lock.acquire(timeout=timeout)
        except Timeout as e:
            raise Busy(f"{self.path} is being written to{self._holder()}: wait until that is over") from e
        try:
            holder = {"pid": os.getpid(), "since": time.strftime("%H:%M:%S")}
            (self.path / "lock").write_text(json.dumps(holder), encoding="utf-8")
            self._sweep()
            yield
        finally:
            self._lock.release()

    def _holder(self) -> str:
        try:
            d = json.loads(disk.read(self.path / "lock", 200))
            return f" by process {int(d['pid'])}, since {str(d['since'])[:8]}"
        except (Damaged, ValueError, KeyError, TypeError):
            return ""

    def publish(
        self, files: Mapping[str, bytes], meta: dict[str, Any], blobs: Mapping[str, bytes],
        record: dict[str, Any], serve: bool,
    ) -> int:  # fmt: skip
        """A new version; served from now on if `serve`. Gives its number.

        Args:
            files: by their names.
            meta: what the version says of itself, such as its parent.
            blobs: by their checksums; those that are there already are not written again.
            record: the event, which becomes part of the history.
            serve: whether it is what predicts from now on.

        Raises:
            OSError: the disk is full, or the folder cannot be written; nothing has changed.
        """
        head = self.head()
        version = head.last + 1
        entry = self._entry(record, head)
        for sha, data in blobs.items():
            if not (self.path / "blobs" / sha).exists():
                self._put(f"blobs/{sha}", data)
        part = self.path / "versions" / f".{version:06}.part"
        disk.make(part)
        manifest = {
            "schema": SCHEMA, "version": version, "meta": meta, "blobs": sorted(blobs),
            "files": {k: {"sha256": sha256(v), "bytes": len(v)} for k, v in files.items()},
        }  # fmt: skip
        for name, data in (*files.items(), ("manifest.json", disk.to_json(manifest))):
            disk.write(part / name, data)
        disk.flush(part)
        disk.replace(part, self.folder(version))
        self._put(f"history/{head.events + 1:06}.json", entry)
        self._set(Head(version if serve else head.served, version, head.events + 1))
        return version

    def serve(self, version: int, record: dict[str, Any]) -> None:
        """Another version predicts from now on."""
        self.manifest(version)
        self._note(record, version)

    def note(self, record: dict[str, Any]) -> None:
        """An event that changes nothing of what is served."""
        self._note(record, self.head().served)

    def _note(self, record: dict[str, Any], served: int | None) -> None:
        head = self.head()
        self._put(f"history/{head.events + 1:06}.json", self._entry(record, head))
        self._set(Head(served, head.last, head.events + 1))

    def _entry(self, record: dict[str, Any], head: Head) -> bytes:
        data = disk.to_json({**record, "number": head.events + 1})
        if len(data) > RECORD:
            raise VaultError(f"a record of the history may have {RECORD} bytes, this one has {len(data)}")
        return data

    def _set(self, head: Head) -> None:
        self._put("HEAD", disk.to_json({"schema": SCHEMA, **head._asdict()}))

    def _put(self, name: str, data: bytes) -> None:
        """A file, whole or not at all."""
        path = self.path / name
        part = path.with_name(f".{path.name}.part")
        disk.remove(part)
        disk.write(part, data)
        disk.replace(part, path)

    # ---- removing ----

    def collect(self, keep: Iterable[int]) -> list[int]:
        """Remove every version that is not to be kept, and then every blob that none names; gives their numbers.

        The version that is served is always kept.
        """
        kept, head = set(keep), self.head()
        gone = [v for v in self.versions() if v not in kept and v != head.served]
        for version in gone:
            self._remove_version(version)
        self._sweep_blobs()
        return gone

    def _remove_version(self, version: int) -> None:
        """Renamed first: a version is there whole or not at all."""
        part = self.path / "versions" / f".{version:06}.gone"
        disk.replace(self.folder(version), part)
        disk.remove(part)

    def _sweep(self) -> None:
        """Remove what an earlier writer left over."""
        head = self.head()
        for path in (self.path / "versions").iterdir():
            if path.name.startswith(".") or (path.name.isdigit() and int(path.name) > head.last):
                disk.remove(path)
        for folder in (self.path, self.path / "history", self.path / "blobs"):
            for path in folder.glob(".*.part"):
                disk.remove(path)
        for n in (head.events + 1, head.events + 2):
            disk.remove(self.path / "history" / f"{n:06}.json")

    def _sweep_blobs(self) -> None:
        named: set[str] = set()
        for version in self.versions():
            try:
                named |= set(self.manifest(version)["blobs"])
            except Damaged:
                return  # what a damaged version names is not known: nothing is removed
        for path in (self.path / "blobs").iterdir():
            if path.name not in named:
                disk.remove(path)


def retained(store: Store, keep: int) -> set[int]:
    """Versions to keep: the served one, the `keep` that were served before it, and the newest candidate."""
    head = store.head()
    found: set[int] = set()
    there = set(store.versions())
    version = head.served
    while version is not None and version in there and len(found) <= keep:
        found.add(version)
        version = store.meta(version).get("parent")
    return found | ({head.last} & there)


def _checked(d: dict[str, Any], name: str) -> dict[str, Any]:
    """The same, if this version of retain can read it."""
    schema = d.get("schema")
    if not _is_number(schema) or schema == 0:
        raise Damaged(f"{name} does not say which form it has")
    if int(schema) > SCHEMA:  # type: ignore[arg-type]
        raise VaultError(f"{name} has form {schema}, this retain reads up to {SCHEMA}: update it")
    return d


def _is_number(n: object) -> bool:
    return isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 53


def _is_sha(s: object) -> bool:
    return isinstance(s, str) and HEX.fullmatch(s) is not None


def _listed(versions: list[int]) -> str:
    return ", ".join(map(str, versions)) or "none yet"
