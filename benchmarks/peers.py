"""retain beside avalanche-lib at the same work, each run in a process of its own, in alternation on one core.

    make bench-peers
    python benchmarks/peers.py --python .bench-peers/bin/python --methods naive,ewc --rounds 3
    python benchmarks/peers.py --python .bench-peers/bin/python --lam 10,1000   # retain's and avalanche's
    python benchmarks/peers.py --python .bench-peers/bin/python --methods gem --earlier keep   # gem anew
    python benchmarks/peers.py --python .bench-peers/bin/python --rounds 2 --earlier add       # two more of each
    python benchmarks/peers.py --python .bench-peers/bin/python --quick

Permuted MNIST, 10 tasks of 60,000 images, 784-256-256-10, batches of 128, one pass, SGD 0.1, all ten test
sets after every task. Replay keeps 2,000 examples, GEM 256 a task with margin 0.5. The two libraries' Fishers
differ (avalanche squares the gradients of batch means, which is another matrix), so that equal lam need not
be equal strength: each one's lam for EWC is the best of its grid on the ten tasks with another seed. (The
first two tasks are no guide: they ask for 300 and 200, with which ten tasks end at 69% and diverge.)
retain's penalty is a proximal step, which no sum of Fishers makes diverge. Round n runs with seed n; each
library permutes the pixels in its own way. Seconds are those of training (consolidation included) and
evaluation as each side's own clock has them, without imports and without making the tasks; retain's include
the evaluation of the untrained network, avalanche's do not. A round of all four takes half an hour, so rounds
may be measured in several sittings on one machine: out/bench/peers.json keeps each run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import altair as alt
import torch
from torch import Tensor

from measure import Spread, alternate, markdown, medians, parser, publish, ready, tell, written
from retain.streams.sources import load

DRIVER = Path(__file__).with_name("avalanche_run.py")
SIDES = ("retain", "avalanche")
METHODS = ("naive", "ewc", "replay", "gem")
GRIDS: dict[str, tuple[float, ...]] = {
    "retain": (0.3, 1, 3, 10),
    "avalanche": (3, 10, 20, 40),
}
Earlier = Literal["drop", "keep", "add"]
Runs = dict[str, dict[str, list["Run"]]]  # of each method, by side: as many of one as of the other
TASKS = 10
OTHER_SEED = 1000  # lam is chosen with it; rounds have seeds from 0
STEMS = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class Run:
    """One run's figures; `acc` is the mean over all tasks at the end, 0 where training diverged."""

    train: float
    evaluate: float
    acc: float
    process: float  # seconds from the start of the process to its end
    megabytes: float  # the most that was resident
    lam: float  # of EWC
    versions: dict[str, str]

    @property
    def total(self) -> float:
        """Both together."""
        return self.train + self.evaluate


@dataclass(frozen=True)
class Bench:
    """Where the data lie, how each side is started, and how large the work is."""

    data: Path
    python: str  # of avalanche's environment
    tasks: int
    grids: dict[str, tuple[float, ...]]  # lam of EWC to choose from, for each side

    def run(self, side: str, method: str, seed: int, lam: float) -> Run:
        """One process.

        Raises:
            RuntimeError: it failed, other than by a loss that became infinite.
        """
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            command = self.command(side, method, seed, lam, out)
            seconds, megabytes, code, said = timed(command, Path(folder) / "log")
            if code and "became" not in said and "diverge" not in said:
                raise RuntimeError(f"{' '.join(command)} ended with {code}:\n{said[-2000:]}")
            if code:
                return Run(seconds, 0.0, 0.0, seconds, megabytes, lam, {})
            return read(json.loads((out / "result.json").read_text()), seconds, megabytes, lam)

    def command(self, side: str, method: str, seed: int, lam: float, out: Path) -> list[str]:
        """What is run; both sides' defaults that matter are spelled out in the two drivers."""
        ours = [sys.executable, "-m", "retain.cli.main", "run", "permuted", method, "--quiet"]
        ours += ["--curve-every", "0", "--curve-samples", "1", "--folder", str(self.data)]
        if method == "ewc":  # whatever lam two tasks ask for, ten do not make it diverge
            ours += ["--proximal"]
        theirs = [self.python, "-W", "ignore", str(DRIVER), method, "--data", str(self.data)]
        given = {
            "ewc": ["--lam", str(lam)],
            "replay": ["--memory", "2000"],
            "gem": ["--memory-per-task", "256", "--margin", "0.5"],
        }
        common = ["--tasks", str(self.tasks), "--seed", str(seed), "--out", str(out), *given.get(method, [])]
        return (ours if side == "retain" else theirs) + common


