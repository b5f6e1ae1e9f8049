"""(d) GEM's g, g_1, g_2 and g' at steps of a real run, in the space that they span."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain import tree
from retain.curvature import group_gradients
from retain.lecture.setting import Setting
from retain.methods.gem import GEM, State
from retain.order import batches
from retain.projection import project
from retain.types import HIDDEN, Batch, Params, Problem

Array = NDArray[np.float64]

MEMORY = 200  # examples kept of each task
SHOWN = 6  # steps of each task that are shown
LOOKED = 60  # equally spaced steps of each task that are looked at


@dataclass(frozen=True, eq=False)
class Turned:
    """What becomes of g under one margin."""

    margin: float
    v: Array  # [k]: the multipliers
    g: Array  # [d]: g' in the same coordinates
    degrees: Array  # [k]: between g' and each g_k
    dots: Array  # [k]: g' . g_k


@dataclass(frozen=True, eq=False)
class Moment:
    """One step of the run with k = 1 or 2 past tasks; vectors in an orthonormal basis of their span.

    The first axis is along g_1, g_2 lies in the plane of the first two, g in all d = k + 1.
    """

    task: int  # being learned, from 1
    step: int  # of that task, from 1
    past: Array  # [k, d]: g_1, g_2
    g: Array  # [d]: the gradient of the current batch
    degrees: Array  # [k]: between g and each g_k
    turned: tuple[Turned, ...]  # one a margin, ascending


@dataclass(frozen=True, eq=False)
class Turns:
    """Moments with one past task, in a plane, and with two, in space; each in the order of their steps."""

    plane: tuple[Moment, ...]
    space: tuple[Moment, ...]
    looked: tuple[int, int]  # steps that were looked at, while learning task 2 and 3
    obtuse: tuple[int, int]  # of them, those where g made an obtuse angle with some g_k


def turns(setting: Setting, tell: Callable[[], None] = lambda: None) -> Turns:
    """Learn A, B, C by GEM, and look at steps of B and C; shown are those whose g has to be turned most."""
    e = setting.permuted(GEM(memory_per_task=MEMORY, margin=0, choice="random"), tasks=3)
    stream = e.build_stream()
    learner = e.build_learner(stream)
    learner.follow(stream)
    problem = learner.start(stream[0].train)
    seen: list[list[Moment]] = []
    for number, task in enumerate(stream, 1):
        steps = e.settings.order.steps(len(task.train))
        every = max(1, steps // LOOKED)
        learner.begin_task(task, steps)
        seen.append([])
        for i, (x, y) in enumerate(batches(task.train, e.settings.order, setting.seed, task.index)):
            if number > 1 and i % every == 0:
                batch = Batch(x, y, torch.full((len(y),), HIDDEN))
                g, G = gradients(problem, learner.params, learner.state, batch)
                seen[-1].append(moment(g, G, setting.margins, number, i + 1))
            learner.observe(x, y)
        learner.end_task()
        tell()
    obtuse = [[m for m in found if m.degrees.max() > 90] for found in seen[1:]]
    plane, space = (_most_obtuse(found) for found in seen[1:])
    return Turns(plane, space, (len(seen[1]), len(seen[2])), (len(obtuse[0]), len(obtuse[1])))


def _most_obtuse(seen: list[Moment]) -> tuple[Moment, ...]:
    """Those whose g makes the largest angle with some g_k, in the order of their steps."""
    most = sorted(seen, key=lambda m: -m.degrees.max())[:SHOWN]
    return tuple(sorted(most, key=lambda m: m.step))


def gradients(problem: Problem, params: Params, state: State, batch: Batch) -> tuple[Tensor, Tensor]:
    """g [P] of a batch, and G [k, P] of the memories that GEM keeps of k past tasks, both in float64."""
    names = problem.spec.names
    g = tree.gradients(problem.loss(params, batch), {n: params[n] for n in names})
    assert state.past is not None
    ends = np.cumsum((0, *state.sizes)).tolist()
    groups = [slice(a, b) for a, b in pairwise(ends)]
    with torch.no_grad():
        G = group_gradients(problem, params, Batch(*state.past), groups, state.layers)
    return tree.flatten(g, names).double(), G.double()


def moment(g: Tensor, G: Tensor, margins: tuple[float, ...], task: int, step: int) -> Moment:
    """g [P] and G [k, P] in the space that they span, and g turned with each margin."""
    basis, R = torch.linalg.qr(torch.cat([G, g[None]]).T)  # [P, d], [d, d]
    signs = R.diagonal().sign()
    signs[signs == 0] = 1  # g within the span of the others: the last axis may point either way
    basis, R = basis * signs, R * signs[:, None]
    past, here = R[:, :-1].T.numpy(), R[:, -1].numpy()
    turned = []
    for margin in margins:
        harmed = bool((G @ g < 0).any())  # where not, GEM steps along g whatever the margin
        new, v = project(g, G, margin) if harmed else (g, G.new_zeros(len(G)))
        turned.append(Turned(margin, v.numpy(), (new @ basis).numpy(), degrees(new, G), (G @ new).numpy()))
    return Moment(task, step, past, here, degrees(g, G), tuple(turned))


def degrees(g: Tensor, G: Tensor) -> Array:
    """The angle between g [P] and each row of G [k, P], in degrees."""
    cosine = (G @ g) / (G.norm(dim=1) * g.norm())
    found: Array = cosine.clamp(-1, 1).arccos().rad2deg().numpy()
    return found
