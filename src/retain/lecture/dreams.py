"""(e) Digits that a generator gives after 1, 2, ... tasks, when each is learned from its own dreams of the past."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.lecture.setting import Setting
from retain.methods.generative_replay import GenerativeReplay
from retain.methods.naive import Naive
from retain.result import Result
from retain.run import Progress

METHOD = GenerativeReplay(labels="soft", generator_hidden=(200,), latent=12, generator_lr=3e-3)


@dataclass(frozen=True, eq=False)
class Dreams:
    """What generative replay and plain training leave, two digits a task, no example of the past kept."""

    replay: Result
    sgd: Result
    images: tuple[NDArray[np.uint8], ...]  # after each task: [n, height, width]


def dreams(setting: Setting, tell: Callable[[], None] = lambda: None) -> Dreams:
    """Run both; `tell` is called as a task is learned."""
    task = 0

    def progress(p: Progress) -> None:
        nonlocal task
        if p.task > task:
            task = p.task
            tell()

    replay = setting.split(METHOD).run(progress=progress)
    tell()
    sgd = setting.split(Naive()).run()
    tell()
    records = [r["samples"] for r in replay.diagnostics["records"] if "samples" in r]
    return Dreams(replay, sgd, tuple(_images(r) for r in records))


def _images(samples: dict[str, Any]) -> NDArray[np.uint8]:
    """What a result keeps of the generator's images, in grey."""
    pixels = np.frombuffer(base64.b64decode(samples["uint8"]), np.uint8).reshape(samples["shape"])
    return pixels[:, 0]
