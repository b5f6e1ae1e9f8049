"""A memory in a file beside one in RAM; crashes at any operation; whatever is damaged is refused."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from tests.laws.toy import learner, stream
from torch import Generator, Tensor

from retain import Replay, checkpoint, run
from retain.examples import Examples
from retain.memory import BadMemory, Balanced, Mapped, Reservoir, Slots, in_bytes, mapped, rowfile, undo
from retain.memory.mapped import pick_few
from retain.run import Interrupted
from retain.types import Batch

Bounds = tuple[float, float] | None


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def forget() -> None:
    """As if the process had ended: what it had open is closed, and nothing else is done."""
    while mapped._OPEN:
        mapped._OPEN.popitem()[1].close()


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    forget()


def pixels(n: int, normalise: tuple[float, float] | None = None, seed: int = 0) -> tuple[Batch, Bounds]:
    """Images as an experiment's batches have them, and what it says that their values lie in."""
    e = Examples(torch.randint(256, (n, 1, 3, 5), dtype=torch.uint8, generator=rng(seed)),
                 torch.arange(n) % 7, normalise=normalise)  # fmt: skip
    x, y = e.batch(torch.arange(n))
    return Batch(x, y, y + 100), e.range


def batches(kind: str) -> tuple[Batch, Bounds]:
    if kind == "images":
        return pixels(40)
    if kind == "normalised":
        return pixels(40, (0.1307, 0.3081))
    x = torch.randn(40, 6, generator=rng())
    x = {
        "features": x,
        "double": x.double(),
        "bfloat16": x.bfloat16(),
        "tokens": (x * 1e6).long(),
        "bits": x > 0,
        "bytes": (x * 30).to(torch.uint8),
        "scalars": x[:, 0],
    }[kind]
    return Batch(x, torch.arange(40), torch.full((40,), -1)), None


def same(a: Batch, b: Batch) -> None:
    for one, other in zip(a[:3], b[:3], strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape and one.equal(other)


KINDS = ["images", "normalised", "features", "double", "bfloat16", "tokens", "bits", "bytes", "scalars"]


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_what_slots_hold(
    kind: str, large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, bounds = batches(kind)
    if large:
        monkeypatch.setattr(rowfile, "SMALL", 0)

    @settings(max_examples=10)
    @given(st.lists(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 39)), max_size=15), max_size=4))
    def law(puts: list[list[tuple[int, int]]]) -> None:
        disk, ram = Mapped.like(batch, 12 * 100, tmp_path / "m", bounds), Slots.like(batch, 99)
        for put in puts:
            slots: list[int] = []
            rows = [r for _, r in put]
            for s, _ in put:  # the next free one, at most: none is left out
                slots.append(min(s, max([ram.filled - 1, *slots]) + 1))
            disk, ram = disk.put(slots, batch, rows), ram.put(slots, batch, rows)
            assert disk.filled == ram.filled
            same(disk.all(), ram.all())
            if ram.filled:
                i = disk.pick(5, rng())
                same(disk.at(i), ram.at(i))
                same(disk.draw(5, rng()), ram.at(i))
        forget()  # the bytes themselves, not what a process remembers
        if ram.filled:
            assert disk._row * disk.capacity == (tmp_path / "m" / "rows.bin").stat().st_size
        assert (disk.scale is not None) == (kind in ("images", "normalised"))

    law()


@given(st.floats(0.01, 0.99), st.floats(0.05, 2), st.integers(0, 99))
@settings(max_examples=30)
def test_normalised_images_are_kept_as_bytes(mean: float, sd: float, seed: int) -> None:
    batch, bounds = pixels(300, (mean, sd), seed)
    scale = mapped._scale(batch.x, bounds)
    assert scale is not None and scale == pytest.approx((mean, sd))


