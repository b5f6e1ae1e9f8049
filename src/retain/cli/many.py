"""Many runs at once, watched, stopped and resumed alike: what `compare` and `demo` share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retain.cli.errors import Stopped, WrongUse, one_line
from retain.cli.folder import claim
from retain.cli.progress import watcher
from retain.cli.stop import deafen, resume_command
from retain.compare import Failure, jobs_of, run_all
from retain.experiment import Experiment
from retain.result import Result
from retain.run import Interrupted


@dataclass(frozen=True)
class Options:
    """What becomes of the runs; their results do not depend on it."""

    out: str | None = None  # folder for all of them and the report; none: out/compare-STREAM-DATE-TIME
    workers: int = 2  # runs at a time, each a process
    resume: bool = False  # skip what is done in --out, go on with what was begun
    force: bool = False  # replace the results that --out holds
    quiet: bool = False  # show no progress

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise WrongUse(f"--workers must be >= 1, got {self.workers}")
        if self.resume and self.out is None:
            raise WrongUse("--resume needs the folder to go on from: --out DIR")


def run_many(
    experiments: Sequence[tuple[str, Experiment]], out: Path, options: Options, command: str, args: list[str]
) -> tuple[list[Result], list[Failure]]:
    """The results and the failures, each in the order of the experiments.

    Raises:
        WrongUse: `out` cannot be written, or holds results already.
        Stopped: Ctrl-C.
    """
    experiments[0][1].build_stream()  # says now, and not in every worker, that data are missing
    folders = [out / name for name, _ in experiments]
    with (
        claim(out, folders, options.resume, options.force),
        watcher(len(experiments), options.quiet) as watch,
    ):
        try:
            outcomes = run_all(
                jobs_of(experiments, out), options.workers, options.resume, watch.tell,
                lambda job, outcome: watch.done(job.name, outcome),
            )  # fmt: skip
        except (Interrupted, KeyboardInterrupt) as e:
            deafen()
            how = str(e) or "stopped at once"
            raise Stopped(f"{how}; go on with:\n  {resume_command(command, args, str(out))}") from None
    results = [o for o in outcomes if isinstance(o, Result)]
    return results, [o for o in outcomes if isinstance(o, Failure)]


def name_failures(failures: Sequence[Failure]) -> None:
    """A line for each, on stderr."""
    for f in failures:
        print(f"retain: error: {f.job.name} failed: {one_line(f.reason)}", file=sys.stderr)
