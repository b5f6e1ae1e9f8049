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
    from retain.integrations.attach import attach
    from retain.learner import Learner
    from retain.method import GradientMethod, Method
    from retain.methods.agem import AGEM
    from retain.methods.bir import BIR
    from retain.methods.der import DER
    from retain.methods.der_pp import DERpp
    from retain.methods.er_ace import ERACE
    from retain.methods.ewc import EWC
    from retain.methods.gdumb import GDumb
    from retain.methods.gem import GEM
    from retain.methods.generative_classifier import GenerativeClassifier
    from retain.methods.generative_replay import GenerativeReplay
    from retain.methods.gpm import GPM
    from retain.methods.gss import GSS
    from retain.methods.hat import HAT
    from retain.methods.icarl import ICaRL
    from retain.methods.joint import Joint
    from retain.methods.kfac_laplace import KFACLaplace
    from retain.methods.l2 import L2
    from retain.methods.lwf import LwF
    from retain.methods.mas import MAS
    from retain.methods.mir import MIR
    from retain.methods.naive import Naive
    from retain.methods.ncl import NCL
    from retain.methods.ncm import NCM
    from retain.methods.owm import OWM
    from retain.methods.packnet import PackNet
    from retain.methods.progressive import Progressive
    from retain.methods.randumb import RanDumb
    from retain.methods.ranpac import RanPAC
    from retain.methods.replay import Replay
    from retain.methods.replay_through_feedback import ReplayThroughFeedback
    from retain.methods.rwalk import RWalk
    from retain.methods.separate import Separate
    from retain.methods.si import SI
    from retain.methods.slda import SLDA
    from retain.methods.vcl import VCL
    from retain.methods.xdg import XdG
    from retain.optim import Optim
    from retain.order import Order, batches
    from retain.result import Result
    from retain.run import Interrupted, Progress, run
    from retain.streams import Stream
    from retain.types import Batch, Problem, Step, Task
    from retain.vault import Vault, init, open

__all__ = [
    "AGEM",
    "BIR",
    "DER",
    "ERACE",
    "EWC",
    "GEM",
    "GPM",
    "GSS",
    "HAT",
    "L2",
    "MAS",
    "MIR",
    "NCL",
    "NCM",
    "OWM",
    "SI",
    "SLDA",
    "VCL",
    "Batch",
    "DERpp",
    "Diverged",
    "Examples",
    "GDumb",
    "GenerativeClassifier",
    "GenerativeReplay",
    "GradientMethod",
    "ICaRL",
    "Interrupted",
    "Joint",
    "KFACLaplace",
    "Learner",
    "LwF",
    "Method",
    "Naive",
    "Optim",
    "Order",
    "PackNet",
    "Problem",
    "Progress",
    "Progressive",
    "RWalk",
    "RanDumb",
    "RanPAC",
    "Replay",
    "ReplayThroughFeedback",
    "Result",
    "Separate",
    "Step",
    "Stream",
    "Task",
    "Vault",
    "XdG",
    "attach",
    "batches",
    "chain",
    "init",
    "open",
    "run",
]

# Names are fetched when they are first asked for, so that `retain --help` need not wait for torch.
_HOME = {
    "combine": ["chain"],
    "divergence": ["Diverged"],
    "examples": ["Examples"],
    "integrations.attach": ["attach"],
    "learner": ["Learner"],
    "method": ["GradientMethod", "Method"],
    "methods.agem": ["AGEM"],
    "methods.bir": ["BIR"],
    "methods.der": ["DER"],
    "methods.der_pp": ["DERpp"],
    "methods.er_ace": ["ERACE"],
    "methods.ewc": ["EWC"],
    "methods.gdumb": ["GDumb"],
    "methods.gem": ["GEM"],
    "methods.generative_classifier": ["GenerativeClassifier"],
    "methods.generative_replay": ["GenerativeReplay"],
    "methods.gpm": ["GPM"],
    "methods.gss": ["GSS"],
    "methods.hat": ["HAT"],
    "methods.icarl": ["ICaRL"],
    "methods.joint": ["Joint"],
    "methods.kfac_laplace": ["KFACLaplace"],
    "methods.l2": ["L2"],
    "methods.lwf": ["LwF"],
    "methods.mas": ["MAS"],
    "methods.mir": ["MIR"],
    "methods.naive": ["Naive"],
    "methods.ncl": ["NCL"],
    "methods.ncm": ["NCM"],
    "methods.owm": ["OWM"],
    "methods.packnet": ["PackNet"],
    "methods.progressive": ["Progressive"],
    "methods.randumb": ["RanDumb"],
    "methods.ranpac": ["RanPAC"],
    "methods.replay": ["Replay"],
    "methods.replay_through_feedback": ["ReplayThroughFeedback"],
    "methods.rwalk": ["RWalk"],
    "methods.separate": ["Separate"],
    "methods.si": ["SI"],
    "methods.slda": ["SLDA"],
    "methods.vcl": ["VCL"],
    "methods.xdg": ["XdG"],
    "optim": ["Optim"],
    "order": ["Order", "batches"],
    "result": ["Result"],
    "run": ["Interrupted", "Progress", "run"],
    "streams": ["Stream"],
    "types": ["Batch", "Problem", "Step", "Task"],
    "vault": ["Vault", "init", "open"],
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
