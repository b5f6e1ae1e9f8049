"""Closed-form classifiers against scikit-learn's batch fits, in any order, and with examples taken out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # type: ignore[import-untyped]
from sklearn.linear_model import Ridge  # type: ignore[import-untyped]
from tests.laws.toy import CLASSES, SHAPE, learner, mlp, stream
from torch import Tensor

from retain import Learner, Method, Optim, Order, run
from retain.closed_form import Moments, best_ridge, held_out, lda, ridge
from retain.examples import Examples
from retain.methods.ncm import NCM
from retain.methods.randumb import RanDumb
from retain.methods.ranpac import RanPAC
from retain.methods.slda import SLDA
from retain.types import HIDDEN, Spec

F64 = torch.float64
DIM = 6
SPEC = Spec(SHAPE, F64, torch.device("cpu"), CLASSES, (), None)
Data = tuple[Tensor, Tensor]


def data(n: int = 300, seed: int = 0, classes: int = CLASSES) -> Data:
    """Correlated features [n, DIM] far from 0, classes of unequal size."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.multinomial(torch.arange(1.0, classes + 1), n, replacement=True, generator=rng)
    means, mix = (
        torch.randn(classes, DIM, generator=rng, dtype=F64),
        torch.randn(DIM, DIM, generator=rng, dtype=F64),
    )
    return 5 + means[y] + torch.randn(n, DIM, generator=rng, dtype=F64) @ mix, y


def moments(h: Tensor, y: Tensor, apart: bool = False, chunks: int = 1) -> Moments:
    m = Moments.zero(SPEC, DIM, apart)
    for a, b in zip(h.chunk(chunks), y.chunk(chunks), strict=True):
        m = m.add(a, b)
    return m


def close(a: Any, b: Any, tol: float = 1e-8) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=tol, atol=tol)


@pytest.mark.parametrize("shrinkage", [1e-3, 0.3, 1.0])
def test_lda_is_scikit_learns(shrinkage: float) -> None:
    h, y = data()
    W, b = lda(moments(h, y), shrinkage, priors=True)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(h.numpy(), y.numpy())
    expected = (torch.from_numpy(theirs.coef_.T), torch.from_numpy(theirs.intercept_))
    close((W, b), expected)


