"""Kronecker factors against loops over examples, labels and patches, and against explicit torch.kron."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from tests.laws.toy import cnn, double, mlp, stream
from tests.reference.test_fisher import NETS, assert_same, generator, make, single
from torch import Tensor, nn

from retain import Learner, Optim
from retain.curvature import Kronecker, Quadratic, fisher, kfac
from retain.curvature.kronecker import Factors, closest_pair, joined, nearest_pair
from retain.examples import Examples
from retain.methods.kfac_laplace import KFACLaplace
from retain.types import HIDDEN, Batch, Layer, Params, Problem

F64 = torch.float64
T0 = torch.tensor([HIDDEN])
each_net = pytest.mark.parametrize("net", NETS)


def patches(layer: Layer) -> Tensor:
    """What W is applied to at each position of one example, cut out one by one: [positions, in]."""
    m, a = layer.module, layer.input[0]
    if not isinstance(m, nn.Conv2d):
        return a.reshape(-1, a.shape[-1])
    assert not isinstance(m.padding, str)
    (ph, pw), (sh, sw), (dh, dw), (kh, kw) = m.padding, m.stride, m.dilation, m.kernel_size
    a = nnf.pad(a, (pw, pw, ph, ph))
    out = []
    for i in range(layer.output.shape[2]):
        for j in range(layer.output.shape[3]):
            rows = [i * sh + u * dh for u in range(kh)]
            columns = [j * sw + v * dw for v in range(kw)]
            out.append(a[:, rows][:, :, columns].flatten())
    return torch.stack(out)


def slow(
    problem: Problem, params: Params, data: Examples, labels: str, layers: Params
) -> tuple[Params, Params]:
    """The definition of A and G: a loop over examples, labels and positions."""
    A: Params = {}
    G: Params = {}
    for n in range(len(data)):
        x, y = data.batch(torch.tensor([n]))
        logits, traced = problem.trace(params, x, T0)
        allowed = problem.allowed(T0)
        z = logits if allowed is None else logits.masked_fill(~allowed, -torch.inf)
        log_p = z.log_softmax(1)[0]
        for k, layer in ((k, traced[k]) for k in layers):
            bias = f"{k}.bias" if k else "bias"
            for a in patches(layer):
                a = torch.cat((a, torch.ones(1, dtype=F64))) if bias in problem.spec.names else a
                A[k] = A.get(k, 0) + torch.outer(a, a) / len(data)
            for c in [int(y)] if labels == "true" else log_p.isfinite().nonzero()[:, 0].tolist():
                (g,) = torch.autograd.grad(log_p[c], layer.output, retain_graph=True)
                g = g[0].flatten(1).T if layer.kind == "conv2d" else g[0].reshape(-1, g.shape[-1])
                weight = 1.0 if labels == "true" else float(log_p[c].detach().exp())
                for one in g:
                    G[k] = G.get(k, 0) + weight * torch.outer(one, one) / len(g) / len(data)
    return A, G


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("labels", ["exact", "true"])
@each_net
def test_factors_equal_a_loop_over_examples_labels_and_patches(net: str, labels: Any, masked: bool) -> None:
    problem, params, data = make(net, masked)
    with torch.no_grad():
        found = kfac(problem, params, data, HIDDEN, generator(), labels, batch_size=4)
    A, G = slow(problem, params, data, labels, found.A)
    home = {f"{k}.{w}" if k else w for k in found.A for w in ("weight", "bias")} & set(problem.spec.names)
    assert_same(found.A, A)
    assert_same(found.G, G)
    diagonal = fisher(problem, params, data, HIDDEN, generator(), labels)
    assert_same(found.rest, {k: d for k, d in diagonal.items() if k not in home})


def test_layers_that_cannot_be_factored_go_the_diagonal_way() -> None:
    expected = {
        "mlp": set(), "conv": set(), "sequence and LayerNorm": {"norm.weight", "norm.bias"},
        "frozen weight": {"0.bias"}, "grouped conv": {"0.weight", "0.bias"},
        "tied weights": {"a.weight", "a.bias", "b.bias"},
        "BatchNorm and Dropout": {"1.weight", "1.bias", "7.weight", "7.bias"},
        "layer called twice": {"fc.weight", "fc.bias", "scale"},
    }  # fmt: skip
    for net, rest in expected.items():
        problem, params, data = make(net)
        found = kfac(problem, params, data, HIDDEN, generator())
        assert set(found.rest) == rest, net


def dense(problem: Problem, params: Params, data: Examples, layer: str) -> Tensor:
    """The Fisher block of a layer, weights row by row with the bias at the end of each: slow and exact."""
    rows: list[Tensor] = []
    for n in range(len(data)):
        x, _ = data.batch(torch.tensor([n]))
        for c in range(4):
            g, p = single(problem, params, x, c)
            columns = g[f"{layer}.weight" if layer else "weight"][0].numel()
            columns += (f"{layer}.bias" if layer else "bias") in g
            v = joined(g, layer, columns).flatten()
            rows.append(p**0.5 * v)
    return torch.stack(rows).T @ torch.stack(rows) / len(data)


@pytest.mark.parametrize("net", ["mlp", "one layer", "in-place ReLU", "layer called twice"])
def test_of_one_example_the_product_is_the_dense_fisher(net: str) -> None:
    problem, params, data = make(net, n=1)
    found = kfac(problem, params, data, HIDDEN, generator())
    for k in found.A:
        torch.testing.assert_close(torch.kron(found.G[k], found.A[k]), dense(problem, params, data, k))


def test_where_activations_and_gradients_are_independent_the_product_is_the_dense_fisher() -> None:
    problem, params, data = make("one layer")
    assert float(dependence(problem, params, data)) > 1e-2
    with torch.no_grad():
        params["weight"].zero_()  # every example has the same p, so the same gradients
    assert float(dependence(problem, params, data)) < 1e-12


def dependence(problem: Problem, params: Params, data: Examples) -> Tensor:
    """How far the product is from the dense Fisher, relatively."""
    found = kfac(problem, params, data, HIDDEN, generator())
    truth = dense(problem, params, data, "")
    error: Tensor = (torch.kron(found.G[""], found.A[""]) - truth).norm() / truth.norm()
    return error


def test_sampled_labels_have_the_exact_factors_as_their_mean() -> None:
    problem, params, data = make("mlp")
    exact = kfac(problem, params, data, HIDDEN, generator())
    rng = generator(1)
    draws = [kfac(problem, params, data, HIDDEN, rng, "sampled") for _ in range(200)]
    for k, truth in exact.G.items():
        sample = torch.stack([d.G[k] for d in draws])
        assert bool(((sample.mean(0) - truth).abs() <= 5 * sample.std(0) / 200**0.5 + 1e-12).all()), k
        assert torch.equal(draws[0].A[k], exact.A[k])


def test_n_examples_are_drawn_repeatably_and_none_is_refused() -> None:
    problem, params, data = make("mlp")
    a, b = (kfac(problem, params, data, HIDDEN, generator(5), n=4) for _ in range(2))
    assert_same(a.A, b.A, 0)
    assert float(a.A["0"][-1, -1]) == 1.0  # the mean of the homogeneous 1
    with pytest.raises(ValueError, match="no examples"):
        kfac(problem, params, data.subset(torch.arange(0)), HIDDEN, generator())


# ---- penalties ----


def psd(n: int, rng: torch.Generator, rank: int | None = None) -> Tensor:
    x = torch.randn(n, rank or n, generator=rng, dtype=F64)
    return x @ x.T


def parts(K: int, seed: int = 0) -> list[tuple[Factors, Params]]:
    """Tasks' factors and weights: a conv layer, a linear layer without bias, and a BatchNorm scale."""
    rng = generator(seed)
    shapes = {"c.weight": (3, 2, 2, 2), "c.bias": (3,), "l.weight": (4, 5), "n.weight": (3,)}
    made = []
    for _ in range(K):
        A, G = {"c": psd(9, rng), "l": psd(5, rng, 2)}, {"c": psd(3, rng), "l": psd(4, rng, 1)}
        rest = {"n.weight": torch.rand(3, generator=rng, dtype=F64)}
        where = {k: torch.randn(s, generator=rng, dtype=F64) for k, s in shapes.items()}
        made.append((Factors(A, G, rest), where))
    return made


