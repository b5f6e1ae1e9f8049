"""The Fisher information layer by layer as a Kronecker product, and penalties of it summed over tasks.

For a layer out = W a, with the bias as one more column of W on a homogeneous 1 in a, the gradient of
one example is g a', g the derivative with respect to out. K-FAC (Martens & Grosse 2015, arXiv:1503.05671)
takes E[(g a')(g a')'] as G (x) A, with A = E[a a'] and G = E[g g']: exact where a and g are independent,
and for a single example. A convolution uses W at each of T positions t (Grosse & Martens 2016,
arXiv:1602.01407): A = E[sum_t a_t a_t'] and G = E[sum_t g_t g_t'] / T, a_t the patch at t;
so does a linear layer along a sequence.

W is [out, in] here, with the bias in its last column, so that (G (x) A) vec(W) is G W A.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor, nn

from retain.curvature.diagonal import covered_by, fisher, portions, some, total_of
from retain.curvature.layers import deltas, full_name
from retain.curvature.quadratic import Quadratic
from retain.examples import Examples, Union
from retain.losses import Labels, directions
from retain.types import Layer, Params, Problem


class Factors(NamedTuple):
    """The Fisher information of one task: G (x) A for each layer, the diagonal for all else."""

    A: Params  # by layer [in, in], symmetric
    G: Params  # by layer [out, out], symmetric
    rest: Params  # by parameter, of those of no such layer (BatchNorm): the Fisher's diagonal


def kfac(
    problem: Problem,
    params: Params,
    examples: Examples | Union,
    task: int,
    rng: Generator,
    labels: Labels = "exact",
    n: int | None = None,
    batch_size: int = 256,
    layers: Sequence[str] | None = None,
) -> Factors:
    """The factors at `params`, in evaluation mode: a mean over single examples, as `fisher` takes it.

    Args as of `fisher`; `layers`: which layers have factors, None: all that are `covered`.

    Raises:
        ValueError: no examples.
    """
    if len(examples) == 0:
        raise ValueError("the Fisher of no examples is not defined")
    chosen = some(examples, n, rng)
    names = problem.spec.names
    if layers is None:
        layers = [k for k in covered_by(problem, params, examples, task, chosen) if full_name(k, 0) in names]
    found = Factors({}, {}, {})
    for x, y, tasks in portions(problem, examples, task, chosen.split(batch_size)):
        _add_products(problem, params, x, y, tasks, labels, rng, layers, found)
    for t in (*found.A.values(), *found.G.values()):
        t.div_(total_of(problem, examples.labels(chosen)))
    at_home = {k for layer in layers for k in _names(layer, names)}
    if len(at_home) == len(names):
        return found
    rest = problem.spec._replace(names=tuple(k for k in names if k not in at_home))
    diagonal = fisher(problem._replace(spec=rest), params, examples, task, rng, labels, n, batch_size)
    return found._replace(rest=diagonal)


def _names(layer: str, names: Sequence[str]) -> list[str]:
    """Of the layer's weight and bias, those that the optimiser moves."""
    return [full for i in (0, 1) if (full := full_name(layer, i)) in names]


def _add_products(
    problem: Problem, params: Params, x: Tensor, y: Tensor, tasks: Tensor, labels: Labels,
    rng: Generator, layers: Sequence[str], found: Factors,
) -> None:  # fmt: skip
    """Add sum a a' and the weighted sum g g' of a batch's examples to the factors found so far."""
    A, G = found.A, found.G
    if not layers:
        return
    logits, traced = problem.trace(params, x, tasks)
    traced = {k: traced[k] for k in layers}
    counts = problem.counts(y)
    for k, layer in traced.items():
        a = _inputs(layer, len(_names(k, problem.spec.names)) == 2)
        counted = a if counts is None else a * counts.to(a)[:, None, None]
        A[k] = counted.flatten(0, 1).T @ a.flatten(0, 1) + A.get(k, 0)
    for v, weight in directions(problem, logits.detach(), y, tasks, labels, rng):
        weight = weight if counts is None else weight * counts.to(weight)
        for k, delta in deltas(logits, traced, v.to(logits), keep=True).items():
            g = delta.flatten(2).mT if traced[k].kind == "conv2d" else _positions(delta)
            weighted = g * (weight / g.shape[1])[:, None, None]
            G[k] = weighted.flatten(0, 1).T @ g.flatten(0, 1) + G.get(k, 0)