def test_trap_8_the_covariance_is_divided_by_the_number_of_examples_once() -> None:
    """Each example seen a hundred times changes nothing."""
    h, y = data()
    once, often = moments(h, y), Moments.zero(SPEC, DIM)
    for _ in range(100):
        often = often.add(h, y)
    close(lda(once, 0.1, True), lda(often, 0.1, True))
    centred = torch.cat([h[y == c] - h[y == c].mean(0) for c in range(CLASSES)])
    torch.testing.assert_close(once.within() / len(h), centred.T @ centred / len(h), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("lam", [1e-2, 10.0])
def test_ridge_is_scikit_learns(lam: float) -> None:
    h, y = data()
    Y = torch.nn.functional.one_hot(y, CLASSES).to(F64)
    theirs = Ridge(alpha=lam, fit_intercept=False, solver="cholesky").fit(h.numpy(), Y.numpy())
    close(ridge(moments(h, y), lam)[:1], (torch.from_numpy(theirs.coef_.T),))


def test_the_chosen_ridge_has_the_least_error_on_the_held_out_examples() -> None:
    (h, y), (hv, yv) = data(40), data(200, 1)
    lams = (1e-2, 1.0, 1e2, 1e4)
    Y = torch.nn.functional.one_hot(yv, CLASSES).to(F64)
    errors = [float(((hv @ ridge(moments(h, y), lam)[0] - Y) ** 2).sum()) for lam in lams]
    best = lams[errors.index(min(errors))]
    both = moments(torch.cat([h, hv]), torch.cat([y, yv]))
    close(best_ridge(moments(h, y), moments(hv, yv), lams), ridge(both, best))


def test_a_fifth_is_held_out_whatever_the_order() -> None:
    x = torch.rand(5000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    out, order = held_out(x), torch.randperm(5000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(held_out(x[order]), out[order]) and abs(float(out.double().mean()) - 0.2) < 0.02
    assert torch.equal(held_out(x.transpose(2, 3).contiguous().transpose(2, 3)), out)


@pytest.mark.parametrize("apart", [False, True])
def test_order_and_portions_play_no_part(apart: bool) -> None:
    h, y = data()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(3))
    one, two = moments(h, y, apart), moments(h[order], y[order], apart, chunks=37)
    close(lda(one, 1e-2, True), lda(two, 1e-2, True))
    close(ridge(one, 1.0), ridge(two, 1.0))


# ---- the methods ----

METHODS: dict[str, Method[Any]] = {
    "slda": SLDA(), "ncm": NCM(), "ranpac": RanPAC(size=30), "ranpac-lam": RanPAC(size=30, lam=1.0),
    "slda-network": SLDA(on="network"), "randumb": RanDumb(size=40),
    "randumb-conv": RanDumb(features="conv", size=32, kernel=3, grid=2),
    "ranpac-apart": RanPAC(size=30, apart=True), "slda-apart": SLDA(apart=True),
    "randumb-apart": RanDumb(size=40, apart=True),
}  # fmt: skip


def fresh(method: Method[Any]) -> Learner:
    """In double precision, and bound to the toy's images."""
    torch.manual_seed(0)
    one = Learner(mlp().double(), method, Optim(lr=0.1), scenario="class")
    one.start(Examples(torch.zeros(1, *SHAPE, dtype=F64), torch.zeros(1, dtype=torch.int64)))
    return one


def images(n: int = 120, seed: int = 0) -> Data:
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % CLASSES
    pattern = torch.rand(CLASSES, *SHAPE, generator=rng, dtype=F64)
    return pattern[y] + 0.5 * torch.rand(n, *SHAPE, generator=rng, dtype=F64), y


def learn(method: Method[Any], x: Tensor, y: Tensor, chunks: int = 1) -> Learner:
    one = fresh(method)
    for a, b in zip(x.chunk(chunks), y.chunk(chunks), strict=True):
        one.observe(a, b)
    return one


def asked(one: Learner) -> Tensor:
    """What the method says of other images."""
    x, _ = images(50, 7)
    return one.method.predict(one._bound, one.params, one.state, x, torch.full((50,), HIDDEN))


@pytest.mark.parametrize("name", METHODS)
def test_a_prediction_does_not_depend_on_the_order_and_the_portions(name: str) -> None:
    x, y = images()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(3))
    one, two = learn(METHODS[name], x, y), learn(METHODS[name], x[order], y[order], 40)
    close([asked(one)], [asked(two)])


@pytest.mark.parametrize("name", METHODS)
def test_removed_examples_are_as_if_they_had_never_come(name: str) -> None:
    method: Any = METHODS[name]
    x, y = images()
    gone = torch.arange(len(y)) % 5 == 0
    one, never = learn(method, x, y), learn(method, x[~gone], y[~gone])
    asked(one)  # a solution that is out of date must not be used again
    one.state = method.remove(one.state, one._bound, one.params, x[gone], y[gone])
    close([asked(one)], [asked(never)])


@pytest.mark.parametrize("name", [n for n in METHODS if "apart" in n or n == "ncm"])
def test_a_forgotten_class_is_as_if_it_had_never_come(name: str) -> None:
    method: Any = METHODS[name]
    x, y = images()
    one, never = learn(method, x, y), learn(method, x[y != 2], y[y != 2])
    asked(one)
    one.state = method.forget(one.state, [2])
    close([asked(one)], [asked(never)], 1e-12)
    assert bool((asked(one).argmin(1) == 2).all())


@pytest.mark.parametrize("name", ["slda", "ranpac", "randumb"])
def test_a_class_cannot_be_told_from_one_sum_of_second_moments(name: str) -> None:
    method: Any = METHODS[name]
    with pytest.raises(ValueError, match=r"apart=True.*remove"):
        method.forget(learn(method, *images()).state, [2])


@pytest.mark.parametrize("name", METHODS)
def test_a_class_that_never_came_is_below_all_others_and_nothing_is_known_at_first(name: str) -> None:
    x, y = images()
    assert torch.equal(asked(fresh(METHODS[name])), torch.zeros(50, CLASSES, dtype=F64))
    scores = asked(learn(METHODS[name], x[y < 3], y[y < 3]))
    assert bool(scores.isfinite().all()) and bool((scores.argmin(1) == 3).all())


def test_slda_and_ncm_and_ranpac_say_what_their_formulas_say() -> None:
    x, y = images()
    h, other = x.flatten(1), images(50, 7)[0].flatten(1)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1e-2).fit(h.numpy(), y.numpy())
    close(
        [asked(learn(SLDA(priors=True), x, y))], [torch.from_numpy(theirs.decision_function(other.numpy()))]
    )
    means = torch.stack([h[y == c].mean(0) for c in range(CLASSES)])
    close([asked(learn(NCM(), x, y))], [-(torch.cdist(other, means) ** 2)])
    one = learn(RanPAC(size=30, lam=2.0), x, y)
    H, Y = (h @ one.state.P).relu(), torch.nn.functional.one_hot(y, CLASSES).to(F64)
    W = torch.linalg.inv(H.T @ H + 2 * torch.eye(30, dtype=F64)) @ H.T @ Y
    close([asked(one)], [(other @ one.state.P).relu() @ W])