def explicit(factors: list[Factors], anchors: list[Params], params: Params) -> Tensor:
    """sum_k (theta - theta_k)' H_k (theta - theta_k), with torch.kron's matrices."""
    total = torch.zeros((), dtype=F64)
    for f, anchor in zip(factors, anchors, strict=True):
        d = {k: params[k] - anchor[k] for k in anchor}
        for k in f.A:
            v = d[f"{k}.weight"].flatten(1)
            if len(f.A[k]) > v.shape[1]:
                v = torch.cat((v, d[f"{k}.bias"][:, None]), 1)
            total = total + v.flatten() @ torch.kron(f.G[k], f.A[k]) @ v.flatten()
        total = total + sum((w * d[k] ** 2).sum() for k, w in f.rest.items())
    return total


@pytest.mark.parametrize("latest", [False, True])
@pytest.mark.parametrize("K", [1, 2, 5])
def test_value_and_pull_equal_autograd_of_the_explicit_sum(K: int, latest: bool) -> None:
    tasks = parts(K)
    penalty = Kronecker.around(*tasks[0])
    for f, where in tasks[1:]:
        penalty = penalty.plus(Kronecker.around(f, where))
    anchors = [where for _, where in tasks]
    if latest:
        penalty, anchors = penalty.recentred(anchors[-1]), [anchors[-1]] * K
    params = {k: torch.randn_like(t).requires_grad_() for k, t in anchors[0].items()}
    truth = explicit([f for f, _ in tasks], anchors, params)
    assert penalty.value(params) == pytest.approx(float(truth.detach()), rel=1e-12)
    expected = torch.autograd.grad(0.7 / 2 * truth, list(params.values()))
    grads = {k: torch.full_like(p, 0.25, requires_grad=False) for k, p in params.items()}
    given = dict(grads)
    found = penalty.pull(0.7, params, grads)
    for k, e in zip(params, expected, strict=True):
        torch.testing.assert_close(found[k] - 0.25, e, rtol=1e-11, atol=1e-11)
        assert found[k] is given[k], "in place"
    if latest:
        assert abs(penalty.value(anchors[-1])) < 1e-9 * penalty.constant


