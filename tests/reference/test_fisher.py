"""The Fisher diagonal and group gradients against loops of single-example gradients, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from retain.curvature import covered, fisher, group_gradients
from retain.examples import Examples
from retain.problem import Binding
from retain.types import HIDDEN, Batch, Params, Problem, Spec

N, C = 9, 4
IMAGES, VECTORS, SEQUENCES = (2, 8, 8), (6,), (5, 6)


class Tied(nn.Module):
    """One weight in two layers; the second bias is its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, C)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.b(self.a(x).tanh()).tanh())
        return out


class Functional(nn.Module):
    """A layer's weight used past the layer, where no hook sees it."""

    def __init__(self, also: bool = False) -> None:
        super().__init__()
        self.fc, self.head, self.also = nn.Linear(6, 6), nn.Linear(6, C), also

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x).tanh() if self.also else x
        out: Tensor = self.head(nnf.linear(h, self.fc.weight).relu())
        return out


class Shy(nn.Module):
    """The weight's second use is silent for most examples, and for all of the first ones."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(6, 6), nn.Linear(6, C)

    def forward(self, x: Tensor) -> Tensor:
        again = nnf.linear(x, self.fc.weight) * (x[:, :1] > SHY).to(x.dtype)
        out: Tensor = self.head((self.fc(x) + again).tanh())
        return out


SHY = 0.5  # with the examples below: two of nine, and neither of the first two


class Twice(nn.Module):
    """One layer called two times, and a parameter that is no layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head, self.scale = nn.Linear(6, 6), nn.Linear(6, C), nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.fc(self.fc(x).tanh() * self.scale).tanh())
        return out


class Sequence(nn.Module):
    """[N, L, in]: a linear layer over every position, with LayerNorm, which goes the slow way."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.head = nn.Linear(6, 7), nn.LayerNorm(7), nn.Linear(7, C)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.fc(x)).relu().mean(1))
        return out


class Asking(nn.Module):
    """Goes another way where a value says so, as vmap cannot; with LayerNorm, which goes the slow way."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.head = nn.Linear(6, 7), nn.LayerNorm(7), nn.Linear(7, C)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.fc(x))
        out: Tensor = self.head(h.relu() if bool((x < 99).all()) else h)
        return out


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5, bias=False), nn.Tanh(), nn.Linear(5, C))


def conv(*args: int, **how: int | str | tuple[int, int]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        layer = nn.Conv2d(*args, **how)  # type: ignore[arg-type]
        width = layer(torch.zeros(1, *IMAGES)).numel()
        return nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(width, C))

    return make


def batchnorm() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.5),
        nn.Flatten(), nn.Linear(48, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.Linear(6, C),
    )  # fmt: skip
    for m in net:
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):  # as after some training
            assert m.running_mean is not None and m.running_var is not None
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
    return net


def inplace() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, C))


def frozen() -> nn.Module:
    net = mlp()
    next(net.parameters()).requires_grad_(False)
    return net


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, VECTORS),
    "one layer": (lambda: nn.Linear(6, C), VECTORS),
    "in-place ReLU": (inplace, VECTORS),
    "frozen weight": (frozen, VECTORS),
    "conv": (conv(2, 3, 3), IMAGES),
    "strided, padded conv": (conv(2, 3, 3, stride=2, padding=1, dilation=(2, 1)), IMAGES),
    "conv, odd kernel": (conv(2, 4, kernel_size=(2, 3), stride=(3, 2), padding=(1, 2)), IMAGES),
    "grouped conv": (conv(2, 4, 3, groups=2), IMAGES),
    "same-padded conv": (conv(2, 3, 3, padding="same"), IMAGES),
    "reflecting conv": (conv(2, 3, 3, padding=1, padding_mode="reflect"), IMAGES),
    "BatchNorm and Dropout": (batchnorm, IMAGES),
    "tied weights": (Tied, VECTORS),
    "functional": (Functional, VECTORS),
    "functional and layer": (lambda: Functional(also=True), VECTORS),
    "functional now and then": (Shy, VECTORS),
    "layer called twice": (Twice, VECTORS),
    "sequence and LayerNorm": (Sequence, SEQUENCES),
    "asks for a value": (Asking, VECTORS),
}
each_net = pytest.mark.parametrize("net", NETS)
MASK = torch.tensor([True, False, True, True])


