"""Many runs side by side on this machine's cores, one process each."""

from __future__ import annotations

import json
import logging
import multiprocessing as mp
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from retain.experiment import Experiment
from retain.files import write_atomically
from retain.result import Result
from retain.run import Interrupted, Progress
from retain.sitting import differences
from retain.stacked import CannotStack, run_together

log = logging.getLogger(__name__)

Stacking = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class Job:
    """One run and the folder that it writes to."""

    name: str
    experiment: Experiment
    out: Path


@dataclass(frozen=True)
class Failure:
    """Why a run gave no result."""

    job: Job
    reason: str


def reason(e: Exception) -> str:
    """Why it was raised, in words: not every exception crosses processes, and some have no message."""
    return str(e) or type(e).__name__


class _Worker:
    """What a worker process holds: the channel to the parent, and whether to stop."""

    events: Any = None
    stopping: Any = None


def _start(events: Any, stopping: Any) -> None:
    _Worker.events, _Worker.stopping = events, stopping
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and asks all to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.getLogger("retain").setLevel(logging.ERROR)  # and says once what there is to note of a method


def _end_with_parent() -> None:
    """A parent that was killed wants no more results: its runs can be gone on with from their checkpoints."""
    if parent := mp.parent_process():
        parent.join()
        os._exit(1)


class Done(NamedTuple):
    """What one worker's work gave: of each job its result or why there is none, and what there is to say."""

    outcomes: list[Result | Failure]
    note: str = ""


def _work(jobs: list[Job], resume: bool) -> Done:
    """One run; or several stacked, which are run one after the other where they cannot be."""
    if len(jobs) == 1:
        return Done([_one(jobs[0], resume)])
    try:
        return Done(_together(jobs))
    except CannotStack as why:
        return Done([_one(job, resume) for job in jobs], f"{_names(jobs)} are run separately: {why}")


def _one(job: Job, resume: bool) -> Result | Failure:
    """The result, or why there is none."""
    try:
        if _Worker.stopping.is_set():
            raise Interrupted("stopped before it began")
        if resume and (result := done_before(job)):
            return result
        return job.experiment.run(job.out, resume=resume, progress=_teller(job), stop=_Worker.stopping.is_set)
    except Exception as e:
        return Failure(job, reason(e))


def _together(jobs: list[Job]) -> list[Result | Failure]:
    """The same of several runs, stacked."""
    if _Worker.stopping.is_set():
        return [Failure(job, "stopped before it began") for job in jobs]
    try:
        courses = [job.experiment.course(job.out) for job in jobs]
    except Exception as e:  # jobs that differ in their seed alone are all wrong in the same way
        return [Failure(job, reason(e)) for job in jobs]
    found = run_together(courses, [_teller(job) for job in jobs], _Worker.stopping.is_set)
    return [
        o if isinstance(o, Result) else Failure(job, reason(o)) for job, o in zip(jobs, found, strict=True)
    ]


