"""Started by torchrun or alone: small MNIST runs of five methods, each written to a folder of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from retain import EWC, GEM, GenerativeReplay, Naive, Replay
from retain.experiment import Experiment, Settings
from retain.method import Method

# 97 examples leave a last batch of 1 (every process does it) and batches that two do not share evenly.
SMALL = Settings(tasks=3, samples=97, test_samples=61, hidden=(20,), batch_size=12, curve_every=3, clip=5.0)
METHODS: dict[str, Method] = {
    "naive": Naive(),
    "ewc": EWC(lam=20, examples=51),
    "ewc-sampled": EWC(lam=20, labels="sampled", proximal=True),
    "gem": GEM(memory_per_task=15),
    "er": Replay(memory=31),
    "er-tasks": Replay(memory=31, select="herding", weighting="tasks", replay_batch=7),
    "generative": GenerativeReplay(generator_hidden=(16,), latent=5),
    "generative-soft": GenerativeReplay(labels="soft", generator_hidden=(16,), latent=5, replay_batch=5),
}


def main(out: Path, names: list[str]) -> None:
    """Run each of the named methods."""
    for name in names:
        Experiment("permuted", METHODS[name], SMALL).run(out / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(METHODS))