def make(net: str, masked: bool = False, n: int = N) -> tuple[Problem, Params, Examples]:
    """A network of that kind in float64, and n examples; with a mask, class 1 is out of play."""
    torch.manual_seed(0)
    build, shape = NETS[net]
    binding = Binding(build().double())
    binding.model.train()
    x = torch.randn(n, *shape, dtype=torch.float64)
    if net == "functional now and then":
        x[:, 0] = torch.linspace(-2, 0.9, n).double()
    y = torch.tensor([0, 2, 3]).repeat(n)[:n]
    spec = Spec(shape, x.dtype, x.device, C, binding.names, None)
    problem = binding.problem(spec, lambda task: MASK.expand(len(task), -1) if masked else None)
    return problem, binding.own, Examples(x, y)


def single(problem: Problem, params: Params, x: Tensor, c: int) -> tuple[Params, float]:
    """d log p(c | x) / d p for one example x [1, ...] by plain autograd, and p(c | x)."""
    names = problem.spec.names
    logits = problem.logits(params, x, torch.tensor([HIDDEN]))
    allowed = problem.allowed(torch.tensor([HIDDEN]))
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    log_p = logits.log_softmax(1)[0, c]
    grads = torch.autograd.grad(log_p, [params[k] for k in names], allow_unused=True)
    zero = [torch.zeros_like(params[k]) if g is None else g for k, g in zip(names, grads, strict=True)]
    return dict(zip(names, zero, strict=True)), float(log_p.detach().exp())


def slow(problem: Problem, params: Params, data: Examples, labels: str) -> Params:
    """The definition: a loop over examples, and over labels."""
    total = {k: torch.zeros_like(params[k]) for k in problem.spec.names}
    for n in range(len(data)):
        x, y = data.batch(torch.tensor([n]))
        allowed = problem.allowed(torch.tensor([HIDDEN]))
        classes = [c for c in range(C) if allowed is None or bool(allowed[0, c])]
        if labels == "true":
            classes = [int(y)]
        if labels == "argmax":
            classes = [max(classes, key=lambda c: single(problem, params, x, c)[1])]
        for c in classes:
            g, p = single(problem, params, x, c)
            for k in total:
                total[k] += (p if labels == "exact" else 1.0) * g[k] ** 2 / len(data)
    return total


def assert_same(ours: Params, theirs: Params, tolerance: float = 1e-10) -> None:
    assert list(ours) == list(theirs)
    for k in theirs:
        assert ours[k].shape == theirs[k].shape and ours[k].dtype == torch.float64
        error = float((ours[k] - theirs[k]).abs().max())
        assert error <= tolerance * float(theirs[k].abs().max()), (k, error)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("labels", ["exact", "true", "argmax"])
