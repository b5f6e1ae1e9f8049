"""Where a command writes: claimed by one process at a time, and never overwritten unasked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from retain.cli.errors import WrongUse

LEFT = ("result.json", "checkpoint.safetensors")  # what a run leaves in its folder


@contextmanager
def claim(out: Path, runs: Sequence[Path], resume: bool, force: bool) -> Iterator[None]:
    """Hold the lock on `out`, whose `runs` are the folders that will be written to.

    Raises:
        WrongUse: it cannot be written, another process is writing to it, or there are results already
            and neither `resume` nor `force`, which removes them, was given.
    """
    if resume and force:
        raise WrongUse("--resume goes on with what is there and --force replaces it: give one of them")
    lock = FileLock(out / ".lock")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise WrongUse(f"another run is writing to {out}: wait for it, or give another --out") from None
    except OSError as e:
        raise WrongUse(f"cannot write to {out}: {e.strerror or e}") from None
    try:
        _make_room(out, runs, resume, force)
        yield
    finally:
        lock.release()


def _make_room(out: Path, runs: Sequence[Path], resume: bool, force: bool) -> None:
    there = [run / name for run in runs for name in LEFT if (run / name).exists()]
    if resume or not there:
        return
    if not force:
        what = "a result" if any(p.name == "result.json" for p in there) else "an unfinished run"
        raise WrongUse(f"{out} already holds {what}: --resume goes on with it, --force replaces it")
    for path in there:
        path.unlink()
