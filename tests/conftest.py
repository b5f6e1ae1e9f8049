"""One thread a process, so that parallel test runs share the cores fairly and runs repeat bit for bit."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for child processes

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("retain", deadline=None, derandomize=True, database=None)
settings.load_profile("retain")
