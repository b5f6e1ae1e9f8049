"""`retain evaluate`, `predict`, `history`, `diff`, `verify`: what a vault knows, and what it went through."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from retain.cli.errors import FAILED
from retain.cli.flags import Group
from retain.cli.output import console
from retain.cli.vault.common import number, opened, say, told
from retain.files import write_atomically
from retain.vault import Predictions
from retain.vault.report import difference, difference_text, history_table
from retain.vault.verify import text as problems

EVALUATE = """\
usage: retain evaluate PATH [DATA] [flags]

Accuracy of the served version (where numbers are predicted: its mean loss) on the guards of every
update, or on data with labels.

examples:
  retain evaluate shop
  retain evaluate shop test.csv --version 3"""

PREDICT = """\
usage: retain predict PATH DATA [flags]

Predicts with the served version, and writes a CSV: a row an example, with its name, the class and
its calibrated probability.

examples:
  retain predict shop photos/new --out predictions.csv
  retain predict shop april.csv --task march"""

HISTORY = """\
usage: retain history PATH

Every event of a vault: updates, served or refused, promotions, rollbacks, what was forgotten.

example:
  retain history shop"""

DIFF = """\
usage: retain diff PATH V1 V2

Two versions side by side: data, settings, accuracy on every guard and class.

example:
  retain diff shop 3 4"""

VERIFY = """\
usage: retain verify PATH

Checks every file against its checksum; names what is damaged, lost or left over.

example:
  retain verify shop

exit codes: 0 all is well, 1 something is not"""


@dataclass(frozen=True)
class Version:
    """Which version."""

    version: int | None = None  # its number; none: the one that is served


@dataclass(frozen=True)
class Asked:
    """What is predicted, and where it goes."""

    out: str | None = None  # the file; none: it is printed
    version: int | None = None  # its number; none: the one that is served
    task: str | None = None  # the update that the examples are like, in a vault that is told


def evaluate(args: list[str]) -> int:
    """Measure."""
    found = told("evaluate", args, ("PATH", "[DATA]"), [Group("version", Version, {})], EVALUATE)
    if found is None:
        return 0
    (path, *source), flags = found
    vault = opened(path)
    scores = vault.evaluate(source[0] if source else None, flags["version"]["version"])
    shown = f"{{:{max(map(len, scores), default=0)}}}  {{}}"
    unit = vault.plan.target == "class"
    lines = [shown.format(k, f"{100 * v:.1f} %" if unit else f"loss {v:.4g}") for k, v in scores.items()]
    say(scores, "\n".join(lines))
    return 0


def predict(args: list[str]) -> int:
    """Predict."""
    found = told("predict", args, ("PATH", "DATA"), [Group("prediction", Asked, {})], PREDICT)
    if found is None:
        return 0
    (path, source), flags = found
    o = Asked(**flags["prediction"])
    vault = opened(path)
    table = _csv(vault.predict(source, o.version, o.task), vault.plan.target)
    if o.out is None:
        print(table, end="")
    else:
        write_atomically(Path(o.out), table.encode())
        say({"out": o.out}, f"written: {o.out}")
    return 0


def _csv(p: Predictions, target: str) -> str:
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    if target == "class":
        rows.writerow(["example", "class", "probability"])
        best = p.probabilities.max(1).values.tolist() if p.where else []
        rows.writerows(zip(p.where, p.labels, (f"{b:.6g}" for b in best), strict=True))
    else:
        rows.writerow(["example", *p.classes])
        values = p.probabilities.tolist()
        rows.writerows([w, *(f"{v:.9g}" for v in row)] for w, row in zip(p.where, values, strict=True))
    return out.getvalue()


def history(args: list[str]) -> int:
    """What happened."""
    found = told("history", args, ("PATH",), [], HISTORY)
    if found is None:
        return 0
    vault = opened(found[0][0])
    events = vault.history()
    terminal = console()
    with terminal.capture() as shown:
        terminal.print(history_table(events, vault.served))
    say(events, shown.get().rstrip())
    return 0


def diff(args: list[str]) -> int:
    """Two versions."""
    found = told("diff", args, ("PATH", "V1", "V2"), [], DIFF)
    if found is None:
        return 0
    path, *words = found[0]
    vault = opened(path)
    one, two = (vault.record(number(w)) for w in words)
    apart = difference(one, two)
    say(apart, difference_text(apart))
    return 0


def verify(args: list[str]) -> int:
    """Check the files."""
    found = told("verify", args, ("PATH",), [], VERIFY)
    if found is None:
        return 0
    wrong = opened(found[0][0]).verify()
    say([p._asdict() for p in wrong], problems(wrong))
    return FAILED if wrong else 0
