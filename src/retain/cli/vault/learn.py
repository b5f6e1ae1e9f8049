"""`retain learn`, `retain watch`: one update, and the look at its data before."""

from __future__ import annotations

import math
import shlex
import sys
from dataclasses import dataclass
from typing import Any

from retain.cli.errors import Failed, Stopped
from retain.cli.flags import Group
from retain.cli.notes import notes
from retain.cli.stop import Stop, deafen
from retain.cli.vault.common import DRIFTED, REFUSED, aside, opened, progress, say, told
from retain.divergence import Diverged
from retain.methods import discover
from retain.run import Interrupted
from retain.vault import Plan
from retain.vault.report import text
from retain.vault.train import trained_on

FEW = 50  # steps of an update, below which little can have been learned

LEARN = """\
usage: retain learn PATH DATA [flags]

One update: a candidate is trained from the version that is served, judged on the guards of every
earlier update, and served if it is better on the new data, no guard loses more than its margin,
and the labels do not contradict what is served. Otherwise it stays a candidate, the vault serves
what it served, and the exit code is 3.

DATA: a folder of images with a subfolder a class, .csv, .tsv, .parquet, .npz, .safetensors, or a
folder that Hugging Face datasets saved.

examples:
  retain learn shop photos/march
  retain learn shop sales.csv --name march
  retain learn shop march.npz --guard holdout.npz --guard-stays

exit codes: 0 served, 3 refused by the gate, 2 wrong use or data, 130 stopped (the same command
goes on)"""

WATCH = """\
usage: retain watch PATH DATA

Compares data with what the served version knows, and changes nothing: features, labels, unseen
classes and categories.

example:
  retain watch shop photos/april || echo "something has changed"

exit codes: 0 like what is known, 4 drifted, 2 wrong use or data"""


@dataclass(frozen=True)
class Options:
    """Of one update."""

    name: str | None = None  # of the update; none: update-1, update-2, ...
    guard: str | None = None  # a held-out set of your own; none: it is held out of the data
    guard_stays: bool = False  # leave the guard set where it is, and refer to it by its checksum
    force: bool = False  # serve the candidate also if the gate refuses it; that is recorded
    scratch: bool = False  # train from scratch on the data of all updates, too, and compare
    quiet: bool = False  # show no progress


def learn(args: list[str]) -> int:
    """Update a model."""
    found = told("learn", args, ("PATH", "DATA"), [Group("update", Options, {}, pairs=False)], LEARN)
    if found is None:
        return 0
    (path, source), flags = found
    o = Options(**flags["update"])
    vault = opened(path)
    try:
        with Stop() as stop, notes(o.quiet), progress(o.quiet) as tell:
            done = vault.learn(
                source, o.name, guard=o.guard, guard_stays=o.guard_stays, force=o.force, scratch=o.scratch,
                progress=tell, stop=stop,
            )  # fmt: skip
    except Diverged as e:
        raise Failed(str(e)) from e
    except (Interrupted, KeyboardInterrupt) as e:
        deafen()
        again = shlex.join(["retain", "learn", *args])
        raise Stopped(
            f"{str(e) or 'stopped'}; what is served has not changed; go on with:\n  {again}"
        ) from None
    say(done.record, text(done.record))
    if not sys.stdout.isatty() and not o.quiet:
        aside(text(done.record))
    aside(f"retain: report: {vault.report_path(done.version)}")
    if not done.promoted:
        for way in ways_on(path, done.record, vault.plan):
            print(f"retain: {way}", file=sys.stderr)
    return 0 if done.promoted else REFUSED


def ways_on(path: str, record: dict[str, Any], plan: Plan) -> list[str]:
    """What can be done where the gate refused an update."""
    version, name = record["version"], shlex.quote(path)
    said = [
        f"to serve version {version} all the same: retain promote {name} {version}; the next retain learn goes on "
        "from what is served"
    ]
    n, kind = trained_on(record["data"]["trained_on"], plan), discover().get(record["method"]["name"])
    steps = record["cost"]["epochs"] * plan.order(n).per_epoch(n)
    if steps < FEW and not (kind and kind.traits.closed_form):
        more = plan.epochs * math.ceil(FEW / max(steps, 1))
        said.append(
            f"training took {steps} steps alone: a vault made with --epochs {more} (retain init) would learn more "
            "from as few examples"
        )
    return said


def watch(args: list[str]) -> int:
    """Compare data with what is known."""
    found = told("watch", args, ("PATH", "DATA"), [], WATCH)
    if found is None:
        return 0
    (path, source), _ = found
    seen = opened(path).watch(source)
    lines = [*seen["findings"], *(f"{t['name']}: p = {t['p']:.3g}" for t in seen["tests"])]
    head = "the data have drifted" if seen["drifted"] else "the data are like what is known"
    say(seen, "\n".join([head, *(f"  {line}" for line in lines)]))
    return DRIFTED if seen["drifted"] else 0
