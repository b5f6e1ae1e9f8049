"""OWM: the recursion against the closed form, and what a step through P may still change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from retain import Learner, Optim
from retain.examples import Examples
from retain.methods.owm import OWM, followed
from retain.types import Params, Task

F64 = torch.float64


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("columns", [1, 7, 40])
def test_the_recursion_is_the_closed_form_and_the_papers_column_by_column(alpha: float, columns: int) -> None:
    rng = torch.Generator().manual_seed(columns)
    P, slow, eye = torch.eye(9, dtype=F64), torch.eye(9, dtype=F64), torch.eye(9, dtype=F64)
    S = torch.zeros(9, 9, dtype=F64)
    for _ in range(5):
        A = torch.randn(9, columns, generator=rng, dtype=F64)
        P = followed(P, A, alpha)
        S += A @ A.T
        for x in A.T:  # eq. 5 and 6
            k = slow @ x / (alpha + x @ slow @ x)
            slow = slow - torch.outer(k, x @ slow)
        torch.testing.assert_close(P, alpha * torch.linalg.inv(alpha * eye + S), rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(P, slow, rtol=1e-7, atol=1e-9)


def task(index: int) -> Task:
    """As many examples as one column of A takes, so that every column is one batch."""
    rng = torch.Generator().manual_seed(index)
    x = torch.rand(40, 1, 8, 8, generator=rng, dtype=F64)
    return Task(index, str(index), Examples(x, torch.arange(40) % 4), None, None, (0, 1, 2, 3))


def learn(one: Learner, t: Task) -> None:
    one.begin_task(t)
    for k in range(8):
        one.observe(*t.train.batch(torch.arange(10) + 10 * (k % 4)))


@pytest.mark.parametrize("optim", [Optim(lr=0.1), Optim("adam", lr=1e-3)], ids=["sgd", "adam"])
def test_old_inputs_give_what_they_gave_the_more_so_the_smaller_alpha(optim: Optim) -> None:
    """With one example a column, and room left, alpha -> 0 leaves old outputs alone."""
    drift = []
    for alpha in (1.0, 1e-3, 1e-6):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 60), nn.Tanh(), nn.Linear(60, 4)).double()
        one = Learner(model, OWM(alpha=alpha, mean_of=1), optim)
        learn(one, task(0))
        one.end_task()
        x, start = task(0).train.batch(torch.arange(40))[0], one.params["3.weight"].detach().clone()
        expected = one.predict(x)
        learn(one, task(1))
        drift.append(float((one.predict(x) - expected).abs().max()))
        assert not torch.equal(start, one.params["3.weight"])
    assert drift[0] > drift[1] > drift[2] and drift[2] < 1e-5


def joined(of: Params, layer: str) -> Tensor:
    """[W b]."""
    return torch.cat([of[f"{layer}.weight"].detach().flatten(1), of[f"{layer}.bias"].detach()[:, None]], 1)


def test_the_step_taken_is_the_optimisers_times_p() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4)).double()
    one = Learner(model, OWM(mean_of=20), Optim(lr=0.1))
    learn(one, task(0))
    one.end_task()
    x, y = task(1).train.batch(torch.arange(10))
    one.begin_task(task(1))
    before = {k: p.detach().clone() for k, p in one.params.items()}
    loss = nn.functional.cross_entropy(one.model(x), y)
    grads = dict(zip(before, torch.autograd.grad(loss, list(one.model.parameters())), strict=True))
    one.observe(x, y)
    for layer in ("0", "3"):
        expected = joined(before, layer) - 0.1 * joined(grads, layer) @ one.state.projectors[layer]
        torch.testing.assert_close(joined(one.params, layer), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mean_of", [40, 100])
def test_a_column_is_the_mean_input_at_each_position(mean_of: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 7), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4)).double()
    one = Learner(model, OWM(alpha=0.3, mean_of=mean_of), Optim(lr=0.1))
    learn(one, task(0))
    one.end_task()
    x = task(0).train.batch(torch.arange(40))[0]
    with torch.no_grad():
        h = model[:3](x)
    positions = [x[:, 0, i : i + 7, j : j + 7].flatten(1) for i in range(2) for j in range(2)]
    for layer, inputs in (("0", positions), ("3", [h])):
        A = torch.stack([torch.cat([z.mean(0), torch.ones(1, dtype=F64)]) for z in inputs], 1)
        expected = 0.3 * torch.linalg.inv(0.3 * torch.eye(len(A), dtype=F64) + A @ A.T)
        torch.testing.assert_close(one.state.projectors[layer], expected, rtol=1e-7, atol=1e-9)