def test_a_pull_of_strength_0_changes_no_bit() -> None:
    (one,) = parts(1)
    grads = {k: torch.randn_like(t) for k, t in one[1].items()}
    before = {k: g.clone() for k, g in grads.items()}
    found = Kronecker.around(*one).pull(0.0, parts(1, 1)[0][1], grads)
    assert all(torch.equal(found[k], g) for k, g in before.items())


def test_the_largest_second_derivative() -> None:
    tasks = parts(3)
    penalty = Kronecker.around(*tasks[0])
    for f, where in tasks[1:]:
        penalty = penalty.plus(Kronecker.around(f, where))
    blocks = [sum(torch.kron(f.G[k], f.A[k]) for f, _ in tasks) for k in ("c", "l")]
    truth = max(float(torch.linalg.eigvalsh(b)[-1]) for b in blocks)
    assert truth * (1 - 1e-3) <= penalty.largest(100) <= truth * (1 + 1e-9)
    only_rest = penalty._replace(A={}, G={}, moment={}, rest=Quadratic({"n.weight": torch.ones(3)}, {}, 0.0))
    assert only_rest.largest() == 1.0


def test_the_mean_of_the_diagonal_over_each_layer() -> None:
    tasks = parts(3)
    penalty = Kronecker.around(*tasks[0])
    for f, where in tasks[1:]:
        penalty = penalty.plus(Kronecker.around(f, where))
    found = penalty.by_layer()
    for k in ("c", "l"):
        dense = torch.stack([torch.kron(f.G[k], f.A[k]) for f, _ in tasks]).sum(0)
        assert found[k] == pytest.approx(float(dense.diagonal().mean()), rel=1e-12)
    (norm,) = set(found) - {"c", "l"}
    rest = [torch.cat([f.rest[k].flatten() for k in f.rest]) for f, _ in tasks]
    assert found[norm] == pytest.approx(float(torch.stack(rest).sum(0).mean()), rel=1e-12)


