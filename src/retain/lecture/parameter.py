"""(b) One parameter with a small second derivative and one with a large: what moving each does to task 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from retain.curvature import fisher
from retain.examples import Examples
from retain.learner import Learner
from retain.lecture.setting import Setting, accuracy, loss
from retain.lecture.walk import walk
from retain.methods.naive import Naive
from retain.tree import flatten, unflatten
from retain.types import HIDDEN, Batch, Params, Problem

Array = NDArray[np.float64]

MOVES = 41  # places at which a parameter is tried, the middle one where it is
RISE = 2.0  # nats that the sharp parameter's parabola rises at the edge: so far both are moved
SMALL = 0.05  # the flat one is this quantile of its tensor's Fisher entries that are not 0
STEP = 1e-3  # of the finite difference, as a share of the farthest move


@dataclass(frozen=True, eq=False)
class Moved:
    """One parameter of the network after task 1, moved while all others stay."""

    name: str  # of its tensor
    place: int  # in that tensor, end to end
    value: float  # where training left it
    fisher: float  # the lecture's b: the second derivative, by the Fisher
    second: float  # the same, by finite differences of the loss
    moves: Array  # [MOVES]: added to it
    loss: Array  # [MOVES]: task 1's mean loss in nats
    parabola: Array  # [MOVES]: what b alone expects, L + b move^2 / 2
    accuracy: Array  # [MOVES]: on the same examples, in [0, 1]


@dataclass(frozen=True, eq=False)
class TwoParameters:
    """The flat one and the sharp one, both of the same tensor and moved equally far."""

    small: Moved
    large: Moved
    share: float  # of all parameters, those whose Fisher is below a hundredth of the sharp one's


def two_parameters(setting: Setting) -> TwoParameters:
    """Learn task 1, find the two by the Fisher, and move them; all in float64."""
    w = walk(setting, Naive())
    batch = w.tasks[0]._replace(x=w.tasks[0].x.double())
    examples = Examples(batch.x, batch.y)
    learner = Learner(w.model.double(), Naive())
    problem = learner.start(examples)
    names = problem.spec.names
    own = unflatten(w.thetas[w.learned].double(), learner.params, names)
    params = {**learner.params, **own}
    F = fisher(problem, params, examples, HIDDEN, torch.Generator(), "exact", None)
    tensor = max(F, key=lambda k: float(F[k].max()))
    b = F[tensor].flatten()
    sharp = int(b.argmax())
    ranked = b.argsort()[int((b == 0).sum()) :]
    flat = int(ranked[int(SMALL * len(ranked))])
    reach = float((2 * RISE / b[sharp]).sqrt())
    small, large = (_moved(problem, params, batch, tensor, i, float(b[i]), reach) for i in (flat, sharp))
    share = float((flatten(F, names) < b[sharp] / 100).double().mean())
    return TwoParameters(small, large, share)


def _moved(
    problem: Problem, params: Params, batch: Batch, tensor: str, place: int, b: float, reach: float
) -> Moved:
    """One parameter moved up to `reach` to either side."""

    def by(move: float) -> Params:
        there = params[tensor].detach().clone()
        there.view(-1)[place] += move
        return {**params, tensor: there}

    moves, h = np.linspace(-reach, reach, MOVES), STEP * reach
    here = loss(problem, params, batch)
    second = (loss(problem, by(h), batch) - 2 * here + loss(problem, by(-h), batch)) / h**2
    return Moved(
        tensor, place, float(params[tensor].flatten()[place]), b, second, moves,
        np.array([loss(problem, by(m), batch) for m in moves]), here + b * moves**2 / 2,
        np.array([accuracy(problem, by(m), batch) for m in moves]),
    )  # fmt: skip
