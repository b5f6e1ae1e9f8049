"""A memory in a file beside one in RAM, as it fills: what an insertion and a draw cost, and what is resident.

    python benchmarks/store.py
    python benchmarks/store.py --sizes 1000,100000
    python benchmarks/store.py --quick

Images of MNIST's size, 784 bytes each, inserted 128 at a time and drawn 128 at a time, uniformly; bytes in the
file, float32 in RAM (as a run holds them there). The file is as large as it becomes, 8 GB at ten million, and lies
in --folder, which is emptied; draws are timed once what they read is in the page cache. Resident is what the
process holds beyond what it held before the memory was made.
"""

from __future__ import annotations

import gc
import shutil
import statistics
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
import torch

from measure import Spread, alternate, exponent, markdown, medians, parser, publish, ready
from retain.memory import Mapped, Slots
from retain.types import Batch

SIZES = "1000,10000,100000,1000000,10000000"
RAM = 100_000  # beyond, the memory in RAM is left out: 3 GB a million
N, DRAWS, ROW = 128, 300, 800  # of a batch; draws timed; bytes of a row in the file
Memory = Slots | Mapped


@dataclass(frozen=True)
class Timed:
    """Microseconds of one example's insertion and of one draw; megabytes resident, the file's pages left out."""

    insert: float
    draw: float
    megabytes: float


def resident() -> float:
    """Megabytes of this process that are its own, not a file's or shared."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def example_batch() -> Batch:
    bytes_ = torch.randint(256, (N, 784), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Batch(torch.div(bytes_, 255), torch.arange(N) % 10, torch.zeros(N, dtype=torch.int64))


def fill_and_draw(where: str, size: int, folder: Path) -> Timed:
    shutil.rmtree(folder, ignore_errors=True)
    gc.collect()
    before, batch = resident(), example_batch()
    memory: Memory = (
        Slots.like(batch, size) if where == "RAM" else Mapped.like(batch, size * ROW, folder, (0.0, 1.0))
    )
    start = time.perf_counter()
    for first in range(0, size, N):
        n = min(N, size - first)
        memory = memory.put(list(range(first, first + n)), batch, list(range(n)))
    insert = (time.perf_counter() - start) / size
    rng = torch.Generator().manual_seed(1)
    for _ in range(DRAWS):  # once, so that what it reads is cached
        memory.draw(N, rng)
    seconds = []
    for _ in range(DRAWS):
        start = time.perf_counter()
        memory.draw(N, rng)
        seconds.append(time.perf_counter() - start)
    found = Timed(1e6 * insert, 1e6 * statistics.median(seconds), resident() - before)
    if isinstance(memory, Mapped):
        memory._close()
    shutil.rmtree(folder, ignore_errors=True)
    return found


def said(t: Timed) -> str:
    return f"insert {t.insert:.1f} us, draw {t.draw:.0f} us, {t.megabytes:.0f} MB resident"


def figures_of(timed: list[Timed]) -> dict[str, Spread]:
    return {of: Spread.of([getattr(t, of) for t in timed]) for of in ("insert", "draw", "megabytes")}


def chart(found: dict[str, dict[int, Any]]) -> Any:
    points = [
        {"memory": where, "examples": size, "what": what, "us": f[of].median}
        for where, sizes in found.items()
        for size, f in sizes.items()
        for of, what in (("insert", "insertion of one"), ("draw", "draw of 128"))
    ]
    base = alt.Chart(alt.InlineData(values=points)).mark_line(point=True)
    log = alt.Scale(type="log")
    lines = base.encode(
        x=alt.X("examples:Q", scale=log), y=alt.Y("us:Q", scale=log, title="microseconds"),
        color=alt.Color("memory:N", title=None),
    ).properties(width=300, height=220)  # fmt: skip
    return lines.facet(column=alt.Column("what:N", title=None))


def main() -> None:
    made = parser(__doc__, rounds=3)
    made.add_argument("--sizes", default=SIZES, help=f"examples, with commas ({SIZES})")
    made.add_argument("--folder", type=Path, default=Path("out/bench-store"), help="of the file; not in RAM")
    args = ready(made)
    sizes = [1000, 3000] if args.quick else [int(s) for s in args.sizes.split(",")]
    if len(set(sizes)) < 2:
        made.error(f"--sizes must be two or more, through which exponents are fitted; got {args.sizes}")
    sides = {
        f"{where} {size}": partial(fill_and_draw, where, size, args.folder)
        for size in sizes
        for where in ("RAM", "file")
        if where == "file" or size <= RAM
    }
    timed = alternate(sides, args.rounds, said)
    found: dict[str, dict[int, Any]] = {"RAM": {}, "file": {}}
    for name, each in timed.items():
        where, size = name.split()
        found[where][int(size)] = figures_of(each)
    rows = [
        [f"{size:,}", where, f["insert"].text(".1f"), f["draw"].text(".0f"), f["megabytes"].text(".0f")]
        for where, of_size in found.items()
        for size, f in of_size.items()
    ]
    head = ("examples", "memory", "insertion of one, us", "draw of 128, us", "resident, MB")
    slopes = {
        of: exponent(list(found["file"]), [f[of].median for f in found["file"].values()])
        for of in ("insert", "draw")
    }
    said_of = ", ".join(f"{of} {slope:+.3f}" for of, slope in slopes.items())
    note = f"{medians(args.rounds)}. Exponents of the file: {said_of}."
    publish("store", args, {"memories": found, "exponents": slopes}, markdown(head, rows), chart(found), note)


if __name__ == "__main__":
    main()