def _inputs(layer: Layer, bias: bool) -> Tensor:
    """What W is applied to: [N, positions, in], with a 1 at the end where there is a bias."""
    a = layer.input
    if layer.kind == "conv2d":
        m = layer.module
        assert isinstance(m, nn.Conv2d) and not isinstance(m.padding, str)
        a = nnf.unfold(a, m.kernel_size, m.dilation, m.padding, m.stride).mT
    else:
        a = _positions(a)
    return nnf.pad(a, (0, 1), value=1.0) if bias else a


def _positions(t: Tensor) -> Tensor:
    """[N, ..., features] as [N, positions, features]."""
    return t[:, None] if t.dim() == 2 else t.flatten(1, -2)


def joined(params: Params, layer: str, columns: int) -> Tensor:
    """W [out, columns] of a layer, with the bias as its last column where `columns` has room for it."""
    weight = params[full_name(layer, 0)].detach().flatten(1)
    if weight.shape[1] == columns:
        return weight
    return torch.cat((weight, params[full_name(layer, 1)].detach()[:, None]), 1)


def add_joined(params: Params, layer: str, W: Tensor, strength: float = 1.0) -> None:
    """Add strength * W [out, columns] to a layer's weight and bias, in place."""
    weight = params[full_name(layer, 0)]
    columns = weight[0].numel()
    weight.add_(W[:, :columns].reshape(weight.shape), alpha=strength)
    if W.shape[1] > columns:
        params[full_name(layer, 1)].add_(W[:, -1], alpha=strength)


