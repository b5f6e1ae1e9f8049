"""GPM: steps orthogonal to the kept inputs, old outputs as they were, bases as by NumPy's SVD."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retain import Learner, Optim
from retain.examples import Examples
from retain.inputs import patches
from retain.methods.gpm import GPM, grown
from retain.types import Task


def net() -> nn.Module:
    """Linear and convolutional layers with biases, and nothing that moves by itself."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 20), nn.ReLU(),
        nn.Linear(20, 4),
    ).double()  # fmt: skip


def task(index: int, rank: int = 5) -> Task:
    """Inputs in a space of few dimensions, another one for each task."""
    rng = torch.Generator().manual_seed(index)
    basis = torch.rand(rank, 64, generator=rng, dtype=torch.float64)
    x = (torch.rand(40, rank, generator=rng, dtype=torch.float64) @ basis / rank).view(-1, 1, 8, 8)
    data = Examples(x, torch.arange(40) % 4)
    return Task(index, str(index), data, None, None, (0, 1, 2, 3))


OPTIMS = [Optim(lr=0.1), Optim("sgd", lr=0.05, momentum=0.9, weight_decay=1e-3), Optim("adam", lr=1e-3)]


def learn(one: Learner, t: Task, steps: int = 8) -> None:
    one.begin_task(t)
    for k in range(steps):
        i = torch.arange(10) + 10 * (k % 4)
        one.observe(*t.train.batch(i))


@pytest.mark.parametrize("optim", OPTIMS, ids=["sgd", "momentum and decay", "adam"])
def test_every_step_is_orthogonal_to_the_kept_inputs(optim: Optim) -> None:
    one = Learner(net(), GPM(threshold=0.95), optim)
    learn(one, task(0))
    one.end_task()
    before = {k: p.detach().clone() for k, p in one.params.items()}
    learn(one, task(1))
    assert set(one.state.bases) == {"0", "3", "5"}
    moved = 0.0
    for layer, M in one.state.bases.items():
        parts = [one.params[k].detach() - before[k] for k in (f"{layer}.weight", f"{layer}.bias")]
        step = torch.cat([parts[0].flatten(1), parts[1][:, None]], 1)
        torch.testing.assert_close(M.T @ M, torch.eye(M.shape[1], dtype=M.dtype), rtol=0, atol=1e-12)
        assert float((step @ M).abs().max()) <= 1e-5 * float(step.norm()) + 1e-15
        moved += float(step.norm())
    assert moved > 1e-3  # it does learn


def test_a_step_of_sgd_is_eq_7() -> None:
    one = Learner(net(), GPM(threshold=0.95), Optim(lr=0.1))
    learn(one, task(0))
    one.end_task()
    one.begin_task(task(1))
    x, y = task(1).train.batch(torch.arange(10))
    before = {k: p.detach().clone() for k, p in one.params.items()}
    loss = nn.functional.cross_entropy(one.model(x), y)
    grads = dict(zip(before, torch.autograd.grad(loss, list(one.model.parameters())), strict=True))
    one.observe(x, y)
    for layer, M in one.state.bases.items():
        g = torch.cat([grads[f"{layer}.weight"].flatten(1), grads[f"{layer}.bias"][:, None]], 1)
        expected = -0.1 * (g - g @ M @ M.T)
        step = [one.params[k].detach() - before[k] for k in (f"{layer}.weight", f"{layer}.bias")]
        found = torch.cat([step[0].flatten(1), step[1][:, None]], 1)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optim", OPTIMS, ids=["sgd", "momentum and decay", "adam"])
def test_with_threshold_1_old_inputs_give_what_they_gave(optim: Optim) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.Tanh(), nn.Linear(100, 4)).double()
    one = Learner(model, GPM(threshold=1.0), optim)
    learn(one, task(0))
    one.end_task()
    x = task(0).train.batch(torch.arange(40))[0]
    expected, start = one.predict(x), one.params["3.weight"].detach().clone()
    learn(one, task(1), 20)
    torch.testing.assert_close(one.predict(x), expected, rtol=0, atol=1e-5)
    assert not torch.equal(start, one.params["3.weight"])


@pytest.mark.parametrize("eps", [0.5, 0.9, 0.99, 0.999])
def test_a_basis_grows_as_the_papers_svd_says(eps: float) -> None:
    rng = np.random.default_rng(0)
    spectrum = 0.7 ** np.arange(12)
    M: Tensor = torch.zeros(12, 0, dtype=torch.float64)
    for _ in range(4):
        R = (rng.normal(size=(12, 12)) * spectrum) @ rng.normal(size=(12, 50))
        old = M.numpy()
        R_hat = R - old @ (old.T @ R)
        U, S, _ = np.linalg.svd(R_hat, full_matrices=False)
        total, k = (R**2).sum(), 0
        while ((old.T @ R) ** 2).sum() + (S[:k] ** 2).sum() < eps * total:
            k += 1
        M = grown(M, torch.from_numpy(R), eps)
        P = np.concatenate([old, U[:, :k]], 1)
        assert M.shape == P.shape
        np.testing.assert_allclose((M @ M.T).numpy(), P @ P.T, atol=1e-9)


def test_patches_times_the_weights_are_what_the_layers_give() -> None:
    one = Learner(net(), GPM())
    learn(one, task(0), 1)
    x, y = task(0).train.batch(torch.arange(6))
    _, layers = one._bound.trace(one.params, x, torch.full_like(y, -1))
    for name, layer in layers.items():
        W = torch.cat(
            [one.params[f"{name}.weight"].flatten(1), one.params[f"{name}.bias"][:, None]], 1
        ).detach()
        out = patches(layer, True) @ W.T
        theirs = (
            layer.output.detach().flatten(2).transpose(1, 2)
            if layer.kind == "conv2d"
            else layer.output[:, None]
        )
        torch.testing.assert_close(out, theirs.detach(), rtol=1e-10, atol=1e-12)


def test_norms_are_frozen_after_the_first_task() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4))
    one = Learner(model.double(), GPM(), Optim("adam", lr=1e-2))
    learn(one, task(0))
    one.end_task()
    before = {k: one.params[k].detach().clone() for k in ("2.weight", "2.bias")}
    learn(one, task(1))
    assert all(torch.equal(one.params[k], v) for k, v in before.items())


@pytest.mark.parametrize(
    "bad", [{"threshold": 0.0}, {"threshold": 1.1}, {"threshold_growth": 2.0}, {"examples": 0}]
)
def test_numbers_outside_their_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        GPM(**bad)  # type: ignore[arg-type]