def _teller(job: Job) -> Callable[[Progress], None]:
    """Tells the parent of a run a few times a second."""
    last = 0.0

    def tell(p: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > 0.2 or p.step in (1, p.steps):  # how each task began and ended, always
            last = time.monotonic()
            _Worker.events.put((job.name, p))

    return tell


def done_before(job: Job) -> Result | None:
    """The result that lies in the job's folder, if there is one.

    Raises:
        ValueError: it is of another run, or damaged.
    """
    if not (job.out / "result.json").exists():
        return None
    result = Result.load(job.out / "result.json")
    if differing := differences(result.config, job.experiment.config()):
        raise ValueError(f"{job.out} holds the result of another run: {differing}")
    return result


@contextmanager
def _held_back() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal: those started in here never hear it, and this one afterwards."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    heard: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which children inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
    if heard and callable(handler):
        handler(heard[0], None)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C is not heard in here."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_all(
    jobs: Iterable[Job],
    workers: int = 2,
    resume: bool = False,
    progress: Callable[[str, Progress], None] | None = None,
    finished: Callable[[Job, Result | Failure], None] | None = None,
    stack: Stacking = "auto",
) -> list[Result | Failure]:
    """Run the jobs, `workers` at a time; what each gave, in their order.

    A run that fails leaves the others going. Ctrl-C lets every run save where it is; once more, and they
    are killed at once. Workers end with this process, however it ends.

    Args:
        jobs: the runs; longest first keeps all workers busy to the end.
        workers: processes.
        resume: skip the runs that are done and go on with those that were begun.
        progress: told of each run's progress a few times a second, with the job's name.
        finished: told of each result as it comes.
        stack: which runs are one computation; see `groups`.

    Raises:
        Interrupted: after Ctrl-C, when every run has saved or was killed.
        ValueError: fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}")
    jobs, others = list(jobs), set(mp.active_children())
    context = mp.get_context("spawn")
    # A simple queue pickles at once what it is given, and leaves no thread for a worker's end to wait for.
    events, stopping = context.SimpleQueue(), context.Event()
    listener = threading.Thread(target=_listen, args=(events, progress), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(workers, context, _start, (events, stopping))
    try:
        with _held_back():
            parts = groups(jobs, stack, resume)
            futures = {pool.submit(_work, [jobs[i] for i in part], resume): part for part in parts}
        found = _collect(futures, jobs, finished)
    except KeyboardInterrupt:
        stopping.set()
        raise _wait_or_kill(pool, others) from None
    finally:
        stopping.set()  # whatever went wrong here, no run goes on for nothing
        pool.shutdown(cancel_futures=True)
    events.put(None)
    listener.join()
    return found


def _wait_or_kill(pool: ProcessPoolExecutor, others: set[Any]) -> Interrupted:
    """Until every run has saved; after Ctrl-C once more they are killed, but for `others`, not the pool's."""
    log.warning("retain: every run saves where it is and stops; Ctrl-C again stops them at once")
    try:
        pool.shutdown(cancel_futures=True)
    except KeyboardInterrupt:
        with undisturbed():
            for worker in set(mp.active_children()) - others:
                worker.kill()
            pool.shutdown()
        return Interrupted("stopped at once; every run is kept as it last saved")
    return Interrupted("stopped; every run that had begun has saved where it was")


def _collect(
    futures: dict[Future[Done], list[int]], jobs: list[Job],
    finished: Callable[[Job, Result | Failure], None] | None,
) -> list[Result | Failure]:  # fmt: skip
    found: dict[int, Result | Failure] = {}
    for future in as_completed(futures):
        part = futures[future]
        done = _outcome(future, [jobs[i] for i in part])
        if done.note:
            log.warning("retain: note: %s", done.note)
        for i, outcome in zip(part, done.outcomes, strict=True):
            found[i] = outcome
            if finished:
                finished(jobs[i], outcome)
    return [found[i] for i in range(len(jobs))]


def _outcome(future: Future[Done], jobs: list[Job]) -> Done:
    try:
        return future.result()
    except BrokenProcessPool:
        why = "a worker process died (out of memory, or killed); --resume goes on from here"
        return Done([Failure(job, why) for job in jobs])


def groups(jobs: Sequence[Job], stack: Stacking, resume: bool = False) -> list[list[int]]:
    """Which jobs are one computation: those that differ only in their seed, where that is asked for.

    Args:
        jobs: the runs.
        stack: `on`, `off`, or `auto`: where they compute on a CUDA device. A processor's core is no
            faster with many small networks at once, and then they are better spread over the cores.
        resume: what was begun is gone on with separately.
    """
    if resume or stack == "off":
        return [[i] for i in range(len(jobs))]
    alike: dict[str, list[int]] = {}
    for i, job in enumerate(jobs):
        stacks = stack == "on" or job.experiment.settings.device == "cuda"
        key = json.dumps({**job.experiment.config(), "seed": None}) if stacks else str(i)
        alike.setdefault(key, []).append(i)
    return list(alike.values())


def _names(jobs: Sequence[Job]) -> str:
    return f"{jobs[0].name} to {jobs[-1].name}"


def _listen(events: Any, progress: Callable[[str, Progress], None] | None) -> None:
    while (event := events.get()) is not None:
        if progress:
            progress(*event)


def jobs_of(experiments: Iterable[tuple[str, Experiment]], out: Path) -> list[Job]:
    """A job for each named experiment, in a folder of its name below `out`."""
    write_atomically(out / ".retain", b"")  # fails now, not after an hour, where nothing can be written
    return [Job(name, e, out / name) for name, e in experiments]
