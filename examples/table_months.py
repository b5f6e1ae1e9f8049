"""scikit-learn's handwritten digits as a table that arrives month by month: months/1.csv, 2.csv, 3.csv and test.csv.

    python examples/table_months.py out/months

Each row is 64 grey values, the scanner that it is from, and the digit. The second month brings digits that were
never seen, the third a new scanner and values that are missing. docs/vault.md teaches them to a vault.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

MONTHS = ((0, 1, 2, 3, 4), (0, 2, 5, 6, 7), (1, 5, 8, 9))  # digits that occur
SCANNERS = (("north", "south"), ("north", "south"), ("south", "west"))


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    made.add_argument("out", type=Path)
    out = made.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    month = rng.integers(-1, 3, len(y))  # -1: the test
    for m, (digits, scanners) in enumerate(zip(MONTHS, SCANNERS, strict=True)):
        rows = np.flatnonzero((month == m) & np.isin(y, digits))
        write(out / f"{m + 1}.csv", x[rows], y[rows], scanners, missing=0.01 if m == 2 else 0.0)
    rows = np.flatnonzero(month == -1)
    write(out / "test.csv", x[rows], y[rows], ("north", "south"), missing=0.0)
    print(out)


def write(path: Path, x: np.ndarray, y: np.ndarray, scanners: tuple[str, ...], missing: float) -> None:
    rng = np.random.default_rng(len(y))
    with path.open("w", newline="", encoding="utf-8") as f:
        rows = csv.writer(f)
        rows.writerow([*(f"pixel {i}" for i in range(x.shape[1])), "scanner", "digit"])
        for values, label in zip(x, y, strict=True):
            cells = ["" if rng.random() < missing else f"{v:g}" for v in values]
            rows.writerow([*cells, scanners[rng.integers(len(scanners))], int(label)])


if __name__ == "__main__":
    main()