@each_net
def test_fisher_equals_a_loop_of_single_example_gradients(net: str, labels: str, masked: bool) -> None:
    problem, params, data = make(net, masked)
    before = {k: p.detach().clone() for k, p in params.items()}
    with torch.no_grad():  # as in end_task
        ours = fisher(problem, params, data, HIDDEN, generator(), labels)  # type: ignore[arg-type]
    assert_same(ours, slow(problem, params, data, labels))
    assert all(torch.equal(p, before[k]) for k, p in params.items()) and not any(
        m._forward_hooks
        for m in problem.trace.__self__.model.modules()  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("labels", ["exact", "true", "sampled"])
@each_net
def test_trap_1_the_fisher_does_not_depend_on_the_batch_size(net: str, labels: str) -> None:
    problem, params, data = make(net)
    whole = fisher(problem, params, data, HIDDEN, generator(), labels)  # type: ignore[arg-type]
    for size in (1, 2, 4, 7):
        part = fisher(problem, params, data, HIDDEN, generator(), labels, batch_size=size)  # type: ignore[arg-type]
        assert_same(part, whole)


def test_trap_1_it_is_no_square_of_a_batch_mean_gradient() -> None:
    problem, params, data = make("mlp", n=64)
    x, y = data.batch(torch.arange(64))
    loss = problem.loss(params, Batch(x, y, torch.full_like(y, HIDDEN)), train=False)
    of_mean = torch.autograd.grad(loss, [params[k] for k in problem.spec.names])
    trace = sum(float(f.sum()) for f in fisher(problem, params, data, HIDDEN, generator(), "true").values())
    assert trace > 2 * sum(float((g**2).sum()) for g in of_mean)


def test_trap_2_it_is_divided_by_the_number_of_examples() -> None:
    problem, params, data = make("mlp")
    one = fisher(problem, params, data.subset(torch.tensor([3])), HIDDEN, generator())
    many = fisher(problem, params, data.subset(torch.tensor([3] * 10)), HIDDEN, generator(), batch_size=4)
    assert_same(many, one)


def test_trap_18_true_labels_are_not_weighted_by_their_probability() -> None:
    problem, params, data = make("mlp")
    weighted = {k: torch.zeros_like(params[k]) for k in problem.spec.names}
    for n in range(N):
        x, y = data.batch(torch.tensor([n]))
        g, p = single(problem, params, x, int(y))
        for k in weighted:
            weighted[k] += p * g[k] ** 2 / N
    ours = fisher(problem, params, data, HIDDEN, generator(), "true")
    assert_same(ours, slow(problem, params, data, "true"))
    assert all(float(ours[k].sum()) > 1.5 * float(weighted[k].sum()) for k in ours)


@pytest.mark.parametrize("masked", [False, True])
def test_sampled_labels_have_the_exact_fisher_as_their_mean(masked: bool) -> None:
    problem, params, data = make("mlp", masked)
    exact = fisher(problem, params, data, HIDDEN, generator())
    rng = generator(1)
    draws = [fisher(problem, params, data, HIDDEN, rng, "sampled") for _ in range(400)]
    for k, truth in exact.items():
        sample = torch.stack([d[k] for d in draws])
        error = (sample.mean(0) - truth).abs()
        bound = 5 * sample.std(0) / 400**0.5 + 1e-12
        assert bool((error <= bound).all()), k


def test_sampled_labels_follow_the_models_probabilities() -> None:
    """On a head of biases alone the Fisher of each label tells which label was drawn."""
    torch.manual_seed(0)
    model = nn.Linear(6, C).double()
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([0.6, 0.0, 0.3, 0.1], dtype=torch.float64).log())  # one class never
    binding = Binding(model)
    spec = Spec(VECTORS, torch.float64, torch.device("cpu"), C, binding.names, None)
    n = 4000
    data = Examples(torch.ones(n, 6, dtype=torch.float64), torch.zeros(n, dtype=torch.int64))
    problem = binding.problem(spec, lambda task: None)
    F = fisher(problem, binding.own, data, HIDDEN, generator(), "sampled", batch_size=512)["bias"]
    p = model.bias.detach().exp()
    share = (F - p**2) / (1 - 2 * p)  # F_c = f (1 - p)^2 + (1 - f) p^2, f the share of label c
    assert float(share[1]) == 0.0
    torch.testing.assert_close(share, p, atol=4 * (0.25 / n) ** 0.5, rtol=0)


