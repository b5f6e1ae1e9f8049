"""One seed for a whole run, and from it as many independent ones as there are purposes.

Whoever draws at random asks for a generator of its own by name. Nothing reads torch's global
generator, so that what one part of a run draws can never change what another part gets.
"""

from __future__ import annotations

import hashlib
import json

import torch


def derive(seed: int, *path: str | int) -> int:
    """A seed in [0, 2**63) for one purpose, the same on every machine and in every process.

    `path` says what for: `derive(seed, "permutation", task)`. "1" and 1 are different steps.

    >>> derive(0, "permutation", 1) == derive(0, "permutation", 1)
    True
    >>> derive(0, "permutation", 1) == derive(0, "permutation", "1")
    False
    """
    text = json.dumps([seed, *path]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *path: str | int) -> torch.Generator:
    """A CPU generator that starts from `derive(seed, *path)`."""
    return torch.Generator().manual_seed(derive(seed, *path))