def timed(command: list[str], log: Path) -> tuple[float, float, int, str]:
    """Wall seconds, peak megabytes, exit code and output of a process."""
    start = time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - start, usage.ru_maxrss / 1024, process.returncode, log.read_text()


def read(result: dict[str, Any], process: float, megabytes: float, lam: float) -> Run:
    """From either side's result.json. What retain did beside training counts as evaluation."""
    s = result["seconds"]
    train = s["train"] + s.get("consolidate", 0.0)
    evaluate = s["total"] - train if "total" in s else s["evaluate"]
    acc = result["acc"] if result.get("finite", True) else 0.0
    return Run(train, evaluate, acc, process, megabytes, lam, result["versions"])


def write_mnist(folder: Path, images: int | None, tests: int | None) -> None:
    """MNIST as torchvision lays it out, which both libraries read; or the first images of it."""
    raw = folder / "MNIST/raw"
    raw.mkdir(parents=True)
    for split, n in (("train", images), ("test", tests)):
        x, y = load("mnist", split)  # type: ignore[arg-type]
        for kind, t in (("images-idx3", x[:n, 0]), ("labels-idx1", y[:n].to(torch.uint8))):
            (raw / f"{STEMS[split]}-{kind}-ubyte").write_bytes(idx(t))


def idx(t: Tensor) -> bytes:
    """A uint8 tensor with the header of the idx format: two zeros, 8 for unsigned bytes, the dimensions."""
    head = bytes([0, 0, 8, t.dim()]) + b"".join(n.to_bytes(4, "big") for n in t.shape)
    return head + t.contiguous().numpy().tobytes()


def choose_lam(bench: Bench) -> dict[str, dict[float, float]]:
    """For each side the accuracy that each lam gives, with another seed."""
    found: dict[str, dict[float, float]] = {side: {} for side in SIDES}
    for side in SIDES:
        for lam in bench.grids[side]:
            acc = bench.run(side, "ewc", OTHER_SEED, lam).acc
            found[side][lam] = acc
            tell(f"lam of {side}: {lam:g} gives {100 * acc:.2f}%")
        best = max(found[side], key=lambda v: found[side][v])
        if best in (bench.grids[side][0], bench.grids[side][-1]):
            tell(f"note: the best lam of {side}, {best:g}, lies at the edge of its grid")
    return found


def side_of(bench: Bench, side: str, method: str, lam: float, first: int) -> Callable[[], Run]:
    """A side that takes the next seed in each round, from `first` on."""
    seeds: Iterator[int] = itertools.count(first)
    return lambda: bench.run(side, method, next(seeds), lam)


def said(r: Run) -> str:
    return (
        f"{r.total:.1f} s (training {r.train:.1f}, evaluation {r.evaluate:.1f}), ACC {100 * r.acc:.2f}%, "
        f"process {r.process:.1f} s, {r.megabytes:.0f} MB"
    )


def figures_of(runs: dict[str, list[Run]]) -> dict[str, Any]:
    ours, theirs = (runs[side] for side in SIDES)
    names = ("total", "train", "evaluate", "acc", "process", "megabytes")
    each = {side: {n: Spread.of([getattr(r, n) for r in runs[side]]) for n in names} for side in SIDES}
    quicker = Spread.of([b.total / a.total for a, b in zip(ours, theirs, strict=True)])
    acc = [sum(r.acc for r in runs[side]) / len(runs[side]) for side in SIDES]
    versions = {**theirs[0].versions}
    return {**each, "quicker": quicker, "mean_acc": dict(zip(SIDES, acc, strict=True)), "versions": versions}


def before(path: Path, methods: list[str], earlier: Earlier, quick: bool) -> Runs:
    """The runs of an earlier call that stay: none, those of other methods, or all.

    Raises:
        ValueError: they are of another machine, of other versions or of other work, or the file has none.
    """
    whole = {} if earlier == "drop" else written(path, {"quick": quick})
    if not whole:
        return {}
    if "runs" not in whole:
        raise ValueError(
            f"{path} holds medians and no runs, as earlier versions wrote it: give another --out"
        )
    return {
        method: {side: [Run(**r) for r in sides[side]] for side in SIDES}
        for method, sides in whole["runs"].items()
        if earlier == "add" or method not in methods
    }


def rows(method: str, f: dict[str, Any]) -> list[list[str]]:
    mean, out = f["mean_acc"], []
    for side in SIDES:
        s = f[side]
        last = ["", ""]
        if side == "retain":
            last = [f["quicker"].text(".1f"), f"{100 * (mean['retain'] - mean['avalanche']):+.2f}"]
        out.append([method, side, s["total"].text(".1f"), s["train"].text(".1f"), s["evaluate"].text(".1f"),
                    f"{100 * mean[side]:.2f}", f"{s['megabytes'].median:.0f}", *last])  # fmt: skip
    return out


