"""On a GPU, where there is one: the same learning as on the CPU, and no step that waits for the device.

pytest tests/gpu
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.laws.toy import METHODS
from torch.profiler import ProfilerActivity, profile

from retain.experiment import Experiment, Settings
from retain.methods import discover

if not torch.cuda.is_available():
    pytest.skip("no GPU here", allow_module_level=True)

SHORT = Settings(tasks=2, samples=1280, test_samples=500, hidden=(64, 64), curve_every=0)
FREE = ("naive", "l2", "ewc", "si", "replay", "der")  # no step waits for the device
SYNCS = {"aten::_local_scalar_dense", "cudaStreamSynchronize", "cudaDeviceSynchronize"}


@pytest.mark.parametrize("name", sorted(discover()))
def test_it_learns_the_same_as_on_the_cpu(name: str) -> None:
    method: Any = METHODS[name]
    found = [Experiment("permuted", method, replace(SHORT, device=d)).run().acc for d in ("cpu", "cuda")]
    assert found[0] == pytest.approx(found[1], abs=0.03)


@pytest.mark.parametrize(("name", "most"), [*((n, 0) for n in FREE), ("gem", 1)])
def test_no_step_waits_for_the_device(name: str, most: int) -> None:
    e = Experiment("permuted", discover()[name](), replace(SHORT, device="cuda"))
    stream = e.build_stream()
    learner = e.build_learner(stream)
    learner.follow(stream)
    for task in stream:
        learner.begin_task(task, 10)
        data = task.train.to(learner.device)
        portions = list(e.settings.order.indices(len(data), 0, task.index, device=learner.device))[:10]
        for index in portions[:5]:
            learner.observe(*data.batch(index))
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as watched:
            for index in portions[5:]:
                learner.observe(*data.batch(index))
        waits = [event.name for event in watched.events() if event.name in SYNCS]
        assert len(waits) <= most * 5 + 1, waits  # the profiler itself waits once, at its end
        learner.end_task()
