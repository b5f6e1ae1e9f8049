"""What the measuring scripts share: one core, sides in alternation, medians with their spread, and the files.

A script times its sides with `alternate` and hands its figures to `publish`, which writes NAME.json,
NAME.md and NAME.png to --out and, with --docs, the table and the plot to docs/speed.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import vl_convert

from retain.files import write_atomically
from retain.report import figures
from retain.sitting import versions

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/speed.md"
IMAGES = ROOT / "docs/img"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """The median of some values, the least and the greatest."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one or more values."""
        return cls(statistics.median(values), min(values), max(values), len(values))

    def text(self, form: str = ".2f") -> str:
        """`1.15 (1.12 - 1.17)`; the median alone where there is but one value."""
        if self.n == 1:
            return f"{self.median:{form}}"
        return f"{self.median:{form}} ({self.low:{form}} - {self.high:{form}})"


def medians(*rounds: int) -> str:
    """What the figures of so many rounds are, for the line under a table; of several numbers, one for each row."""
    low, high = min(rounds), max(rounds)
    if high == 1:
        return "One round"
    return f"Median (least - greatest) of {low if low == high else f'{low} to {high}'} rounds"


def parser(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options that every measuring script has; its docstring is the help."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help=f"of each side, alternating ({rounds})")
    made.add_argument("--out", type=Path, default=ROOT / "out/bench", help="folder for the files (out/bench)")
    made.add_argument("--core", type=int, help="the core to run on (the last one allowed)")
    made.add_argument("--quick", action="store_true", help="tiny, to try the script: figures mean nothing")
    made.add_argument("--docs", action="store_true", help="put table and plot into docs/speed.md, too")
    return made


def ready(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line read and checked, and this process bound to one core with one thread.

    `allowed` are the cores that it could use before.
    """
    args = made.parse_args()
    if args.rounds < 1:
        made.error(f"--rounds must be >= 1, got {args.rounds}")
    if args.quick and args.docs:
        made.error("--quick is for trying: its figures do not belong in the docs")
    if args.quick:
        args.rounds = min(args.rounds, 2)
    if any(os.environ.get(name) != "1" for name in ONE_THREAD):
        # NumPy's algebra starts a thread a core when it is loaded, which has happened: so begin anew.
        os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
        os.execv(sys.executable, sys.orig_argv)
    args.allowed = [0]
    if hasattr(os, "sched_setaffinity"):  # Linux; processes started from here stay on that core, too
        args.allowed = allowed = sorted(os.sched_getaffinity(0))
        core = max(allowed) if args.core is None else args.core
        if core not in allowed:
            made.error(f"--core must be one of {', '.join(map(str, allowed))}, got {core}")
        os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    # The first of torch's own optimisers in a process loads its compiler, some seconds which no side should pay for.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    return args


def alternate(
    sides: Mapping[str, Callable[[], T]], rounds: int, say: Callable[[T], str], done: int = 0
) -> dict[str, list[T]]:
    """What each side gave in each round.

    Every second round goes through the sides backwards, so that a machine that grows slower or quicker
    favours none; `done` rounds went before. `say` makes of a result what is printed at once.
    """
    found: dict[str, list[T]] = {name: [] for name in sides}
    for n in range(rounds):
        for name in list(sides)[:: 1 if (done + n) % 2 == 0 else -1]:
            result = sides[name]()
            found[name].append(result)
            tell(f"round {n + 1} of {rounds}: {name}: {say(result)}")
    return found


def tell(line: str) -> None:
    """Progress, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of log y over log x by least squares: b where y = a x^b.

    Raises:
        ValueError: fewer than two different x, or a value that is not above 0.
    """
    if len(set(x)) < 2 or min(*x, *y) <= 0:
        raise ValueError(f"an exponent needs two different x, and values above 0, got {x} and {y}")
    return statistics.linear_regression([math.log(v) for v in x], [math.log(v) for v in y]).slope


def product_speed(size: int = 2048, repeats: int = 5) -> float:
    """FLOP a second of the quickest of some products of two float32 matrices of size x size."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, versions, day."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.M) if info.exists() else None
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return {
        "processor": named[1] if named else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "bound_to": allowed,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "versions": versions(),
        "day": time.strftime("%Y-%m-%d"),
    }


def setting(m: Mapping[str, Any]) -> str:
    """The machine in one line of a page."""
    found, bound = m["versions"], len(m["bound_to"]) or m["cores"]
    threads = "1 thread" if m["threads"] == 1 else f"{m['threads']} threads"
    return (
        f"{m['processor']}, {bound} of {m['cores']} cores, {threads}; "
        f"torch {found['torch']}, Python {found['python']}, retain {found['retain']}; {m['day']}"
    )


def written(path: Path, options: Mapping[str, object]) -> dict[str, Any]:
    """What an earlier call wrote, to which rounds may be added; empty: nothing.

    Raises:
        ValueError: it is of another machine, of other versions, or had other options.
    """
    if not path.exists():
        return {}
    whole, here = json.loads(path.read_text()), machine()
    theirs = {**whole["machine"], **{f"--{k}": whole["options"].get(k) for k in options}}
    ours = {k: here[k] for k in ("processor", "versions")} | {f"--{k}": v for k, v in options.items()}
    for what, value in ours.items():
        if theirs[what] != value:
            raise ValueError(
                f"{path} was measured with {what} {theirs[what]}, this is {value}: give another --out"
            )
    return dict(whole)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def publish(
    name: str, args: argparse.Namespace, data: Mapping[str, Any], table: str, chart: Any, note: str
) -> None:
    """Write name.json, name.md and name.png, print the table, and with --docs bring the page up to date."""
    here = machine()
    whole = {"name": name, "machine": here, "options": vars(args), **data}
    text = f"{table}\n\n{note} {setting(here)}.\n"
    image = png(chart)
    args.out.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out / f"{name}.json", json.dumps(whole, indent=1, default=plain).encode())
    write_atomically(args.out / f"{name}.md", text.encode())
    write_atomically(args.out / f"{name}.png", image)
    if args.docs:
        write_atomically(IMAGES / f"speed-{name}.png", image)
        part = f"{text}\n![{name}](img/speed-{name}.png)\n"
        write_atomically(PAGE, replaced(PAGE.read_text(encoding="utf-8"), name, part).encode())
    print(f"\n{text}\nwritten: {args.out / name}.json, .md, .png{', docs/speed.md' if args.docs else ''}")


def plain(value: object) -> object:
    """What JSON has no word for: a record as a dictionary, a path as a text."""
    is_record = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if is_record else str(value)


def replaced(page: str, name: str, part: str) -> str:
    """The page with what lies between `<!-- name -->` and `<!-- /name -->` exchanged for `part`.

    Raises:
        ValueError: the page has no such place.
    """
    head, opened, rest = page.partition(f"<!-- {name} -->\n")
    _, closed, tail = rest.partition(f"<!-- /{name} -->")
    if not opened or not closed:
        raise ValueError(f"the page has no place for {name}: <!-- {name} --> and <!-- /{name} -->")
    return f"{head}{opened}\n{part.strip()}\n\n{closed}{tail}"


def png(chart: Any) -> bytes:
    """An altair chart in the house's look, drawn as the reports' figures are."""
    spec = figures.spec(chart)
    spec["config"] = {**spec["config"], "background": "#ffffff", "padding": 14}
    image: bytes = vl_convert.vegalite_to_png(spec, vl_version=figures.VL_VERSION, scale=2)
    return image
