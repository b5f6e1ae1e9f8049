"""`retain demo`: a network forgets, and methods prevent it, on real data, in some minutes."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from retain.cli.errors import FAILED, WrongUse
from retain.cli.flags import Group, asks_for_help, help_of, parse
from retain.cli.many import Options, name_failures, run_many
from retain.cli.output import console
from retain.combine import describe
from retain.experiment import Experiment, Settings
from retain.method import Method
from retain.methods.ewc import EWC
from retain.methods.gem import GEM
from retain.methods.generative_replay import GenerativeReplay
from retain.methods.joint import Joint
from retain.methods.l2 import L2
from retain.methods.naive import Naive
from retain.methods.replay import Replay
from retain.report import sentence, table, write_report
from retain.result import Result

HELP = """\
usage: retain demo [flags]

A network learns three tasks one after the other: MNIST as it is (A), and with its pixels in two
other orders (B, C). Plain training forgets A. Then the same with methods that keep what was
learned, and with all data at once. Beside it Hung-yi Lee's pair: digits under heavy noise, then
the same digits clean. Prints a table for each and one sentence on what they show, and writes
DIR/report.html. Results that DIR holds from an earlier demo are replaced, unless --resume is
given."""

OUT = "out/demo"

PERMUTED = Settings(
    tasks=3, first="plain", hidden=(100, 100), lr=0.2, schedule="linear", batch_size=64, curve_every=47
)
NOISY = Settings(hidden=(50, 50, 50), lr=0.1, schedule="linear", batch_size=32, epochs=2, curve_every=375)
GENERATOR = GenerativeReplay(labels="soft", generator_hidden=(256, 256), latent=50, generator_lr=2e-3)
MEMORY = GEM(memory_per_task=512, choice="random")

# Every method is run with every seed. What is to be prevented comes first; then the longest runs, which
# keeps all workers busy to the end.
RUNS: list[tuple[str, Method[Any], Settings]] = [
    ("permuted", Naive(), PERMUTED),
    ("permuted", GENERATOR, PERMUTED),
    ("noisy-clean", MEMORY, NOISY),
    ("noisy-clean", Joint(), NOISY),
    ("permuted", MEMORY, PERMUTED),
    ("permuted", Joint(), PERMUTED),
    ("noisy-clean", EWC(lam=30), NOISY),
    ("noisy-clean", Naive(), NOISY),
    ("permuted", Replay(), PERMUTED),
    ("permuted", EWC(lam=30), PERMUTED),
    ("permuted", L2(lam=0.1), PERMUTED),
]


@dataclass(frozen=True)
class Seeds:
    """How often everything is repeated."""

    seeds: int = 2  # runs of each method, with the seeds 0, 1, ...


def command(args: list[str]) -> int:
    """Run the demo."""
    began = time.perf_counter()
    output = Group(
        "output", Options, {"out": OUT}, pairs=False, leave_out=frozenset({"force", "on", "address", "stack"})
    )
    groups = [Group("demo", Seeds, {}), output]
    if asks_for_help(args):
        print(f"{HELP}\n\n{help_of(groups)}")
        return 0
    given = parse("retain demo", args, groups)
    options = Options(**given["output"], force=not given["output"]["resume"])
    if given["demo"]["seeds"] < 1:
        raise WrongUse(f"--seeds must be >= 1, got {given['demo']['seeds']}")
    if options.out is None:
        raise WrongUse("--out must be a folder")
    out = Path(options.out)
    results, failures = run_many(experiments(given["demo"]["seeds"]), out, options, "demo", args)
    if results:
        show(results)
        write_report(results, out / "report.html")
        print(f"The report: {out / 'report.html'}")
    print(f"{time.perf_counter() - began:.0f} seconds in all.")
    name_failures(failures)
    return FAILED if failures else 0


def experiments(seeds: int) -> list[tuple[str, Experiment]]:
    """What is run, by name, in the order of the table above."""
    made = []
    for stream, method, settings in RUNS:
        for seed in range(seeds):
            e = Experiment(stream, method, dataclasses.replace(settings, seed=seed))
            made.append((f"{stream}/{describe(method)['name']}-{seed}", e))
    return made


def show(results: list[Result]) -> None:
    """A table for each stream, and what they show."""
    here = console()
    ordered = sorted(results, key=lambda r: str(r.stream["name"]), reverse=True)  # permuted comes first
    for name in dict.fromkeys(str(r.stream["name"]) for r in ordered):
        here.print(Text(f"\n{name}: accuracies in %, mean ± standard deviation over seeds", style="bold"))
        here.print(table([r for r in ordered if r.stream["name"] == name]))
    here.print(Text(f"\n{sentence(ordered)}\n"))
