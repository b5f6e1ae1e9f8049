"""`retain compare` of 8 runs on two cores, against the same command on one.

    python benchmarks/cores.py
    python benchmarks/cores.py --epochs 3   # where a run still takes a minute then
    python benchmarks/cores.py --rounds 2 --add   # two more, to those that are in --out
    python benchmarks/cores.py --quick

Permuted MNIST, 10 tasks of 60,000, 784-256-256-10, batches of 128, five passes, SGD 0.1, naive with 8 seeds: a run
takes a minute or more on one core; the table says how long the shortest took. Whole commands are timed, the start of
Python and of the workers included. One core: the whole command is bound to it, with one worker. Two cores: two
workers, one thread each.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import altair as alt

from measure import Spread, alternate, markdown, medians, parser, publish, ready, written
from retain.report import find_results

WORK = "permuted --methods naive --tasks 10 --hidden 256,256 --batch-size 128 --optimizer sgd --lr 0.1"
QUICK = "permuted --methods naive --tasks 2 --samples 500 --test-samples 100 --hidden 20"


@dataclass(frozen=True)
class Timed:
    """Seconds of a whole command, and of its shortest run."""

    total: float
    run: float


def compare(work: str, seeds: int, cores: list[int]) -> Timed:
    out = Path(tempfile.mkdtemp(prefix="retain-cores-"))
    flags = [*work.split(), "--curve-every", "0", "--seeds", str(seeds), "--workers", str(len(cores))]
    line = [sys.executable, "-m", "retain", "compare", *flags, "--quiet", "--out", str(out / "runs")]
    start = time.perf_counter()
    subprocess.run(
        line, check=True, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    total = time.perf_counter() - start
    found = Timed(total, min(r.seconds.total for r in find_results(out / "runs")))
    shutil.rmtree(out)
    return found


def said(t: Timed) -> str:
    return f"{t.total:.1f} s, the shortest run {t.run:.1f} s"


def main() -> None:
    made = parser(__doc__, rounds=5)
    made.add_argument("--seeds", type=int, default=8, help="runs (8)")
    made.add_argument("--epochs", type=int, default=5, help="passes over each task (5)")
    made.add_argument("--add", action="store_true", help="add the rounds to those that are in --out")
    args = ready(made)
    every = args.allowed
    if len(every) < 2:
        made.error(f"two cores are needed, this process may use {every}")
    work = QUICK if args.quick else f"{WORK} --epochs {args.epochs}"
    same = {"epochs": args.epochs, "seeds": args.seeds, "quick": args.quick}
    try:
        before = written(args.out / "cores.json", same).get("timed", {}) if args.add else {}
    except ValueError as e:
        made.error(str(e))
    sides = {
        "one core": partial(compare, work, args.seeds, every[-1:] if args.core is None else [args.core]),
        "two cores": partial(compare, work, args.seeds, every[-2:]),
    }
    old = {name: [Timed(**t) for t in before.get(name, [])] for name in sides}
    new = alternate(sides, args.rounds, said, len(old["one core"]))
    timed = {name: old[name] + new[name] for name in sides}
    ratio = Spread.of([a.total / b.total for a, b in zip(*timed.values(), strict=True)])
    rows = [
        [name, Spread.of([t.total for t in each]).text(".1f"), Spread.of([t.run for t in each]).text(".1f"),
         ratio.text() if name == "two cores" else ""]
        for name, each in timed.items()
    ]  # fmt: skip
    points = [{"side": name, "seconds": t.total} for name, each in timed.items() for t in each]
    chart = alt.Chart(alt.InlineData(values=points)).mark_point(filled=True, size=60)
    chart = chart.encode(x=alt.X("seconds:Q", scale=alt.Scale(zero=True)), y=alt.Y("side:N", title=None))
    table = markdown(("", f"{args.seeds} runs, s", "shortest run, s", "times as fast"), rows)
    note = f"{medians(ratio.n)}; {args.epochs} passes a task; two cores: a worker on each."
    os.sched_setaffinity(0, every[-2:])  # what the page says of the machine is of both
    publish(
        "cores", args, {"timed": timed, "ratio": ratio}, table, chart.properties(width=520, height=90), note
    )


if __name__ == "__main__":
    main()
