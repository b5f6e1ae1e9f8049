"""Many updates of one vault: seconds and bytes an update, from the first to the last.

    python benchmarks/updates.py
    python benchmarks/updates.py --updates 50

Tables of 250 rows with two classes that the months share, as a small shop has them; an MLP, replay of 200 examples,
guards of 50 that share 20 KB. The gate of the last update tests every guard before it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import retain


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--updates", type=int, default=200)
    args = made.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        vault = retain.init(
            Path(folder) / "v",
            "mlp:32",
            retain.Replay(memory=200),
            epochs=2,
            batch_size=128,
            guard_bytes="20KB",
            keep=3,
            margin=20.0,
        )
        seconds, states, histories = [], [], []
        for k in range(args.updates):
            x = rng.normal(size=(250, 8)).astype(np.float32)
            y = np.where(x[:, 0] + 0.3 * rng.normal(size=250) > 0, "yes", "no")
            began = time.perf_counter()
            vault.learn((x, list(y)), f"month-{k + 1}", force=True)
            seconds.append(time.perf_counter() - began)
            states.append(size(vault.path / "versions") + size(vault.path / "blobs"))
            histories.append(size(vault.path / "history"))
            if (k + 1) % 20 == 0:
                last = statistics.median(seconds[-20:])
                print(f"update {k + 1}: {last:.3f} s (median of 20), versions {states[-1] / 1e3:.0f} KB, "
                      f"history {histories[-1] / (k + 1) / 1e3:.1f} KB an update, kept {vault.store.versions()}",
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