class Kronecker(NamedTuple):
    """sum_k <W - W_k, G_k (W - W_k) A_k>, summed over the layers, and a diagonal for all else.

    Kept as the pairs (G_k, A_k), the constant moment m = sum_k G_k W_k A_k and a number. The pairs lie
    so that sum_k G_k W A_k is two matrix products: G [out K, out] W, read as [out, K in], times A [K in, in].
    """

    A: Params  # by layer [K, in, in]
    G: Params  # by layer [out, K, out]
    moment: Params  # by layer [out, in]
    constant: float
    rest: Quadratic

    @classmethod
    def around(cls, factors: Factors, params: Params) -> Kronecker:
        """One task's penalty, (theta - params)' H (theta - params)."""
        A = {k: a[None] for k, a in factors.A.items()}
        G = {k: g[:, None] for k, g in factors.G.items()}
        none = Quadratic({}, {}, 0.0)
        one = cls(A, G, {}, 0.0, none).recentred(params)
        return one._replace(rest=Quadratic.around(factors.rest, params))

    def recentred(self, params: Params) -> Kronecker:
        """The same second derivatives around other weights: (theta - params)' sum_k H_k (theta - params)."""
        moment, constant = {}, 0.0
        for k in self.A:
            W = joined(params, k, self.A[k].shape[-1])
            moment[k] = self.times(k, W)
            constant += float((moment[k].double() * W).sum())
        return self._replace(
            moment=moment, constant=constant, rest=Quadratic.around(self.rest.weight, params)
        )

    def plus(self, other: Kronecker) -> Kronecker:
        """The sum of both: its pairs are theirs."""
        return Kronecker(
            {k: torch.cat((a, other.A[k])) for k, a in self.A.items()},
            {k: torch.cat((g, other.G[k]), 1) for k, g in self.G.items()},
            {k: m + other.moment[k] for k, m in self.moment.items()},
            self.constant + other.constant,
            self.rest.plus(other.rest),
        )

    def nearest(self, params: Params) -> Kronecker:
        """One pair for each layer, nearest to the sum of its pairs, around `params`."""
        A, G = {}, {}
        for k in self.A:
            a, g = nearest_pair(self.A[k], self.G[k].transpose(0, 1))
            A[k], G[k] = a[None], g[:, None]
        return self._replace(A=A, G=G).recentred(params)

    def times(self, layer: str, W: Tensor) -> Tensor:
        """sum_k G_k W A_k of a layer: [out, in]."""
        A, G = self.A[layer], self.G[layer]
        return (G.flatten(0, 1) @ W).view(len(G), -1) @ A.flatten(0, 1)

    def by_layer(self) -> dict[str, float]:
        """The mean of the diagonal over each layer's entries."""
        found = self.rest.by_layer()
        for k in self.A:
            a, g = self.A[k].double(), self.G[k].transpose(0, 1).double()
            both = a.diagonal(dim1=1, dim2=2).mean(1) * g.diagonal(dim1=1, dim2=2).mean(1)
            found[k] = float(both.sum())
        return found

    def value(self, params: Params) -> float:
        """The penalty at params, without its factor lam / 2; summed in float64."""
        found = self.constant + self.rest.value(params)
        for k in self.A:
            W = joined(params, k, self.A[k].shape[-1])
            found += float((W.double() * (self.times(k, W).double() - 2 * self.moment[k])).sum())
        return found

    def pull(self, strength: float, params: Params, grads: Params) -> Params:
        """`grads` plus the gradient of strength / 2 times the penalty, in place."""
        for k in self.A:
            W = joined(params, k, self.A[k].shape[-1])
            add_joined(grads, k, self.times(k, W).sub_(self.moment[k]), strength)
        return self.rest.pull(strength, params, grads)

    def largest(self, steps: int = 30) -> float:
        """The largest eigenvalue of sum_k H_k, from below: by power iteration from a fixed start."""
        found = self.rest.largest()
        for k, A in self.A.items():
            rng = torch.Generator().manual_seed(0)
            shape = (len(self.G[k]), A.shape[-1])
            W = torch.randn(shape, generator=rng, dtype=torch.float64).to(A)
            for _ in range(steps):
                W = self.times(k, W / W.norm().clamp_min(torch.finfo(W.dtype).tiny))
            found = max(found, float(W.norm()))
        return found


class Precision(NamedTuple):
    """Of a Gaussian around `anchor`: G (x) A for each layer, a diagonal for all else; with its inverse."""

    A: Params  # by layer [in, in], positive definite
    G: Params  # by layer [out, out], positive definite
    inverse_A: Params
    inverse_G: Params
    rest: Params  # by parameter, > 0
    anchor: Params  # by parameter

    @classmethod
    def flat(cls, delta: float, like: Factors, anchor: Params) -> Precision:
        """delta times the identity, in factors as `like` has them."""
        A = {k: delta**0.5 * torch.eye(len(a), dtype=a.dtype, device=a.device) for k, a in like.A.items()}
        G = {k: delta**0.5 * torch.eye(len(g), dtype=g.dtype, device=g.device) for k, g in like.G.items()}
        rest = {k: torch.full_like(d, delta) for k, d in like.rest.items()}
        return cls(A, G, _inverse(A), _inverse(G), rest, anchor)

    def plus(self, strength: float, new: Factors, anchor: Params) -> Precision:
        """Around other weights, the sum with strength * new; one pair for each layer, the closest to it."""
        pairs = {k: closest_pair(a, self.G[k], strength * new.A[k], new.G[k]) for k, a in self.A.items()}
        A, G = {k: a for k, (a, _) in pairs.items()}, {k: g for k, (_, g) in pairs.items()}
        rest = {k: d + strength * new.rest[k] for k, d in self.rest.items()}
        return Precision(A, G, _inverse(A), _inverse(G), rest, anchor)

    def natural(self, scale: float, params: Params, grads: Params) -> Params:
        """scale * (Lambda^-1 g + theta - anchor), in place of `grads`."""
        for k, A in self.inverse_A.items():
            W = self.inverse_G[k] @ joined(grads, k, len(A)) @ A
            weight = grads[full_name(k, 0)]
            weight.copy_(W[:, : weight[0].numel()].reshape(weight.shape))
            if len(A) > weight[0].numel():
                grads[full_name(k, 1)].copy_(W[:, -1])
        for k, d in self.rest.items():
            grads[k].div_(d)
        for k, mu in self.anchor.items():
            grads[k].add_(params[k].detach()).sub_(mu).mul_(scale)
        return grads


