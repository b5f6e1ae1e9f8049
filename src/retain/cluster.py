"""Many runs on a Ray cluster: what `compare.run_all` does with processes, beyond one machine.

A Ray cluster is to be trusted as much as one's own machine. Whoever reaches its ports can run code on it, and
what Ray carries between this process and its workers is pickled, by Ray. What lies in files never is.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from retain.compare import Failure, Job, done_before, reason, undisturbed
from retain.experiment import Experiment
from retain.files import write_atomically
from retain.missing import NotInstalled
from retain.result import Result
from retain.run import Interrupted, Progress
from retain.sitting import CHECKPOINT
from retain.streams import sources

log = logging.getLogger(__name__)

RETRIES = 3  # how often a run whose worker was lost is begun anew
EVERY = 0.3  # seconds between two news of a run, and between two looks at them
STORE = 500 * 2**20  # bytes of shared memory that a Ray started here may fill: the largest data set, twice
REACH = 5.0  # seconds in which a cluster must answer


class NoRay(NotInstalled):
    """The package that speaks with the cluster is not installed."""

    def __init__(self) -> None:
        super().__init__("runs on a cluster need Ray, which is not installed: pip install ray")


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise NoRay from None


@contextmanager
def connected(address: str | None = None, workers: int = 2) -> Iterator[None]:
    """A connection to Ray while it holds; where this process has one already, that one, and left open.

    Args:
        address: HOST:PORT of a cluster that this machine is part of, or "auto" for the one that runs on
            this machine; None: one is started here, and ended.
        workers: CPUs of one that is started here.

    Raises:
        NoRay: the package is not installed.
        ConnectionError: no cluster answers there, or it cannot be used.
        ValueError: fewer than one worker, or no address.
    """
    if workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}")
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    how: dict[str, Any] = {"address": address}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
        how = {
            "address": "local",
            "num_cpus": workers,
            "object_store_memory": STORE,
            "include_dashboard": False,
        }
    elif address != "auto":
        _reach(address)
    try:
        try:
            ray.init(**how, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as e:  # Ray raises many kinds
            where = "started here" if address is None else f"joined at {address}"
            raise ConnectionError(f"a Ray cluster cannot be {where}: {e}") from e
        yield
    finally:
        with undisturbed():
            ray.shutdown()


def _reach(address: str) -> None:
    """Ray itself would try for a minute, and end the process."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise ValueError(
            f"the address of a Ray cluster must be HOST:PORT, or auto, got {address!r} "
            "(not ray://...: start the command on a machine of the cluster)"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
    except (OSError, OverflowError) as e:
        raise ConnectionError(f"no Ray cluster answers at {address}: {e}") from e


def run_on_ray(
    jobs: Iterable[Job],
    address: str | None = None,
    workers: int = 2,
    resume: bool = False,
    progress: Callable[[str, Progress], None] | None = None,
    finished: Callable[[Job, Result | Failure], None] | None = None,
) -> list[Result | Failure]:
    """Run the jobs, one on each CPU of the cluster at a time; what each gave, in their order.

    Results are written here, to the jobs' folders, as `run_all` leaves them. A run that fails leaves the
    others going. One whose worker or machine is lost begins anew elsewhere, three times at most, and ends in
    the same numbers. After Ctrl-C every run saves, and its checkpoint is brought here; once more, and what is
    under way is lost. Data that are not in the package are sent once to each machine, which holds one copy.

    Args:
        jobs: the runs; their names differ. The package is installed on every machine, in the same version.
        address: as for `connected`, which may hold already.
        workers: as for `connected`.
        resume: skip the runs that are done and go on with those that were begun.
        progress: told of each run's progress a few times a second, with the job's name.
        finished: told of each result as it comes.

    Raises:
        Interrupted: after Ctrl-C.
        NoRay, ConnectionError, ValueError: as `connected`.
    """
    jobs = list(jobs)
    with connected(address, workers):
        crowd = _Crowd(_ray(), jobs, progress, finished)
        try:
            crowd.send(resume)
            crowd.follow()
        except KeyboardInterrupt:
            log.warning("retain: every run saves where it is and stops; Ctrl-C again stops them at once")
            try:
                crowd.stop()
            except KeyboardInterrupt:
                raise Interrupted("stopped at once; what was under way is lost") from None
            raise Interrupted("stopped; every run has saved where it was") from None
    return [crowd.found[i] for i in range(len(jobs))]


