"""Many runs at once, watched, stopped and resumed alike: what `compare` and `demo` share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from retain import trackers
from retain.cli.errors import Stopped, WrongUse, one_line
from retain.cli.folder import claim
from retain.cli.progress import watcher
from retain.cli.stop import deafen, resume_command
from retain.cluster import NoRay, connected, run_on_ray
from retain.compare import Failure, Stacking, jobs_of, run_all
from retain.experiment import Experiment
from retain.result import Result
from retain.run import Interrupted


@dataclass(frozen=True)
class Options:
    """What becomes of the runs; their results do not depend on it."""

    out: str | None = None  # folder for all of them and the report; none: out/compare-STREAM-DATE-TIME
    workers: int = 2  # runs at a time, each a process; with --address the cluster's CPUs say how many
    on: Literal["local", "ray"] = "local"  # processes here, or a Ray cluster (pip install ray)
    address: str | None = None  # of the Ray cluster, HOST:PORT or auto; none: one is started here and ended
    resume: bool = False  # skip what is done in --out, go on with what was begun
    force: bool = False  # replace the results that --out holds
    quiet: bool = False  # show no progress
    track: trackers.Name | None = (
        None  # send curves, matrices and tables there, through Accelerate's trackers
    )
    stack: Stacking = "auto"  # runs that differ only in their seed as one computation; auto: on a CUDA device

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise WrongUse(f"--workers must be >= 1, got {self.workers}")
        if self.address is not None and self.on != "ray":
            raise WrongUse("--address is of a Ray cluster: it needs --on ray (retain tune: --report-on ray)")
        if self.on == "ray" and importlib.util.find_spec("ray") is None:
            raise NoRay
        if self.track is not None:
            trackers.check(self.track)
        if self.stack == "on" and self.on == "ray":
            raise WrongUse("--stack on is for runs on this machine: leave out --on ray, or --stack on")
        if self.stack == "on" and self.resume:
            raise WrongUse("--resume goes on with every run separately: leave out --stack on")
        if self.resume and self.out is None:
            raise WrongUse("--resume needs the folder to go on from: --out DIR")


def run_many(
    experiments: Sequence[tuple[str, Experiment]], out: Path, options: Options, command: str, args: list[str]
) -> tuple[list[Result], list[Failure]]:
    """The results and the failures, each in the order of the experiments.

    Raises:
        WrongUse: `out` cannot be written, or holds results already.
        ConnectionError: no Ray cluster answers.
        Stopped: Ctrl-C.
    """
    experiments[0][1].build_stream()  # says now, and not in every worker, that data are missing
    folders = [out / name for name, _ in experiments]
    run = partial(run_all, stack=options.stack) if options.on == "local" else run_on_ray
    place: AbstractContextManager[None] = nullcontext()
    if options.on == "ray":
        place = connected(options.address, options.workers)
    with (
        place,  # reached before anything that `out` holds is replaced
        claim(out, folders, options.resume, options.force),
        watcher(len(experiments), options.quiet) as watch,
    ):
        try:
            outcomes = run(
                jobs_of(experiments, out), workers=options.workers, resume=options.resume, progress=watch.tell,
                finished=lambda job, outcome: watch.done(job.name, outcome),
            )  # fmt: skip
        except (Interrupted, KeyboardInterrupt) as e:
            deafen()
            how = str(e) or "stopped at once"
            raise Stopped(f"{how}; go on with:\n  {resume_command(command, args, str(out))}") from None
    results = [o for o in outcomes if isinstance(o, Result)]
    if options.track is not None:
        done = {name: o for (name, _), o in zip(experiments, outcomes, strict=True) if isinstance(o, Result)}
        trackers.send(options.track, done, out)
    return results, [o for o in outcomes if isinstance(o, Failure)]


def name_failures(failures: Sequence[Failure]) -> None:
    """A line for each, on stderr."""
    for f in failures:
        print(f"retain: error: {f.job.name} failed: {one_line(f.reason)}", file=sys.stderr)
