"""How often the gate of a vault lets a candidate pass that is as good, or worse: its error rates by simulation.

    python benchmarks/gate.py [--trials 2000] [--seed 0] [--out out/bench]

In each trial a served version and a candidate are drawn on four guards: a share of the examples (the
discordance) changes from right to wrong or back, as often one as the other, but on the first guard
losses are more frequent by what the candidate is worse there. The new data are better. The gate judges
each pair with all that it does in an update. Promises: with guards of 1,000, 4 % discordance and a
margin of 3 points an equal candidate passes in at least 95 % of the cases, and one that is 3 points
worse on one guard in at most 5 %; with guards of 5,000 and 1 point an equal one in at least 80 %. The
interval is Clopper and Pearson's, at 95 %. Writes gate.md and gate.json; exit code 1 if a promise is
broken by more than the interval allows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest

from retain.files import write_atomically
from retain.vault import noninferiority as ni
from retain.vault.gate import Compared, Gate, judge

GUARDS = 4
ACCURACY = 0.9  # of the served version
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    n: int  # examples in each guard
    margin: float | None  # of the gate; None: the default
    worse: float  # of the first guard's examples, lost in truth
    discordance: float = 0.04
    least: float | None = None  # promised: passes at least so often
    most: float | None = None


DEFAULT = ni.resolvable((1000,) * GUARDS, 0.05, 0.8, 0.04)
CASES = (
    Case(1000, 0.03, 0.0, least=0.95),
    Case(1000, 0.03, 0.03, most=0.05),
    Case(5000, 0.01, 0.0, least=0.80),
    Case(5000, 0.01, 0.01, most=0.05),
    Case(1000, None, 0.0, least=0.80),
    Case(1000, None, DEFAULT, most=0.05),
    Case(1000, 0.03, 0.03, discordance=0.10, most=0.05),
    Case(1000, 0.03, 0.0, discordance=0.10),
    Case(1000, 0.03, 0.015),
)


def compared(name: str, n: int, losses: int, gains: int) -> Compared:
    served = torch.arange(n) < int(ACCURACY * n)
    candidate = served.clone()
    candidate[:losses] = False
    candidate[n - gains :] = True
    return Compared(name, served, candidate)


def simulate(case: Case, trials: int, seed: int) -> int:
    """How many of the trials the gate lets pass."""
    rng = np.random.default_rng(seed)
    half = case.discordance / 2
    draws = []
    for worse in (case.worse, *[0.0] * (GUARDS - 1)):
        b, c = half + worse / 2, half - worse / 2
        draws.append(rng.multinomial(case.n, [b, c, 1 - b - c], size=trials)[:, :2])
    new = compared("new", 500, 0, 50)
    gate, passed = Gate(margin=case.margin), 0
    for trial in np.stack(draws, 1).tolist():
        old = [compared(f"guard {i}", case.n, b, c) for i, (b, c) in enumerate(trial)]
        passed += judge(old, new, gate).passed
    return passed


def row(case: Case, passed: int, trials: int) -> dict[str, object]:
    """The figures of a case, and whether a promise is kept."""
    interval = binomtest(passed, trials).proportion_ci(0.95, "exact")
    kept = (case.least is None or interval.high >= case.least) and (
        case.most is None or interval.low <= case.most
    )
    margin = case.margin or DEFAULT
    equal, worse = (ni.power_of(case.n, margin, 0.05, case.discordance, by) for by in (0.0, case.worse))
    counted = worse * equal ** (GUARDS - 1)
    return {**asdict(case), "margin_used": margin, "trials": trials, "promoted": passed / trials,
            "low": interval.low, "high": interval.high, "counted": counted, "kept": kept}  # fmt: skip


def cells(r: dict[str, object]) -> str:
    def percent(key: str) -> str:
        value = r[key]
        return f"{100 * value:.1f} %" if isinstance(value, float) else ""

    promise = (
        f"at least {percent('least')}" if r["least"] else f"at most {percent('most')}" if r["most"] else ""
    )
    margin = percent("margin_used") + (" (default)" if r["margin"] is None else "")
    worse = percent("worse") if r["worse"] else "equal"
    between = f"{percent('low')} - {percent('high')}"
    found = [
        f"{r['n']:,}",
        percent("discordance"),
        margin,
        worse,
        percent("promoted"),
        between,
        percent("counted"),
    ]
    return f"| {' | '.join([*found, promise, 'yes' if r['kept'] else 'NO'])} |"


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--trials", type=int, default=2000, help="of each case (2000)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", type=Path, default=ROOT / "out/bench", help="folder for the files (out/bench)")
    args = made.parse_args()
    if args.trials < 1:
        made.error(f"--trials must be >= 1, got {args.trials}")
    head = ("n a guard", "discordance", "margin", "worse by", "promoted", "interval", "every table counted",
            "promised", "kept")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    print("\n".join(lines))
    rows = []
    for i, case in enumerate(CASES):
        began = time.perf_counter()
        rows.append(row(case, simulate(case, args.trials, args.seed + i), args.trials))
        rows[-1]["seconds"] = round(time.perf_counter() - began, 1)
        lines.append(cells(rows[-1]))
        print(lines[-1], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out / "gate.md", ("\n".join(lines) + "\n").encode())
    write_atomically(args.out / "gate.json", json.dumps({"seed": args.seed, "rows": rows}, indent=1).encode())
    print(f"\nwritten: {args.out / 'gate'}.md, .json")
    return 0 if all(r["kept"] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
