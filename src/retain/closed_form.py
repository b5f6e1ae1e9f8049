"""Classifiers that are a formula of sums over the examples: any order, any portions, and any of them taken out.

The sums are the counts n_c, the class sums s_c = sum of h, and the second moments S = sum of h h', in
float64. From these come nearest class mean, linear discriminant analysis and ridge regression, since
the scatter within classes is S - sum_c s_c s_c' / n_c and, with one-hot targets Y, H'Y is s'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from retain import tree
from retain.examples import Examples, Union
from retain.types import Batch, Params, Problem, Spec

On = Literal["input", "network", "first"]
"""What is classified: the `input` as it comes, or what the last layer of the `network` takes in, its
weights as given, or trained by gradients on the `first` task and then left alone."""

CHUNK = 500  # examples whose features are computed at a time
SMOOTH = ((1.0, 2.0, 1.0), (2.0, 4.0, 2.0), (1.0, 2.0, 1.0))


class Moments(NamedTuple):
    """Counts, class sums and second moments of features, in float64; changed in place."""

    n: Tensor  # [C]
    s: Tensor  # [C, D]
    S: Tensor  # [1, D, D] over all classes; [C, D, D] each class apart; [0, D, D] not kept

    @classmethod
    def zero(cls, spec: Spec, dim: int, apart: bool = False, second: bool = True) -> Moments:
        """Of no example, with features [dim]; second moments, if at all, together or each class apart."""
        n = torch.zeros(spec.classes, dtype=torch.float64, device=spec.device)
        sets = (spec.classes if apart else 1) if second else 0
        return cls(n, n.new_zeros(spec.classes, dim), n.new_zeros(sets, dim, dim))

    def add(self, h: Tensor, y: Tensor, sign: int = 1) -> Moments:
        """With features h [N, D] of classes y [N], or, if `sign` is -1, without them."""
        h = h.double()
        self.n.index_add_(0, y, torch.ones_like(y, dtype=torch.float64), alpha=sign)
        self.s.index_add_(0, y, h, alpha=sign)
        if len(self.S) == 1:
            self.S[0].addmm_(h.T, h, alpha=sign)
        elif len(self.S):
            for c in y.unique().tolist():
                self.S[c].addmm_(h[y == c].T, h[y == c], alpha=sign)
        return self

    def take_in(self, h: Tensor, y: Tensor, sign: int = 1) -> Tensor:
        """`add`, but nothing where the features' mean square, which it gives, is not finite."""
        loss = mean_square(h)
        if loss.isfinite():
            self.add(h, y, sign)
        return loss

    def forget(self, classes: list[int]) -> Moments:
        """As if no example of these classes had ever come.

        Raises:
            ValueError: the second moments of all classes lie in one sum.
        """
        if len(self.S) == 1:
            raise ValueError(
                "the second moments of a class cannot be told from those of the others: make the method with "
                "apart=True, or remove the examples themselves, by remove(state, problem, params, x, y)"
            )
        for part in self:
            if len(part):
                part[classes] = 0
        return self

    @property
    def known(self) -> Tensor:
        """bool [C]: the classes that have examples."""
        return self.n > 0.5

    def within(self) -> Tensor:
        """The scatter within classes, sum over examples of (h - mu_y)(h - mu_y)': [D, D]."""
        s, n = self.s[self.known], self.n[self.known]
        return self.S.sum(0) - (s / n[:, None]).T @ s


Linear = tuple[Tensor, Tensor]  # W [D, C] and b [C]: scores are h W + b


def lda(m: Moments, shrinkage: float, priors: bool) -> Linear:
    """w_c = Sigma^-1 mu_c, b_c = -1/2 mu_c' Sigma^-1 mu_c, plus log(n_c / N) with priors.

    Sigma = (1 - shrinkage) scatter / N + shrinkage t I, t the mean of the diagonal of scatter / N: the
    scatter is divided by N once, and never again.
    """
    n = m.n.clamp_min(1)
    mu = m.s / n[:, None]
    cov = m.within() / m.n.sum()
    t = cov.diagonal().mean().clamp_min(1e-12)
    cov.mul_(1 - shrinkage).diagonal().add_(shrinkage * t)
    W = torch.cholesky_solve(mu.T, torch.linalg.cholesky(cov))
    b = -0.5 * (mu.T * W).sum(0)
    return W, b + (n / m.n.sum()).log() if priors else b


def ridge(m: Moments, lam: float) -> Linear:
    """W = (G + lam I)^-1 C with G = H'H and C = H'Y."""
    G = m.S.sum(0)
    G.diagonal().add_(lam)
    return torch.cholesky_solve(m.s.T, torch.linalg.cholesky(G)), torch.zeros_like(m.n)


def best_ridge(m: Moments, held: Moments, lams: tuple[float, ...]) -> Linear:
    """Ridge regression on both, with the lam that has the least squared error on `held` when learned from m.

    The error of W on examples that are known by their moments is tr(W' G W) - 2 tr(W' C) + const.
    """
    G = held.S.sum(0)
    errors = []
    for lam in lams:
        W, _ = ridge(m, lam)
        errors.append(float(((G @ W) * W).sum() - 2 * (held.s.T * W).sum()))
    return ridge(_sum(m, held), lams[errors.index(min(errors))])