def chart(found: dict[str, Any]) -> Any:
    points = [
        {"method": method, "side": side, "what": what, "seconds": f[side][of].median}
        for method, f in found.items()
        for side in SIDES
        for what, of in (("training", "train"), ("evaluation", "evaluate"))
    ]
    colour = alt.Color("what:N", scale=alt.Scale(range=["#9cc3e4", "#0072B2"]), title=None)
    base = alt.Chart(alt.InlineData(values=points)).mark_bar()
    x = alt.X("seconds:Q", title="seconds")
    y = alt.Y("side:N", sort=list(SIDES), title=None)
    bars = base.encode(x=x, y=y, color=colour).properties(width=520, height=alt.Step(20))
    head = alt.Header(labelAngle=0, labelAlign="left")
    return bars.facet(row=alt.Row("method:N", sort=list(found), title=None, header=head))


def options() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    made = parser(__doc__, rounds=5)
    made.add_argument("--python", required=True, help="of the environment of benchmarks/peers.txt")
    made.add_argument("--methods", default=",".join(METHODS), help=f"names with commas ({','.join(METHODS)})")
    made.add_argument("--lam", help="of EWC, retain's and avalanche's, such as 10,1000 (chosen from grids)")
    made.add_argument(
        "--earlier", choices=get_args(Earlier), default="drop",
        help="runs that are in --out: leave out, keep those of other methods, or add to all (drop)",
    )  # fmt: skip
    args = ready(made)
    if unknown := set(args.methods.split(",")) - set(METHODS):
        made.error(f"methods are {', '.join(METHODS)}, got {', '.join(unknown)}")
    if args.lam is not None:
        try:
            values = tuple(float(v) for v in args.lam.split(","))
        except ValueError:
            values = ()
        if len(values) != 2:
            made.error(f"--lam takes two numbers with a comma, retain's and avalanche's, got {args.lam}")
        args.lam = dict(zip(SIDES, values, strict=True))
    return made, args


def run_all(args: argparse.Namespace, methods: list[str], kept: Runs) -> tuple[Runs, Any]:
    """The runs of this call, and what each lam tried gave, if it was chosen here."""
    tried, lam, found = None, args.lam or dict.fromkeys(SIDES, 0.0), {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_mnist(data, *((600, 200) if args.quick else (None, None)))
        grids = {side: grid[::3] if args.quick else grid for side, grid in GRIDS.items()}
        bench = Bench(data, args.python, 2 if args.quick else TASKS, grids)
        if "ewc" in methods and args.lam is None:
            tried = choose_lam(bench)
            lam = {side: max(accs, key=lambda v, accs=accs: accs[v]) for side, accs in tried.items()}
        for method in methods:
            tell(f"{method}:")
            first = len(kept[method]["retain"]) if method in kept else 0
            sides = {side: side_of(bench, side, method, lam[side], first) for side in SIDES}
            found[method] = alternate(sides, args.rounds, said, first)
    return found, tried


def main() -> None:
    made, args = options()
    methods = args.methods.split(",")
    earlier = partial(before, args.out / "peers.json", methods, args.earlier, args.quick)
    try:
        kept = earlier()
    except ValueError as e:
        made.error(str(e))
    new, tried = run_all(args, methods, kept)
    kept = earlier()  # once more: another call may have ended meanwhile
    none: dict[str, list[Run]] = {side: [] for side in SIDES}
    runs = {
        method: {side: kept.get(method, none)[side] + new.get(method, none)[side] for side in SIDES}
        for method in METHODS
        if method in kept or method in new
    }
    found = {method: figures_of(sides) for method, sides in runs.items()}
    head = ("method", "library", "in all, s", "training, s", "evaluation, s", "accuracy, %", "peak MB",
            "times quicker", "points better")  # fmt: skip
    table = markdown(head, [row for method, f in found.items() for row in rows(method, f)])
    rounds = medians(*(f["quicker"].n for f in found.values()))
    lams = [", ".join(sorted({f"{r.lam:g}" for r in runs["ewc"][side]})) for side in SIDES if "ewc" in runs]
    strength = f" EWC's lam: {' and '.join(lams)}." if lams else ""
    peer = next(iter(found.values()))["versions"].get("avalanche-lib", "")
    note = f"{rounds}; avalanche-lib {peer}.{strength}"
    data = {"methods": found, "runs": runs, "lam_tried": tried}
    publish("peers", args, data, table, chart(found), note)


if __name__ == "__main__":
    main()