class Watch:
    """Between the runs and the process that started them: an actor of Ray, beside that process."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Progress]] = []
        self.begun: set[str] = set()
        self.stopping = False

    def begin(self, name: str) -> bool:
        """A run is about to begin; gives whether it had better not."""
        if not self.stopping:
            self.begun.add(name)
        return self.stopping

    def tell(self, name: str, p: Progress) -> bool:
        """A run's progress; gives whether it is to stop."""
        self.heard.append((name, p))
        return self.stopping

    def news(self) -> list[tuple[str, Progress]]:
        """What was told since the last time."""
        heard, self.heard = self.heard, []
        return heard

    def stop(self) -> set[str]:
        """No run begins any more and every other stops; gives the names of those that began."""
        self.stopping = True
        return self.begun


class Gave(NamedTuple):
    """What comes back from a run."""

    files: dict[str, bytes]  # its result, or the checkpoint it stopped at
    reason: str = ""  # why there is no result


class Shipped(NamedTuple):
    """A data set on its way: `arrays` of images and labels by split, which a machine's workers share."""

    data: Any
    folder: str | None
    arrays: dict[Any, tuple[Any, Any]]


def _work(
    name: str, experiment: Experiment, shipped: Shipped | None, begun: bytes | None, watch: Any
) -> Gave:
    """One run, on whatever machine: in a folder of its own, of which only the files given back are kept."""
    if _answer(watch.begin.remote(name)):
        return Gave({}, "stopped before it began")
    if shipped:
        _unpack(shipped)
    last, stopping = -math.inf, False

    def tell(p: Progress) -> None:
        nonlocal last, stopping
        if time.monotonic() - last > EVERY or p.step in (1, p.steps):  # how each task began and ended, always
            last = time.monotonic()
            stopping = _answer(watch.tell.remote(name, p))

    with tempfile.TemporaryDirectory(prefix="retain-") as place:
        out = Path(place)
        if begun is not None:
            write_atomically(out / CHECKPOINT, begun)
        try:
            experiment.run(out, begun is not None, math.inf, tell, lambda: stopping)
        except Interrupted as e:
            return Gave({CHECKPOINT: (out / CHECKPOINT).read_bytes()}, str(e))
        except Exception as e:
            return Gave({}, reason(e))
        return Gave({"result.json": (out / "result.json").read_bytes()})


def _answer(ref: Any) -> bool:
    """Not by `ray.get`: a run that waits in it gives up its CPU meanwhile, and another begins beside it."""
    return bool(ref.future().result())


def _pack(data: Any, folder: str | None) -> Shipped | None:
    """A data set that a machine may lack; None: none does, or this one does and each looks for itself."""
    if data == "mnist" and folder is None:
        return None
    splits: tuple[Any, ...] = ("train", "test")
    try:
        loaded = {split: sources.load(data, split, folder) for split in splits}
    except (OSError, ValueError):
        return None  # a run that does not find them either says what is missing
    return Shipped(data, folder, {split: (x.numpy(), y.numpy()) for split, (x, y) in loaded.items()})


def _unpack(shipped: Shipped) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # that shared memory is read-only; so is all that is loaded
        for split, (x, y) in shipped.arrays.items():
            sources.give(shipped.data, split, shipped.folder, torch.from_numpy(x), torch.from_numpy(y))


