"""The vault's folder: whole after every stop, and nothing damaged is ever served."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from retain.vault import disk
from retain.vault.errors import Busy, Damaged, VaultError
from retain.vault.store import Store, retained
from retain.vault.verify import text, verify


def content(n: int) -> dict[str, bytes]:
    return {"state.bin": bytes([n % 256]) * 1000, "words.json": json.dumps({"n": n}).encode()}


def publish(store: Store, n: int, serve: bool = True) -> int:
    blob = f"guard {n // 2}".encode()  # two versions share each
    meta = {"parent": store.head().served, "n": n}
    with store.writing():
        version = store.publish(
            content(n), meta, {disk.sha256(blob): blob}, {"event": "learn", "n": n}, serve
        )
        store.collect(retained(store, keep=3))
    return version


def whole(store: Store) -> int | None:
    """Whatever is served is of one piece; gives which it is."""
    head = store.head()
    assert len(store.history()) == head.events
    if head.served is None:
        return None
    n = store.meta(head.served)["n"]
    assert {name: store.file(head.served, name) for name in content(n)} == content(n)
    for sha in store.manifest(head.served)["blobs"]:
        assert store.blob(sha) == f"guard {n // 2}".encode()
    return int(n)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.create(tmp_path / "v", {"name": "a"})
    for n in range(1, 6):
        publish(made, n)
    return made


def test_what_is_published_is_read_back(store: Store) -> None:
    again = Store.open(store.path)
    assert again.charter == {"name": "a"}
    assert whole(again) == 5
    assert [e["number"] for e in again.history()] == [1, 2, 3, 4, 5]
    assert verify(again) == [] and text([]).startswith("every file")


def test_the_retention_rule(store: Store) -> None:
    assert store.versions() == [2, 3, 4, 5]  # the served one and three to go back to
    publish(store, 6, serve=False)
    assert store.versions() == [2, 3, 4, 5, 6]
    publish(store, 7, serve=False)
    assert store.versions() == [2, 3, 4, 5, 7]  # of candidates the newest
    named = {b for v in store.versions() for b in store.manifest(v)["blobs"]}
    assert {p.name for p in (store.path / "blobs").iterdir()} == named


class Stopped(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("failure", [Stopped(), OSError(errno.ENOSPC, "No space left on device")])
def test_stopped_at_any_operation_it_serves_the_old_or_the_new(
    store: Store, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    outcomes = set()
    for k in range(200):
        before = whole(store)
        calls = 0

        def failing(real: Callable[..., Any], k: int = k) -> Callable[..., Any]:
            def operation(*args: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == k + 1:
                    raise failure
                return real(*args)

            return operation

        with monkeypatch.context() as patch:
            for name in ("write", "replace", "flush", "make", "remove"):
                patch.setattr(disk, name, failing(getattr(disk, name)))
            try:
                publish(store, 100 + k)
                break
            except (Stopped, OSError):
                pass
        found = whole(Store.open(store.path))
        assert found in (before, 100 + k)
        outcomes.add(found == before)
    else:
        pytest.fail("it never got through")
    assert outcomes == {True, False} and k > 15
    publish(store, 1)  # and the next writer clears up
    assert verify(store) == []


def test_a_damaged_file_is_named_and_never_read(store: Store) -> None:
    files = [p for p in store.path.rglob("*") if p.is_file() and p.name != "lock"]
    assert len(files) > 15
    for path in files:
        good = path.read_bytes()
        flipped = bytearray(good)
        flipped[len(good) // 2] ^= 4
        for bad in (bytes(flipped), good[: len(good) // 2], None):
            if bad is None:
                path.unlink()
            else:
                path.write_bytes(bad)
            found = verify(store)
            where = path.relative_to(store.path).as_posix()
            assert any(p.path in where or where.startswith(p.path) for p in found), (where, found)
            with suppress(VaultError, FileNotFoundError):  # what is served is whole, or nothing is
                whole(Store.open(store.path))
        path.write_bytes(good)
    assert verify(store) == []


def test_hostile_names_lead_nowhere(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    folder = store.folder(5)
    good = disk.from_json((folder / "manifest.json").read_bytes(), "")
    for name in ("../../../secret", str(secret), "a/b", "..", ".", "", "link", "x\x00y", "C:\\x"):
        (folder / "link").unlink(missing_ok=True)
        (folder / "link").symlink_to(secret)
        bad = {**good, "files": {**good["files"], name: {"sha256": disk.sha256(b"secret"), "bytes": 6}}}
        (folder / "manifest.json").write_bytes(disk.to_json(bad))
        with pytest.raises(Damaged):
            store.file(5, name)
        assert verify(store)
    with pytest.raises(Damaged, match="no checksum"):
        store.blob("../../secret")


def test_fuzzed_manifests(store: Store) -> None:
    """Whatever stands in it: read, or refused with a word, quickly, and nothing outside is touched."""
    rng, path = random.Random(0), store.folder(5) / "manifest.json"
    good, outside = path.read_bytes(), {p: p.stat().st_mtime_ns for p in store.path.parent.iterdir()}
    odd = [b"", b"null", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"1e999", b"{}" * 10, b"\x00" * 1000]
    cases = int(os.environ.get("RETAIN_FUZZ", "400"))
    began = time.monotonic()
    for i in range(cases):
        data = bytearray(good)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        written = rng.choice(
            [bytes(data), bytes(data[: rng.randrange(len(data))]), rng.choice(odd), _valid(rng, good)]
        )
        path.write_bytes(written)
        with suppress(VaultError):
            store.file(5, "state.bin")
        if i % 50 == 0:
            verify(store)
    assert time.monotonic() - began < 30 + cases / 50
    assert outside == {p: p.stat().st_mtime_ns for p in store.path.parent.iterdir()}


def _valid(rng: random.Random, good: bytes) -> bytes:
    """Nonsense with a checksum that fits."""
    d = disk.from_json(good, "")
    values: list[Any] = [None, -1, 1 << 70, "", "..", [], {}, 1.5, True, [[[]]], "a" * 1000, {"x": {"y": {}}}]
    key = rng.choice(list(d))
    inner = d[key]
    if isinstance(inner, dict) and inner and rng.random() < 0.6:
        inner[rng.choice(list(inner))] = rng.choice(values)
    else:
        d[key] = rng.choice(values)
    return disk.to_json(d)


def test_a_version_of_the_previous_form_is_read(store: Store) -> None:
    for name in ("vault.json", "HEAD", *(f"versions/{v:06}/manifest.json" for v in store.versions())):
        path = store.path / name
        d = {**disk.from_json(path.read_bytes(), name), "schema": 1}
        d.pop("events", None)
        for said in d.get("files", {}).values():
            said.pop("bytes")
        path.write_bytes(disk.to_json(d))
    again = Store.open(store.path)
    assert whole(again) == 5 and verify(again) == []
    publish(again, 6)
    assert whole(again) == 6 and again.manifest(6)["schema"] == 2
    d = {**disk.from_json((store.path / "HEAD").read_bytes(), ""), "schema": 3}
    (store.path / "HEAD").write_bytes(disk.to_json(d))
    with pytest.raises(VaultError, match="has form 3, this retain reads up to 2"):
        again.head()


def test_one_writer_many_readers(store: Store) -> None:
    code = "from pathlib import Path\nfrom retain.vault.store import Store\n"
    code += f"with Store.open(Path({str(store.path)!r})).writing(): pass"
    with store.writing():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "Busy" in done.stderr and f"process {os.getpid()}" in done.stderr
        assert whole(Store.open(store.path)) == 5
        with pytest.raises(Busy), Store.open(store.path).writing():
            pass
    publish(Store.open(store.path), 6)


def test_a_folder_that_cannot_be_written(store: Store) -> None:
    with tempfile.TemporaryDirectory() as open_to_all:  # pytest's own folders are closed to other users
        Path(open_to_all).chmod(0o755)
        copy = shutil.copytree(store.path, Path(open_to_all) / "v")
        for p in (copy, *copy.rglob("*")):
            p.chmod(0o555 if p.is_dir() else 0o444)
        child = os.fork()
        if child == 0:
            if os.geteuid() == 0:  # root may write anywhere
                os.setuid(65534)
            refused = 1
            try:
                assert whole(Store.open(copy)) == 5  # it can be read
                publish(Store.open(copy), 6)
            except OSError as e:
                refused = 0 if "Permission" in str(e) else 2
            finally:
                os._exit(refused)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert whole(Store.open(copy)) == 5


def test_kill_9_at_random_moments(store: Store) -> None:
    rng = random.Random(0)
    moved = 0
    for _ in range(40):
        before = whole(store)
        child = os.fork()
        if child == 0:  # publishes for as long as it lives
            with suppress(BaseException):
                for n in range(1000, 100_000):
                    publish(Store.open(store.path), n)
            os._exit(1)
        time.sleep(rng.uniform(0.001, 0.25))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        moved += whole(Store.open(store.path)) != before
    assert moved > 5
    publish(Store.open(store.path), 1)
    assert verify(Store.open(store.path)) == []


def test_two_hundred_publications(store: Store) -> None:
    """Work does not grow, counted in calls, and neither does the folder but for the history."""

    def bytes_of(name: str) -> int:
        return sum(p.stat().st_size for p in (store.path / name).rglob("*") if p.is_file())

    calls: Counter[int] = Counter()
    before = bytes_of("versions") + bytes_of("blobs")
    for n in range(6, 206):

        def count(frame: object, event: str, arg: object, n: int = n) -> None:
            calls[n] += "call" in event

        sys.setprofile(count)
        publish(store, n)
        sys.setprofile(None)
    assert store.versions() == [202, 203, 204, 205]
    assert bytes_of("versions") + bytes_of("blobs") < 1.2 * before
    assert bytes_of("history") < 205 * 10_000
    assert max(calls[n] for n in range(156, 206)) < 1.1 * min(calls[n] for n in range(6, 56))
