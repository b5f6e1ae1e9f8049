"""Networks that learn task after task and keep what they knew."""

from retain.divergence import Diverged
from retain.examples import Examples
from retain.learner import Learner
from retain.method import GradientMethod, Method, chain
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
    "Joint", "Learner", "Method", "Naive", "Optim", "Order", "Problem", "Progress", "Replay", "Result", "Step",
    "Stream", "Task", "batches", "chain", "run",
]  # fmt: skip