class _Crowd:
    """The runs, seen from the process that started them."""

    def __init__(
        self, ray: Any, jobs: list[Job], progress: Callable[[str, Progress], None] | None,
        finished: Callable[[Job, Result | Failure], None] | None,
    ):  # fmt: skip
        self.ray, self.jobs, self.progress, self.finished = ray, jobs, progress, finished
        self.found: dict[int, Result | Failure] = {}
        self.waiting: dict[Any, int] = {}  # Ray's reference to what is to come, and whose it is
        self.at: dict[str, tuple[int, int]] = {}  # task and step that each run last told of
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        here = strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(Watch)
        self.watch = actor.remote()

    def send(self, resume: bool) -> None:
        """All that is not done already."""
        work = self.ray.remote(num_cpus=1, max_retries=RETRIES)(_work)
        packed: dict[tuple[str, str | None], Any] = {}
        for i, job in enumerate(self.jobs):
            try:
                before = done_before(job) if resume else None
            except (OSError, ValueError) as e:
                self.end(i, Failure(job, str(e)))
                continue
            if before:
                self.end(i, before)
                continue
            data = job.experiment.settings.data, job.experiment.settings.folder
            if data not in packed:
                packed[data] = self.ray.put(_pack(*data))
            path = job.out / CHECKPOINT
            begun = path.read_bytes() if resume and path.exists() else None
            named = work.options(name=job.name)
            self.waiting[named.remote(job.name, job.experiment, packed[data], begun, self.watch)] = i

    def follow(self) -> None:
        """Until every run has ended."""
        while self.waiting:
            ready, _ = self.ray.wait(list(self.waiting), timeout=EVERY)
            self.hear()
            for ref in ready:
                self.end(self.waiting[ref], self.outcome(ref))
                del self.waiting[ref]

    def hear(self) -> None:
        """Pass on what the runs tell of themselves."""
        for name, p in self.ray.get(self.watch.news.remote()):
            if (p.task, p.step) <= self.at.get(name, (-1, 0)):
                log.warning("retain: note: %s was lost with its worker and began anew", name)
            self.at[name] = p.task, p.step
            if self.progress:
                self.progress(name, p)

    def end(self, i: int, outcome: Result | Failure) -> None:
        """Take down what a run gave."""
        self.found[i] = outcome
        if self.finished:
            self.finished(self.jobs[i], outcome)

    def outcome(self, ref: Any) -> Result | Failure:
        """What a run gave, its files written."""
        job, errors = self.jobs[self.waiting[ref]], self.ray.exceptions
        try:
            gave = self.ray.get(ref)
            self.keep(job, gave)
            return Failure(job, gave.reason) if gave.reason else Result.load(job.out / "result.json")
        except (
            errors.RayTaskError
        ) as e:  # not the run's own, which is in words: its worker could not begin it
            return Failure(job, f"its worker could not begin it: {str(e).strip().splitlines()[-1]}")
        except errors.RayError as e:
            lost = f"its worker died {RETRIES + 1} times (out of memory, or killed)"
            return Failure(job, f"{lost}; --resume begins it anew ({type(e).__name__})")
        except (OSError, ValueError) as e:
            return Failure(job, str(e))

    def keep(self, job: Job, gave: Gave) -> None:
        """Write what came of a run to its folder; a result leaves no earlier checkpoint beside it."""
        for name, data in gave.files.items():
            write_atomically(job.out / name, data)
        if "result.json" in gave.files:
            (job.out / CHECKPOINT).unlink(missing_ok=True)

    def stop(self) -> None:
        """Keep what each run that began has saved; one that was lost leaves what its folder held."""
        begun = self.ray.get(self.watch.stop.remote())
        for ref, i in self.waiting.items():
            if self.jobs[i].name in begun:
                try:
                    self.keep(self.jobs[i], self.ray.get(ref))
                except self.ray.exceptions.RayError as e:
                    log.warning("retain: %s could not save: %s", self.jobs[i].name, type(e).__name__)