def _sum(a: Moments, b: Moments) -> Moments:
    return Moments(a.n + b.n, a.s + b.s, a.S + b.S)


def held_out(x: Tensor) -> Tensor:
    """bool [N]: a fifth of the examples, told by their own bytes, whatever the order they come in."""
    total = x.contiguous().flatten(1).view(torch.uint8).sum(1, dtype=torch.int64)
    return (total * 2654435761 >> 16) % 5 == 0


def add_apart(m: Moments, held: Moments | None, h: Tensor, x: Tensor, y: Tensor, sign: int = 1) -> Tensor:
    """Features h of inputs x into m, those of the held-out fifth into `held` if there is one; in place.

    Gives their mean square, and adds nothing where it is not finite.
    """
    if held is None:
        return m.take_in(h, y, sign)
    loss = mean_square(h)
    if loss.isfinite():
        out = held_out(x)
        m.add(h[~out], y[~out], sign)
        held.add(h[out], y[out], sign)
    return loss


# A memo of pure functions, not a state: predict may be asked often between two changes of the sums.
_SOLVED: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def solved(solve: Callable[..., Linear], m: Moments, *more: Any) -> Linear:
    """`solve(m, *more)`, computed once until the sums change; `more` may hold moments and numbers.

    Of no example it is zero.
    """
    parts = [a.s._version if isinstance(a, Moments) else a for a in more]
    tag = (solve, m.s._version, *parts)
    before, linear = _SOLVED.get(m.s, (None, None))
    if before != tag:
        any_known = any(bool(a.known.any()) for a in (m, *more) if isinstance(a, Moments))
        linear = solve(m, *more) if any_known else (torch.zeros_like(m.s).T, torch.zeros_like(m.n))
        _SOLVED[m.s] = (tag, linear)
    W, b = linear
    return W, b


def scores(h: Tensor, linear: Linear, known: Tensor) -> Tensor:
    """h W + b [N, C]; a class without examples is below every other, and finite."""
    W, b = linear
    out = h.double() @ W + b
    return below(out, known).to(h.dtype)


def below(out: Tensor, known: Tensor) -> Tensor:
    """Scores [N, C] with every class that is not known 1 below the lowest of those that are; 0 if none is.

    Nothing here depends on values, so that it can be traced for export.
    """
    lowest = torch.where(known, out, torch.inf).amin(1, keepdim=True)
    return torch.where(known, out, torch.where(known.any(), lowest - 1, 0.0))


def mean_square(h: Tensor) -> Tensor:
    """Of features: reported as the loss of a learner that has none.

    It is not finite where they are not or are too large. One such batch would spoil the sums for good, so
    it is left out of them; the learner then ends the run.
    """
    return (h * h).mean()


def features(on: On, problem: Problem, params: Params, x: Tensor) -> Tensor:
    """h [N, D] of inputs [N, ...]."""
    if on == "input":
        return x.flatten(1)
    with torch.no_grad():
        return problem.features(params, x)


def width(on: On, problem: Problem, params: Params) -> int:
    """D."""
    one = torch.zeros(1, *problem.spec.shape, dtype=problem.spec.dtype, device=problem.spec.device)
    return features(on, problem, params, one).shape[1]


def gradient_step(
    problem: Problem, params: Params, batch: Batch, update: Callable[[Params, Params], Params]
) -> tuple[Params, Tensor]:
    """Plain training, for the network's first task; gives the loss too."""
    loss = problem.loss(params, batch)
    grads = tree.gradients(loss, {k: params[k] for k in problem.spec.names})
    with torch.no_grad():
        return update(params, grads), loss.detach()


def portions(examples: Examples | Union, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """All examples, a few at a time."""
    for index in torch.arange(len(examples)).split(CHUNK):
        x, y = examples.batch(index)
        yield x.to(device), y.to(device)


def normal(rng: Generator, spec: Spec, *shape: int) -> Tensor:
    """Standard normal numbers, the same on every device and, but for rounding, in every precision."""
    return torch.randn(*shape, generator=rng, dtype=torch.float64).to(spec.device, spec.dtype)


def random_filters(rng: Generator, spec: Spec, count: int, size: int) -> Tensor:
    """Smooth random filters [count, channels, size, size] of mean 0 and length 1."""
    raw = normal(rng, spec, count, spec.shape[0], size, size)
    kernel = torch.tensor(SMOOTH).to(raw).expand(spec.shape[0], 1, 3, 3) / 16
    smooth = nnf.conv2d(raw, kernel, padding=1, groups=spec.shape[0])
    smooth = smooth - smooth.mean((1, 2, 3), keepdim=True)
    length: Tensor = smooth.flatten(1).norm(dim=1).clamp_min(1e-12)
    return smooth / length[:, None, None, None]