@pytest.mark.parametrize("large", [False, True])
def test_what_is_not_bytes_is_kept_whole_or_refused(
    large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(rowfile, "SMALL", 0)
    batch, bounds = pixels(8)
    odd = batch._replace(x=batch.x + 1e-6)
    assert Mapped.like(odd, 9999, tmp_path / "a", bounds).scale is None
    assert Mapped.like(batch, 9999, tmp_path / "a").scale is None
    memory = Mapped.like(batch, 9999, tmp_path / "b", bounds)
    for value in (1e-9, -1.0, float("nan"), float("inf"), -0.0):
        x = batch.x.clone()
        x[3, 0, 1, 2] = value
        with pytest.raises(ValueError, match="keeps bytes"):
            memory.put([0, 1], batch._replace(x=x), [0, 3])
    with pytest.raises(ValueError, match="keeps examples"):
        memory.put([0], batch._replace(x=batch.x.double()), [0])
    with pytest.raises(ValueError, match="with labels"):
        memory.put([0], batch._replace(y=torch.zeros(8, 3)), [0])
    with pytest.raises(IndexError):
        memory.at(torch.tensor([0, memory.capacity]))
    with pytest.raises(IndexError, match="of a memory of"):
        memory.put([memory.capacity], batch, [0])
    with pytest.raises(ValueError, match="not room for one"):
        Mapped.like(batch, 20, tmp_path / "c", bounds)
    same(memory.put([0], batch, [3]).all(), Batch(batch.x[3:4], batch.y[3:4], batch.task[3:4]))


@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 99))
def test_few_are_picked_without_replacement(n: int, held: int, seed: int) -> None:
    found = pick_few(n, held, rng(seed)).tolist()
    assert len(found) == n and min(found) >= 0 and max(found) < held
    assert len(set(found)) == n or n > held
    assert found == pick_few(n, held, rng(seed)).tolist()


def test_every_ordered_pair_is_picked_equally_often() -> None:
    g, count = rng(), torch.zeros(5, 5)
    for _ in range(4000):
        a, b = pick_few(2, 5, g).tolist()
        count[a, b] += 1
    assert count.diagonal().sum() == 0
    assert chisquare(count[~torch.eye(5, dtype=torch.bool)]).pvalue > 0.001


def test_sizes() -> None:
    assert [in_bytes(t) for t in ("7", "500MB", "2gb", "1.5GiB", " 3 k ")] == [
        7, 500_000_000, 2_000_000_000, 3 << 29, 3000]  # fmt: skip
    for bad in ("", "GB", "-1GB", "2XB", "1e9", "nan", "2 GB 3"):
        with pytest.raises(ValueError, match="a size is"):
            in_bytes(bad)


# ---- crashes ----

STEPS, EVERY = 14, 4


class Killed(BaseException):
    """Nothing that a process does after it was killed is done."""


@contextmanager
def killed_at(operation: int, share: float) -> Iterator[list[int]]:
    """The process dies at the how-manieth operation on a file; of what that one writes, a share is written."""
    done = [0]

    def mortal(act: Callable[..., Any], cut: int | None = None) -> Callable[..., Any]:
        def doing(*args: Any, **named: Any) -> Any:
            done[0] += 1
            if done[0] > operation:
                if cut is not None and done[0] == operation + 1:
                    args = *args[:cut], args[cut][: int(share * len(args[cut]))], *args[cut + 1 :]
                    act(*args, **named)
                raise Killed
            return act(*args, **named)

        return doing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", mortal(os.write, 1))
        patch.setattr(os, "pwrite", mortal(os.pwrite, 1))
        patch.setattr(os, "fsync", mortal(lambda file: None))
        patch.setattr(Path, "replace", mortal(Path.replace))
        patch.setattr(Path, "unlink", mortal(Path.unlink))
        yield done


def sitting(folder: Path, kind: str) -> tuple[Batch, Tensor]:
    """From the checkpoint, or from the start, to the end: what is held then, and the sum of all draws."""
    path, g = folder / "c", rng()
    if path.exists():
        tree = checkpoint.load(path)
        g.set_state(tree["rng"])
    else:
        slots = Mapped.like(pixels(3)[0], 9 * 40, folder / "m", pixels(3)[1])
        fresh = Reservoir(slots, 0) if kind == "reservoir" else Balanced.over(slots, kind == "ring")
        tree = {"memory": fresh, "step": 0, "sum": torch.zeros(())}
    memory, total = tree["memory"], tree["sum"]
    for step in range(tree["step"], STEPS):
        memory = memory.add(pixels(3, seed=step)[0], 0, g)
        total = total + memory.draw(2, g).x.sum()
        if step % EVERY == EVERY - 1:
            checkpoint.save(path, {"memory": memory, "step": step + 1, "sum": total, "rng": g.get_state()})
    return memory.all(), total


@pytest.mark.parametrize("kind", ["reservoir", "ring", "balanced"])
def test_killed_at_any_operation_it_goes_on_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    with killed_at(10**9, 0) as done:
        held, total = sitting(tmp_path, kind)
    forget()
    assert checkpoint.load(tmp_path / "c")["memory"].slots.version  # there was something to lose

    @settings(max_examples=40)
    @given(st.lists(st.tuples(st.integers(0, done[0] - 1), st.floats(0, 1)), min_size=1, max_size=3))
    def law(deaths: list[tuple[int, float]]) -> None:
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        for operation, share in deaths:
            with killed_at(operation, share):
                with suppress(Killed):
                    sitting(tmp_path, kind)
                forget()
        with killed_at(10**9, 0):
            again, anew = sitting(tmp_path, kind)
        forget()
        same(again, held)
        assert anew.equal(total)

    law()


