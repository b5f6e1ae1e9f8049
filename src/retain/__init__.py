"""Networks that learn task after task and keep what they knew."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retain.combine import chain
    from retain.divergence import Diverged
    from retain.examples import Examples
    from retain.learner import Learner
    from retain.method import GradientMethod, Method
    from retain.methods.ewc import EWC
    from retain.methods.gem import GEM
    from retain.methods.generative_replay import GenerativeReplay
    from retain.methods.joint import Joint
    from retain.methods.l2 import L2
    from retain.methods.naive import Naive
    from retain.methods.replay import Replay
    from retain.optim import Optim
    from retain.order import Order, batches
    from retain.result import Result
    from retain.run import Interrupted, Progress, run
    from retain.streams import Stream
    from retain.types import Batch, Problem, Step, Task

__all__ = [
    "EWC", "GEM", "L2", "Batch", "Diverged", "Examples", "GenerativeReplay", "GradientMethod", "Interrupted",
    "Joint", "Learner", "Method", "Naive", "Optim", "Order", "Problem", "Progress", "Replay", "Result",
    "Step", "Stream", "Task", "batches", "chain", "run",
]  # fmt: skip

# Names are fetched when they are first asked for, so that `retain --help` need not wait for torch.
_HOME = {
    "combine": ["chain"],
    "divergence": ["Diverged"],
    "examples": ["Examples"],
    "learner": ["Learner"],
    "method": ["GradientMethod", "Method"],
    "methods.ewc": ["EWC"],
    "methods.gem": ["GEM"],
    "methods.generative_replay": ["GenerativeReplay"],
    "methods.joint": ["Joint"],
    "methods.l2": ["L2"],
    "methods.naive": ["Naive"],
    "methods.replay": ["Replay"],
    "optim": ["Optim"],
    "order": ["Order", "batches"],
    "result": ["Result"],
    "run": ["Interrupted", "Progress", "run"],
    "streams": ["Stream"],
    "types": ["Batch", "Problem", "Step", "Task"],
}
_WHERE = {name: home for home, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'retain' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"retain.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Python puts each submodule it imports here by its name; `retain.run` stays the function."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value.run if name == "run" and isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Package