def test_the_nearest_pair_is_the_leading_singular_pair_of_the_rearranged_sum() -> None:
    rng = generator()
    A, G = torch.stack([psd(5, rng) for _ in range(3)]), torch.stack([psd(4, rng) for _ in range(3)])
    X, Y = nearest_pair(A, G)
    R = torch.einsum("kij,kpq->ijpq", A, G).reshape(25, 16)
    u, s, v = torch.linalg.svd(R)
    torch.testing.assert_close(torch.outer(X.flatten(), Y.flatten()), s[0] * torch.outer(u[:, 0], v[0]))
    assert float(torch.linalg.eigvalsh(X)[0]) > 0 and float(torch.linalg.eigvalsh(Y)[0]) > 0
    same = torch.stack([A[0], 2 * A[0]])
    X, Y = nearest_pair(same, G[:2])  # then the sum is a product
    torch.testing.assert_close(torch.kron(Y, X), torch.kron(G[0] + 2 * G[1], A[0]))


def kl(P: Tensor, Q: Tensor) -> float:
    """KL(N(0, Q^-1) || N(0, P^-1)), but for a constant."""
    return float((torch.linalg.solve(Q, P).diagonal().sum() + torch.logdet(Q) - torch.logdet(P)) / 2)


def test_the_closest_pair_is_where_the_divergence_is_least() -> None:
    rng = generator()
    A, G, B, H = psd(5, rng), psd(4, rng), psd(5, rng, 2), psd(4, rng, 3)
    P = torch.kron(G, A) + torch.kron(H, B)
    X, Y = closest_pair(A, G, B, H)
    least = kl(P, torch.kron(Y, X))
    for _ in range(50):  # any other pair is farther
        dX, dY = (1e-3 * psd(n, rng) * torch.randn((), generator=rng, dtype=F64) for n in (5, 4))
        assert kl(P, torch.kron(Y + dY, X + dX)) > least
    leaves = [X.clone().requires_grad_(), Y.clone().requires_grad_()]
    Q = torch.kron(leaves[1], leaves[0])
    value = torch.linalg.solve(Q, P).diagonal().sum() + torch.logdet(Q)
    for g in torch.autograd.grad(value, leaves):
        assert float(g.abs().max()) < 1e-8
    X, Y = closest_pair(A, G, 2 * A, H)
    torch.testing.assert_close(torch.kron(Y, X), torch.kron(G + 2 * H, A))


# ---- the method ----


