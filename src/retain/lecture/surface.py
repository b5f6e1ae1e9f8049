"""(a) The losses of task 1 and task 2 over the plane through three points of a real network's training.

The points: theta_0, the initial weights; theta_b, after task 1; theta_*, after task 2 by plain SGD.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.lecture.setting import Setting
from retain.lecture.walk import EXAMPLES, walk
from retain.methods.ewc import EWC
from retain.methods.naive import Naive

Array = NDArray[np.float64]

ROOM = 0.3  # of the window around what it must show, as a share of its width


class Plane(NamedTuple):
    """A plane in the space of P weights: origin + a u + b v."""

    origin: Tensor  # [P], float64
    axes: Tensor  # [2, P], orthonormal, float64

    @classmethod
    def through(cls, first: Tensor, second: Tensor, third: Tensor) -> Plane:
        """The plane of three points [P]: `first` is its origin, `second` lies on its first axis.

        Raises:
            ValueError: the points lie on a line.
        """
        a, b, c = (t.double() for t in (first, second, third))
        u, w = b - a, c - a
        u = u / u.norm()
        v = w - (w @ u) * u
        v = v - (v @ u) * u  # once more: the first time leaves what rounding left
        if not float(v.norm()) > 1e-9 * float(w.norm()):
            raise ValueError("three points on a line, or two that are one, span no plane: train for longer")
        return cls(a, torch.stack([u, v / v.norm()]))

    def project(self, thetas: Tensor) -> tuple[Array, Array]:
        """Coordinates [n, 2] of the nearest points in the plane to thetas [n, P], and the distances [n]."""
        apart = thetas.double() - self.origin
        at = apart @ self.axes.T
        return at.numpy(), (apart - at @ self.axes).norm(dim=1).numpy()

    def at(self, a: float, b: float) -> Tensor:
        """The point [P] with these coordinates."""
        return self.origin + a * self.axes[0] + b * self.axes[1]


@dataclass(frozen=True, eq=False)
class Path:
    """A training run as the plane shows it: n points, of which number `learned` is the end of task 1."""

    lam: float  # EWC's strength; 0: plain SGD
    learned: int
    at: Array  # [n, 2]: the nearest points in the plane
    off: Array  # [n]: how far from the plane the network really is
    losses: Array  # [n, 2]: of task 1 and of task 2, where it really is


@dataclass(frozen=True, eq=False)
class Surface:
    """Losses over a window of the plane, and the paths through it. Lengths are of weight vectors."""

    points: Array  # [3, 2]: theta_0, theta_b, theta_*
    off: Array  # [3]: their distance from the plane; 0 but for rounding
    at_points: Array  # [3, 2]: task 1's and task 2's loss of the three networks themselves
    a: Array  # [grid]: first coordinates, ascending
    b: Array  # [grid]: second coordinates, ascending
    losses: Array  # [2, grid, grid]: mean loss of task 1, of task 2, at (a[j], b[i])
    paths: tuple[Path, ...]  # by lam, ascending; the first is plain SGD's


def surface(setting: Setting, tell: Callable[[], None] = lambda: None) -> Surface:
    """Train, span the plane, and measure both losses over it; `tell` is called now and then."""
    plain = walk(setting, Naive())
    walks = {0.0: plain}
    for lam in setting.lams:
        if lam > 0:
            walks[lam] = walk(setting, EWC(lam=lam, examples=EXAMPLES, proximal=True))
            tell()
    corners = plain.thetas[[0, plain.learned, -1]]
    plane = Plane.through(*corners)
    paths = []
    for lam, w in walks.items():
        at, off = plane.project(w.thetas)
        paths.append(Path(lam, w.learned, at, off, np.array([w.losses(t) for t in w.thetas])))
        tell()
    points, off = plane.project(corners)
    a, b = _window(np.concatenate([points, *(p.at for p in paths)]), setting.grid)
    losses = np.empty((2, setting.grid, setting.grid))
    for i, y in enumerate(b):
        for j, x in enumerate(a):
            losses[:, i, j] = plain.losses(plane.at(x, y))
        tell()
    at_points = np.array([plain.losses(t) for t in corners])
    return Surface(points, off, at_points, a, b, losses, tuple(paths))


def _window(at: Array, grid: int) -> tuple[Array, Array]:
    """The coordinates of a square grid around points [n, 2]."""
    low, high = at.min(0), at.max(0)
    half = (0.5 + ROOM / 2) * float((high - low).max())
    a, b = (np.linspace(m - half, m + half, grid) for m in (low + high) / 2)
    return a, b