def test_fourier_features_have_the_inner_products_of_the_kernel() -> None:
    method = RanDumb(size=40_000, sigma=3.0)
    omega = torch.randn(64, method.size, generator=torch.Generator().manual_seed(0), dtype=F64) / method.sigma
    small = fresh(RanDumb(size=40, sigma=3.0)).state
    assert abs(float(small.omega.std()) * 3.0 - 1) < 0.05 and float(small.phase.max()) < 2 * math.pi
    phase = torch.rand(method.size, generator=torch.Generator().manual_seed(1), dtype=F64) * 2 * math.pi
    z = method.embed(small._replace(omega=omega, phase=phase), images(30)[0])
    x = images(30)[0].flatten(1)
    kernel = torch.exp(-(torch.cdist(x, x) ** 2) / (2 * method.sigma**2))
    assert float((z @ z.T - kernel).abs().max()) < 0.03 and float(kernel.min()) < 0.7


def test_filters_are_smooth_without_mean_and_of_length_1() -> None:
    W = fresh(METHODS["randumb-conv"]).state.omega
    assert W.shape == (8, 1, 3, 3)
    torch.testing.assert_close(W.flatten(1).norm(dim=1), torch.ones(8, dtype=F64))
    assert float(W.sum((1, 2, 3)).abs().max()) < 1e-12


@pytest.mark.parametrize("name", ["slda", "ncm", "ranpac"])
def test_on_the_first_task_the_network_learns_and_then_never_again(name: str) -> None:
    kinds: dict[str, Any] = {"slda": SLDA, "ncm": NCM, "ranpac": RanPAC}
    more = {"size": 30} if name == "ranpac" else {}
    method = kinds[name](on="first", **more)
    tasks = stream("class")
    one, frozen = (
        learner(method, scenario="class"),
        learner(kinds[name](on="network", **more), scenario="class"),
    )
    before = {k: p.detach().clone() for k, p in one.params.items()}
    run(tasks[:1], one, Order(epochs=3, batch_size=12))
    learned = {k: p.detach().clone() for k, p in one.params.items()}
    assert any(not torch.equal(learned[k], before[k]) for k in before)
    frozen.model.load_state_dict(learned)
    for task in tasks:
        for each in (one, frozen) if task.index else (frozen,):
            each.begin_task(task)
            for i in torch.arange(len(task.train)).split(20):
                each.observe(*task.train.batch(i))
            each.end_task()
    assert all(torch.equal(p, learned[k]) for k, p in one.params.items())
    x, _ = tasks[2].train.batch(torch.arange(20))
    if name != "ranpac":  # whose projection is drawn anew
        close([one.predict(x)], [frozen.predict(x)], 1e-5)
    assert one.accuracy(tasks[2].train, tasks[2]) > 0.9  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given", [{"size": 100, "grid": 3}, {"kernel": 0}, {"shrinkage": 0.0}, {"shrinkage": 1.5}]
)
def test_impossible_settings_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"RanDumb.{next(iter(given))}"):
        RanDumb(features="conv", **given)


def test_filters_larger_than_the_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 9 pixels"):
        fresh(RanDumb(features="conv", size=32, kernel=9))