def test_linear_gaussian_tasks_one_after_another_equal_joint_training() -> None:
    """Squared loss on W x: the Hessian of a task is I (x) X'X, so Laplace's approximation is exact."""
    rng = generator()
    seen: list[tuple[Tensor, Tensor]] = []
    penalty: Kronecker | None = None
    for t in range(4):
        X = torch.randn(4, 7, generator=rng, dtype=F64)  # fewer examples than inputs until the second task
        X[:, -1] = 1  # the bias
        Y = torch.randn(4, 3, generator=rng, dtype=F64)
        prior = 1e-3 * torch.eye(7, dtype=F64) if t == 0 else torch.zeros(7, 7, dtype=F64)
        seen.append((X, Y))
        # least |X W' - Y|^2 + (W - W_t)' Lambda (W - W_t): (X'X + A) W' = X'Y + m'
        A = prior if penalty is None else penalty.A["l"].sum(0)
        m = torch.zeros(3, 7, dtype=F64) if penalty is None else penalty.moment["l"]
        W = torch.linalg.solve(X.T @ X + A, X.T @ Y + m.T).T
        params = {"l.weight": W[:, :-1].clone(), "l.bias": W[:, -1].clone()}
        H = Factors({"l": X.T @ X + prior}, {"l": torch.eye(3, dtype=F64)}, {})
        new = Kronecker.around(H, params)
        penalty = new if penalty is None else penalty.plus(new).recentred(params)
        X_all, Y_all = (torch.cat(p) for p in zip(*seen, strict=True))
        joint = torch.linalg.solve(X_all.T @ X_all + 1e-3 * torch.eye(7, dtype=F64), X_all.T @ Y_all).T
        assert float((W - joint).abs().max()) < 1e-8, t


@pytest.mark.parametrize("build", [mlp, cnn])
@pytest.mark.parametrize("around", ["latest", "each"])
def test_its_gradient_is_that_of_the_paper(build: Any, around: Any) -> None:
    torch.manual_seed(0)
    method = KFACLaplace(lam=3.0, around=around, examples=None)
    with double():
        one = Learner(build().double(), method, Optim(lr=0.05))
        factors, anchors = [], []
        for task in stream("domain"):
            one.begin_task(task)
            for index in torch.arange(60).split(12):
                one.observe(*task.train.batch(index))
            one.end_task()
            problem = one._bound
            factors.append(kfac(problem, one.params, task.train, HIDDEN, generator()))
            anchors.append({k: one.params[k].detach().clone() for k in problem.spec.names})
        x, y = stream("domain")[0].train.batch(torch.arange(20))
    anchors = [anchors[-1]] * 3 if around == "latest" else anchors
    names = problem.spec.names
    with torch.no_grad():
        for k in names:
            one.params[k].add_(0.1 * torch.randn(one.params[k].shape, dtype=F64))
    batch = Batch(x, y, torch.full_like(y, HIDDEN))
    loss = problem.loss(one.params, batch, train=False)
    leaves = [one.params[k] for k in names]
    plain = dict(zip(names, torch.autograd.grad(loss, leaves, retain_graph=True), strict=True))
    truth = explicit(factors, anchors, {k: one.params[k] for k in names})
    expected = torch.autograd.grad(loss + 3.0 / 2 * truth, leaves)
    found = method.gradient(problem, one.params, one.state, batch, plain)
    for k, e in zip(names, expected, strict=True):
        torch.testing.assert_close(found[k], e, rtol=1e-9, atol=1e-11)
    assert one.state.penalty.value(one.params) == pytest.approx(float(truth.detach()), rel=1e-9)


def test_merged_into_one_pair_it_is_around_the_latest_weights_and_does_not_grow() -> None:
    one = Learner(mlp(), KFACLaplace(merge="nearest", examples=None), Optim(lr=0.05))
    for task in stream("domain"):
        one.begin_task(task)
        one.observe(*task.train.batch(torch.arange(60)))
        one.end_task()
        penalty = one.state.penalty
        assert {len(a) for a in penalty.A.values()} == {1}
        assert abs(penalty.value(one.params)) < 1e-4 * penalty.constant
        g = penalty.pull(1.0, one.params, {k: torch.zeros_like(p) for k, p in one.params.items()})
        assert max(float(v.abs().max()) for v in g.values()) < 1e-5
    assert KFACLaplace(merge="nearest").needs.growth == "constant"
    assert KFACLaplace().needs.growth == "with tasks"
