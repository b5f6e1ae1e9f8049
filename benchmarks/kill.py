"""kill -9 at random moments of a run of each method: does `--resume` end in the same bits?

    python benchmarks/kill.py [--kills 20] [--methods ewc,gem] [--seed 0]

Each method runs three small tasks once undisturbed. Then, for each kill, a process begins the same
run in an empty folder, is killed at a random moment of it, and another one goes on with resume=True
until the end (and is itself killed halfway every third time, and taken up again). Weights, method
state, optimiser moments, generators' states and every field of result.json except `seconds` must be
equal to the undisturbed run's, bit for bit. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from retain import checkpoint
from retain.experiment import Experiment, Settings
from retain.methods import discover
from retain.sitting import CHECKPOINT

EVERY = 0.02  # seconds between checkpoints
SETTINGS = Settings(
    tasks=3,
    samples=2000,
    test_samples=500,
    hidden=(40,),
    lr=0.05,
    momentum=0.9,
    schedule="cosine",
    batch_size=32,
)


def experiment(method: str) -> Experiment:
    """A small run of it, with momentum and a schedule, so that more can go wrong."""
    small = {"generator_hidden": (40,), "latent": 8} if method == "generative-replay" else {}
    return Experiment("permuted", discover()[method](**small), SETTINGS)


def child(method: str, out: Path, resume: bool, started: Connection) -> None:
    """A process of its own that runs to the end, unless it is killed."""
    told = False

    def tell(_: object) -> None:
        nonlocal told
        if not told:
            started.send(True)
            told = True

    experiment(method).run(out, resume=resume, checkpoint_seconds=EVERY, progress=tell)
    tell(None)


def sitting(context: Any, method: str, out: Path, resume: bool, kill_after: float | None) -> float:
    """Run, or go on; kill -9 so many seconds after the first step. Seconds from there to the end."""
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(method, out, resume, there))
    process.start()
    there.close()
    here.recv()
    start = time.perf_counter()
    process.join(kill_after)
    killed = process.is_alive()
    if killed:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    if not killed and process.exitcode != 0:
        raise RuntimeError(f"{method}: a run ended with exit code {process.exitcode}")
    return time.perf_counter() - start


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a nested state, with its path."""
    if isinstance(tree, dict):
        for k, v in tree.items():
            yield from leaves(v, f"{path}.{k}")
    elif isinstance(tree, list | tuple):
        for i, v in enumerate(tree):
            yield from leaves(v, f"{path}[{i}]")
    else:
        yield path, tree


def differences(a: Path, b: Path) -> list[str]:
    """What differs between two finished runs, seconds apart."""
    found = []
    for of in (
        lambda p: checkpoint.load(p / CHECKPOINT),
        lambda p: json.loads((p / "result.json").read_text()),
    ):
        one, two = dict(leaves(of(a))), dict(leaves(of(b)))
        for path in sorted({*one, *two}):
            x, y = one.get(path), two.get(path)
            same = (
                torch.equal(x, y) if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) else x == y
            )
            if not same and not path.startswith(".seconds"):
                found.append(path)
    return found


def try_method(method: str, kills: int, rng: random.Random, folder: Path) -> list[str]:
    """The undisturbed run, then `kills` killed ones; what differed."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["retain.experiment"])
    reference = folder / "undisturbed"
    whole = sitting(context, method, reference, False, None)
    problems = []
    for n in range(kills):
        out = folder / f"killed-{n}"
        sitting(context, method, out, False, rng.uniform(0, whole))
        if n % 3 == 2:
            sitting(context, method, out, True, rng.uniform(0, whole / 2))
        sitting(context, method, out, True, None)
        problems += [f"{method}, kill {n}: {path}" for path in differences(reference, out)]
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--methods", default=",".join(discover()))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    bad = 0
    for method in args.methods.split(","):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            problems = try_method(method, args.kills, rng, Path(folder))
        bad += len(problems)
        verdict = "all equal" if not problems else f"{len(problems)} differences: {problems[:5]}"
        print(f"{method}: {args.kills} kills, {verdict} ({time.perf_counter() - start:.0f} s)", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