def _inverse(factors: Params) -> Params:
    """Of positive definite matrices, by way of float64."""
    # contiguous, as they come back from a checkpoint: in another layout a product is rounded otherwise
    return {
        k: torch.cholesky_inverse(torch.linalg.cholesky(t.double())).to(t).contiguous()
        for k, t in factors.items()
    }


def nearest_pair(A: Tensor, G: Tensor) -> tuple[Tensor, Tensor]:
    """The A [in, in] and G [out, out] whose G (x) A is nearest to sum_k G_k (x) A_k, in Frobenius norm.

    (Van Loan & Pitsianis 1993: a matrix of rank one nearest to sum_k vec(A_k) vec(G_k)'.) A is
    sum_k u_k A_k, with u the leading eigenvector of <G_k, G_l> <A_l, A_j>, which is >= 0 as the
    factors are positive semi-definite; G = sum_k w_k G_k likewise.

    Args:
        A: [K, in, in], symmetric and positive semi-definite.
        G: [K, out, out], likewise.
    """
    a, g = (t.flatten(1).double() for t in (A, G))
    a, g = a @ a.T, g @ g.T
    size, v = torch.linalg.eigh(a)
    root = (v * size.clamp_min(0).sqrt()) @ v.T
    z = torch.linalg.eigh(root @ g @ root)[1][:, -1]  # then u = g root z has g a u = (eigenvalue) u
    u = g @ root @ z
    u = u / u.sum() if u.sum() else u
    w = a @ u / (u @ a @ u).clamp_min(torch.finfo(u.dtype).tiny)
    return torch.tensordot(u.to(A), A, 1), torch.tensordot(w.to(G), G, 1)


def closest_pair(A: Tensor, G: Tensor, B: Tensor, H: Tensor) -> tuple[Tensor, Tensor]:
    """The X [in, in] and Y [out, out] whose Y (x) X is, as a precision, closest to G (x) A + H (x) B.

    By KL(N(0, (Y (x) X)^-1) || N(0, (G (x) A + H (x) B)^-1)). Where it is least,
    X = (tr(Y^-1 G) A + tr(Y^-1 H) B) / out and Y = (tr(X^-1 A) G + tr(X^-1 B) H) / in, which is
    iterated here. The eigenvalues of A^-1 B and G^-1 H are all that the traces need.

    Args:
        A: [in, in], symmetric and positive definite.
        G: [out, out], likewise.
        B: [in, in], symmetric and positive semi-definite.
        H: [out, out], likewise.
    """
    b, h = _relative(A, B), _relative(G, H)
    y = torch.tensor([1.0, 1.0], dtype=b.dtype, device=b.device)
    for _ in range(500):
        before, r = y, y[0] + y[1] * h
        x = torch.stack(((1 / r).mean(), (h / r).mean()))
        r = x[0] + x[1] * b
        y = torch.stack(((1 / r).mean(), (b / r).mean()))
        if torch.allclose(y, before, rtol=1e-14, atol=0):
            break
    x, y = x.to(A), y.to(A)
    return x[0] * A + x[1] * B, y[0] * G + y[1] * H


def _relative(A: Tensor, B: Tensor) -> Tensor:
    """The eigenvalues of A^-1 B, in float64."""
    L = torch.linalg.cholesky(A.double())
    half = torch.linalg.solve_triangular(L, B.double(), upper=False)
    both = torch.linalg.solve_triangular(L, half.mT, upper=False)
    found: Tensor = torch.linalg.eigvalsh(both)
    return found.clamp_min(0)
