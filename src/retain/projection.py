"""GEM's quadratic programme (Lopez-Paz & Ranzato 2017, eq. 11), solved exactly.

    minimise over v   1/2 v' (G G' + ridge I) v + (G g)' v    subject to v >= margin

and the gradient to follow is g~ = G' v + g. P parameters, k past tasks; G [k, P] holds one past
gradient a row. With `margin` and `ridge` 0 it is eq. 8 itself: the g~ nearest to g that has no
negative product with any past gradient. A larger `margin` leans further towards the past; `ridge`
makes v unique (g~ is unique anyway).

The solver is an active-set method (Lawson & Hanson 1974, ch. 23; started by block principal pivoting)
on u = v - margin >= 0, in float64, with every gradient scaled to unit length, so that norms of any size
may be mixed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_EPS = float(np.finfo(np.float64).eps)
_STEPS = 100  # times k; the method needs about k, this only bounds the time of a freak


def project(g: Tensor, G: Tensor, margin: float = 0.0, ridge: float = 0.0) -> tuple[Tensor, Tensor]:
    """Give the gradient g~ [P] (device and dtype of `g`) and its v [k] (float64, on the CPU).

    Below float64 the k x k products are taken in the dtype given, which is quick, and past gradients
    that agree to that dtype's precision count as one. In float64 the solver works on G itself, whose
    condition is the square root of the products': slower, and exact to about 1e-10 |g|.
    NaN or infinity in `g` or `G`, or products that overflow, give NaN throughout.

    Raises:
        ValueError: shapes or dtypes that do not fit, a negative ridge, or no finite margin.

    >>> g, G = torch.tensor([1.0, -1.0]), torch.tensor([[0.0, 2.0]])
    >>> project(g, G)
    (tensor([1., 0.]), tensor([0.5000], dtype=torch.float64))
    """
    if g.dim() != 1 or G.dim() != 2 or G.shape[1] != len(g) or g.dtype != G.dtype:
        raise ValueError(
            "g [P] and G [k, P] must fit and share a dtype, "
            f"got {list(g.shape)} {g.dtype} and {list(G.shape)} {G.dtype}"
        )
    g, G = g.detach(), G.detach()
    if G.dtype == torch.float64:
        with np.errstate(over="ignore", invalid="ignore"):
            v = _solve_from_gradients(g, G, *_checked(margin, ridge))
    else:
        v = solve_dual(G @ G.T, G @ g, margin, ridge)
    return torch.addmv(g, G.T, v.to(G.device, G.dtype)), v


def solve_dual(gram: Tensor, dots: Tensor, margin: float, ridge: float) -> Tensor:
    """Give v [k] (float64, on the CPU) from gram = G G' [k, k] and dots = G g [k].

    The dtype of `gram` says how far it can be trusted: what lies below its rounding is taken for noise.
    NaN or infinity in either gives NaN throughout.

    Raises:
        ValueError: shapes that do not fit, a negative ridge, or no finite margin.

    >>> solve_dual(torch.tensor([[4.0]]), torch.tensor([-2.0]), margin=0.0, ridge=0.0)
    tensor([0.5000], dtype=torch.float64)
    """
    k = len(dots)
    if dots.dim() != 1 or gram.shape != (k, k):
        raise ValueError(f"gram must be [k, k] and dots [k], got {list(gram.shape)} and {list(dots.shape)}")
    margin, ridge = _checked(margin, ridge)
    Q: Array = gram.detach().cpu().double().numpy()
    d: Array = dots.detach().cpu().double().numpy()
    if not (np.isfinite(Q).all() and np.isfinite(d).all()):
        return torch.full((k,), torch.nan, dtype=torch.float64)
    if k == 0:
        return torch.empty(0, dtype=torch.float64)
    noise = 16 * k * max(torch.finfo(gram.dtype).eps, _EPS)
    return torch.from_numpy(_solve_from_products(Q + ridge * np.eye(k), d, margin, noise))


def _solve_from_products(Q: Array, d: Array, margin: float, noise: float) -> Array:
    size = np.sqrt(Q.diagonal().clip(0))
    nought = size == 0
    size[nought] = 1
    Q = Q / size / size[:, None]
    Q = _lifted(Q, noise)
    c = d / size + Q @ (margin * size)
    c[nought] = 0

    def minimiser(chosen: Mask) -> Array:
        at = chosen.nonzero()[0]
        s: Array = np.linalg.solve(Q[at[:, None], at], -c[at])
        return s

    def slope(u: Array) -> Array:
        w: Array = -(c + Q @ u)
        return w

    u = _nonnegative(len(Q), minimiser, slope, float(np.abs(c).max()))
    v: Array = u / size + margin
    return v


def _lifted(Q: Array, least: float) -> Array:
    """Q with its eigenvalues raised to `least`: rounding may leave it indefinite, and the minimum at infinity."""
    try:
        np.linalg.cholesky(Q - least * np.eye(len(Q)))  # at a tenth of the cost: there is nothing to raise
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(Q)
        Q = (vectors * values.clip(least)) @ vectors.T
    return Q


def _solve_from_gradients(g: Tensor, G: Tensor, margin: float, ridge: float) -> Tensor:
    """Give the same v from G: least squares |A u - b|, A = [G'; sqrt(ridge) I] with columns of length 1."""
    k = len(G)
    A: Array = G.cpu().numpy().T
    b: Array = -(g.cpu().numpy() + margin * A.sum(1))
    if not (np.isfinite(A).all() and np.isfinite(b).all()):
        return torch.full((k,), torch.nan, dtype=torch.float64)
    if k == 0:
        return torch.empty(0, dtype=torch.float64)
    if ridge > 0:
        A = np.vstack([A, np.sqrt(ridge) * np.eye(k)])
        b = np.concatenate([b, np.full(k, -np.sqrt(ridge) * margin)])
    peak = np.abs(A).max(0)
    peak[peak == 0] = 1
    A = A / peak  # first by the largest entry: squares of 1e-200 would vanish
    length = np.linalg.norm(A, axis=0)
    length[length == 0] = 1
    large = np.abs(b).max(initial=0) or 1.0  # u grows in proportion to b
    q, R = np.linalg.qr(A / length)
    d = q.T @ (b / large)
    # Where rounding alone tells gradients apart, this keeps u small; it moves nothing else by 1e-10.
    R = np.vstack([R, 1e-10 * np.eye(k)])
    d = np.concatenate([d, np.zeros(k)])

    def minimiser(chosen: Mask) -> Array:
        s: Array = np.linalg.lstsq(R[:, chosen], d, rcond=None)[0]
        return s

    def slope(u: Array) -> Array:
        w: Array = R.T @ (d - R @ u)
        return w

    u = _nonnegative(k, minimiser, slope, float(np.linalg.norm(d)))
    return torch.from_numpy(u / length / peak * large + margin)


def _nonnegative(
    k: int, minimiser: Callable[[Mask], Array], slope: Callable[[Array], Array], scale: float
) -> Array:
    """Find the u >= 0 [k] that minimises a strictly convex quadratic (Lawson & Hanson).

    `minimiser` gives the free minimum over the chosen entries, the others being 0; `slope` the
    negative gradient at u, whose entries are about `scale` in size. An end of the outer loop has
    u = minimiser(chosen) > 0; no set is accepted twice, so the loop ends, whatever rounding does.
    """
    chosen = _exchanged(k, minimiser, slope, scale)
    u = np.zeros(k)
    while chosen.any():
        s = minimiser(chosen)
        if not s.min() <= 0:  # NaN ends it too
            u[chosen] = s
            break
        chosen[chosen.nonzero()[0][s <= 0]] = False
    seen, blocked = {chosen.tobytes()}, np.zeros(k, dtype=bool)
    for _ in range(_STEPS * k):
        w = slope(u)
        w[chosen | blocked] = -np.inf
        j = int(w.argmax())
        if w[j] <= _noise(scale, u):
            break
        next_u, next_chosen = _enter(j, u, chosen, minimiser)
        if next_chosen.tobytes() in seen:  # only rounding said that j would help
            blocked[j] = True
            continue
        u, chosen = next_u, next_chosen
        seen.add(chosen.tobytes())
        blocked[:] = False
    return u


def _exchanged(
    k: int, minimiser: Callable[[Mask], Array], slope: Callable[[Array], Array], scale: float
) -> Mask:
    """A set to start from, most often the one to end with, in a few trials where one by one it takes k.

    All that are wrong, u <= 0 among the chosen and a slope > 0 among the others, change sides at once, as
    long as they become fewer (block principal pivoting: Kim & Park 2011, SIAM J. Sci. Comput. 33, sec. 3).
    """
    chosen = slope(np.zeros(k)) > 0
    fewest, trials = k + 1, 3
    while trials:
        u = np.zeros(k)
        u[chosen] = minimiser(chosen) if chosen.any() else 0
        wrong: Mask = np.where(chosen, u <= 0, slope(u) > _noise(scale, u))
        n = int(wrong.sum())
        if n == 0:
            break
        fewest, trials = (n, 3) if n < fewest else (fewest, trials - 1)
        chosen = chosen ^ wrong
    return chosen


def _noise(scale: float, u: Array) -> float:
    """What a slope at u may be of rounding alone."""
    return 16 * len(u) * _EPS * (scale + float(np.abs(u).sum()))


def _enter(j: int, u: Array, chosen: Mask, minimiser: Callable[[Mask], Array]) -> tuple[Array, Mask]:
    """Choose j too, and go to the minimum, dropping whatever would become negative on the way."""
    u, chosen = u.copy(), chosen.copy()
    chosen[j] = True
    while chosen.any():
        at = chosen.nonzero()[0]
        s, old = minimiser(chosen), u[at]
        if s.min() > 0:
            u[at] = s
            break
        down = s <= 0
        share = old[down] / (old[down] - s[down] + np.finfo(np.float64).tiny)
        u[at] = (old + share.min() * (s - old)).clip(0)
        gone = at[down][share <= share.min()]
        u[gone] = 0
        chosen[gone] = False
    return u, chosen


def _checked(margin: float, ridge: float) -> tuple[float, float]:
    if not np.isfinite(margin):
        raise ValueError(f"margin must be finite, got {margin}")
    if not (np.isfinite(ridge) and ridge >= 0):
        raise ValueError(f"ridge must be finite and >= 0, got {ridge}")
    return float(margin), float(ridge)
