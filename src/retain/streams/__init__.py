"""What arrives: streams of tasks, the builders of the literature's, and the data they are made of."""

from retain.streams.builders import BUILDERS, OPTIONS, build, noisy_clean, permuted, rotated, split
from retain.streams.sources import DataNotFound, load
from retain.streams.stream import Stream

__all__ = [
    "BUILDERS",
    "OPTIONS",
    "DataNotFound",
    "Stream",
    "build",
    "load",
    "noisy_clean",
    "permuted",
    "rotated",
    "split",
]