def test_n_examples_are_drawn_without_replacement_and_repeatably() -> None:
    problem, params, data = make("mlp")
    a, b = (fisher(problem, params, data, HIDDEN, generator(5), n=4) for _ in range(2))
    assert_same(a, b, 0)
    singles = [fisher(problem, params, data.subset(torch.tensor([i])), HIDDEN, generator()) for i in range(N)]
    flat = torch.stack([torch.cat([f.flatten() for f in s.values()]) for s in singles])
    found = torch.cat([f.flatten() for f in a.values()])
    share = torch.linalg.lstsq(flat.T, found[:, None]).solution[:, 0]
    assert sorted(share.round(decimals=6).tolist()) == [0.0] * 5 + [0.25] * 4
    assert_same(
        fisher(problem, params, data, HIDDEN, generator(), n=1000), slow(problem, params, data, "exact")
    )


def test_the_fisher_of_no_examples_is_refused() -> None:
    problem, params, data = make("mlp")
    with pytest.raises(ValueError, match="no examples"):
        fisher(problem, params, data.subset(torch.arange(0)), HIDDEN, generator())


@each_net
def test_what_counts_as_covered_is_what_autograd_confirms(net: str) -> None:
    problem, params, data = make(net)
    x, _ = data.batch(torch.arange(N))
    layers = covered(problem, params, x, torch.full((N,), HIDDEN))
    expected = {
        "mlp": ("0", "2", "4"), "one layer": ("",), "in-place ReLU": ("0", "2"), "conv": ("0", "3"),
        "frozen weight": ("0", "2", "4"), "strided, padded conv": ("0", "3"), "conv, odd kernel": ("0", "3"),
        "grouped conv": ("3",), "same-padded conv": ("3",), "reflecting conv": ("3",),
        "BatchNorm and Dropout": ("0", "6", "9"), "tied weights": ("b", "head"), "functional": ("head",),
        "functional and layer": ("head",), "functional now and then": ("head",),
        "layer called twice": ("head",), "sequence and LayerNorm": ("fc", "head"), "asks for a value": ("fc", "head"),
    }  # fmt: skip
    assert layers == expected[net]


@pytest.mark.parametrize(
    "ends", [(0, 4, 5, N), (0, N // 3, 2 * N // 3, N)], ids=["of several sizes", "alike"]
)
@pytest.mark.parametrize("masked", [False, True])
@each_net
def test_group_gradients_equal_one_autograd_pass_a_group(
    net: str, masked: bool, ends: tuple[int, ...]
) -> None:
    problem, params, data = make(net, masked)
    x, y = data.batch(torch.arange(N))
    batch = Batch(x, y, torch.full((N,), HIDDEN))
    groups = [slice(a, b) for a, b in itertools.pairwise(ends)]
    with torch.no_grad():
        G = group_gradients(problem, params, batch, groups, covered(problem, params, x, batch.task))
    for row, g in zip(G, groups, strict=True):
        loss = problem.loss(params, Batch(x[g], y[g], batch.task[g]), train=False)
        names = problem.spec.names
        grads = torch.autograd.grad(loss, [params[k] for k in names], allow_unused=True)
        flat = [
            (torch.zeros_like(params[k]) if d is None else d).flatten()
            for k, d in zip(names, grads, strict=True)
        ]
        torch.testing.assert_close(row, torch.cat(flat), rtol=1e-10, atol=1e-12)


def test_group_gradients_of_target_probabilities() -> None:
    problem, params, data = make("mlp")
    x, _ = data.batch(torch.arange(N))
    y = torch.rand(N, C, dtype=torch.float64).softmax(1)
    batch = Batch(x, y, torch.full((N,), HIDDEN))
    (G,) = group_gradients(problem, params, batch, [slice(0, N)], covered(problem, params, x, batch.task))
    grads = torch.autograd.grad(problem.loss(params, batch), [params[k] for k in problem.spec.names])
    torch.testing.assert_close(G, torch.cat([g.flatten() for g in grads]), rtol=1e-10, atol=1e-12)