def saved(folder: Path) -> tuple[Path, Batch]:
    """A checkpoint, the rows at that time, and some of them overwritten since."""
    first, second = pixels(6, seed=1), pixels(6, seed=2)
    memory = Mapped.like(first[0], 9 * 40, folder / "m", first[1])
    memory = memory.put([0, 1, 2, 3, 4], first[0], [0, 1, 2, 3, 4])
    checkpoint.save(folder / "c", {"memory": memory})
    held = memory.all()
    memory = memory.put([1, 3], second[0], [0, 1])
    memory = memory.put([3, 4, 6], second[0], [2, 3, 4])
    assert not memory.all().x[:5].equal(held.x)
    return folder / "c", held


def reopened(path: Path) -> Batch:
    memory: Mapped = checkpoint.load(path)["memory"]
    return memory.all()


def test_a_state_that_is_read_back_finds_its_rows(tmp_path: Path) -> None:
    path, held = saved(tmp_path)
    same(reopened(path), held)  # in the same process
    forget()
    same(reopened(path), held)  # in another
    assert not list((tmp_path / "m").glob("undo-*"))
    assert path.stat().st_size < 3000  # no row is in it


def test_the_log_has_each_row_once_and_goes_with_the_next_checkpoint(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    memory = checkpoint.load(path)["memory"]
    batch = pixels(6)[0]
    for _ in range(20):
        memory = memory.put([0, 1, 2, 3, 4, 5, 6], batch, [0, 1, 2, 3, 4, 5, 0])
    (log,) = (tmp_path / "m").glob("undo-*")
    records = list(undo.records(log, memory.id, memory.capacity, memory._row))
    assert [slots.tolist() for slots, _ in records] == [[0, 1, 2, 3, 4]]
    checkpoint.save(path, {"deep": [{"memory": memory}]})
    assert not log.exists()


def test_a_checkpoint_that_could_not_be_written_leaves_the_one_before_it_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, held = saved(tmp_path)
    memory = checkpoint.load(path)["memory"].put([1, 3], pixels(6)[0], [0, 1])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_atomically", full)
        with pytest.raises(OSError, match="No space"):
            checkpoint.save(path, {"memory": memory})
    memory.put([0, 1, 3], pixels(6)[0], [2, 3, 4])  # row 1 is now in two logs
    assert len(list((tmp_path / "m").glob("undo-*"))) == 2
    forget()
    same(reopened(path), held)
    assert not list((tmp_path / "m").glob("undo-*"))


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_log_is_refused(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch, _folder() as folder:
        patch.setattr(os, "fsync", lambda file: None)
        path, _ = saved(folder)
        forget()
        (log,) = (folder / "m").glob("undo-*")
        content = bytearray(log.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
        log.write_bytes(content)
        with pytest.raises(BadMemory, match=r"damaged|is not the undo log|went down"):
            reopened(path)
        assert not mapped._OPEN


@contextmanager
def _folder() -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_a_log_from_before_the_machine_went_down_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = saved(tmp_path)
    forget()
    (tmp_path / "boot").write_text("another")
    monkeypatch.setattr(undo, "BOOT", tmp_path / "boot")
    with pytest.raises(BadMemory, match="the machine went down"):
        reopened(path)


# ---- what is refused ----


def _lie(folder: Path, **fields: Any) -> None:
    header = json.loads((folder / "header.json").read_text())
    (folder / "header.json").write_text(json.dumps(header | fields))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "gone": (lambda m: shutil.rmtree(m), "there is no memory"),
    "no header": (lambda m: (m / "header.json").unlink(), "there is no memory"),
    "no marks": (lambda m: (m / "marks.json").unlink(), "there is no memory"),
    "no rows": (lambda m: (m / "rows.bin").unlink(), "has -1 bytes"),
    "short": (lambda m: os.truncate(m / "rows.bin", 100), "has 100 bytes"),
    "long": (lambda m: os.truncate(m / "rows.bin", 10**6), "has 1000000 bytes"),
    "no JSON": (lambda m: (m / "header.json").write_text("{"), "is damaged"),
    "no object": (lambda m: (m / "header.json").write_text("[1]"), "is damaged"),
    "deep": (lambda m: (m / "header.json").write_text("[" * 10**5), "is damaged"),
    "bad marks": (lambda m: (m / "marks.json").write_text('{"a": 1}'), "is damaged"),
    "format": (lambda m: _lie(m, format="retain-memory-0"), "its format is 'retain-memory-0'"),
    "capacity": (lambda m: _lie(m, capacity=10), "its capacity is 10, not 11"),
    "shape": (lambda m: _lie(m, shape=[15]), "its shape is"),
    "dtype": (lambda m: _lie(m, **{"kept as": "torch.int8"}), "its kept as is"),
    "more": (lambda m: _lie(m, more=1), "its more is 1, not None"),
    "other version": (lambda m: (m / "marks.json").write_text("[7]"), r"version 1, only to \[7\]"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_refused(what: str, tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    forget()
    harm, words = DAMAGE[what]
    harm(tmp_path / "m")
    with pytest.raises(BadMemory, match=words):
        reopened(path)


def test_a_state_that_is_not_the_last_one_is_refused(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    stale: Mapped = checkpoint.load(path)["memory"]
    batch, bounds = pixels(3)
    unsaved = stale.put([0], batch, [0])
    checkpoint.save(tmp_path / "later", {"memory": unsaved.put([1], batch, [1])})
    for state in (stale, unsaved):
        with pytest.raises(BadMemory, match="cannot be brought back"):
            state.all()
    same(reopened(tmp_path / "later"), reopened(tmp_path / "later"))
    Mapped.like(batch, 9 * 40, tmp_path / "m", bounds)  # another run, from the start
    with pytest.raises(BadMemory, match="is not the memory of this state: its id is"):
        reopened(tmp_path / "later")


def test_no_other_file_is_overwritten_and_no_other_run_disturbed(tmp_path: Path) -> None:
    batch, bounds = pixels(3)
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(BadMemory, match=r"it holds thesis\.tex"):
        Mapped.like(batch, 400, tmp_path, bounds)
    path, held = saved(tmp_path / "run")
    forget()
    with (tmp_path / "run" / "m" / "lock").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for use in (lambda: reopened(path), lambda: Mapped.like(batch, 400, tmp_path / "run" / "m", bounds)):
            with pytest.raises(BadMemory, match="in use by another run"):
                use()
    same(reopened(path), held)


def test_after_a_full_disk_only_the_checkpoint_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, held = saved(tmp_path)
    memory: Mapped = checkpoint.load(path)["memory"]

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            memory.put([0], pixels(3)[0], [0])
    same(memory.all(), held)  # it was one of a checkpoint
    later = memory.put([0], pixels(3)[0], [0])
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            later.put([1], pixels(3)[0], [1])
    with pytest.raises(BadMemory, match="cannot be brought back"):
        later.all()
    same(reopened(path), held)


def test_a_temporary_one_is_removed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_end: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", at_the_end.append)
    memory = Mapped.like(*(pixels(3)[0], 400))
    assert Path(memory.path).is_dir()
    at_the_end[0]()
    assert not Path(memory.path).exists()
    forget()
    with pytest.raises(BadMemory, match="a temporary one is removed"):
        memory.put([0], pixels(3)[0], [0]).all()


# ---- in a method ----


@pytest.mark.parametrize("select", ["reservoir", "balanced", "ring"])
def test_replay_from_a_file_is_replay_from_ram(select: Any, tmp_path: Path) -> None:
    one = 16 + 64  # the toy images are bytes
    ram = Replay(memory=16, select=select, replay_batch=9)  # more than half: both draw alike
    disk = Replay(memory_bytes=f"{16 * one}", memory_file=str(tmp_path / "m"), select=select, replay_batch=9)
    results: list[Any] = []
    for method in (ram, disk):
        of = learner(method)
        results.append(run(stream("domain"), of).accuracy)
        state: Any = of.state
        assert method.examples_stored(state) == 16
        results.append({k: p.tolist() for k, p in of.params.items()})
    assert results[:2] == results[2:]


def test_a_run_keeps_its_memory_in_its_folder_and_goes_on_with_it(tmp_path: Path) -> None:
    method = Replay(memory_bytes="1280", replay_batch=9)
    whole = run(stream("domain"), learner(method), out=tmp_path / "whole")
    assert (tmp_path / "whole/memory").is_dir()
    asked = iter([False, True])
    with pytest.raises(Interrupted):
        run(stream("domain"), learner(method), out=tmp_path / "two", stop=lambda: next(asked))
    forget()  # as a new process has it
    again = run(stream("domain"), learner(method), out=tmp_path / "two", resume=True)
    assert again.accuracy == whole.accuracy
    assert again.examples_stored == 16


def test_replay_from_a_file_says_what_it_needs() -> None:
    for wrong, words in (
        ({"memory_bytes": "much"}, "a size is"),
        ({"memory_bytes": "2GB", "select": "herding"}, "must be none where select is herding"),
        ({"memory_file": "m"}, "needs memory_bytes"),
    ):
        with pytest.raises(ValueError, match=words):
            Replay(**wrong)  # type: ignore[arg-type]
