"""A-GEM against eq. 11 written out, and against GEM's programme with one constraint."""

from __future__ import annotations

import pytest
import torch
from tests.laws.toy import go, mlp, stream
from torch import Tensor, nn

from retain import GradientMethod, Learner, Naive, Optim
from retain.examples import Examples
from retain.methods.agem import AGEM
from retain.projection import project
from retain.types import Batch, Params


def after_two_tasks(method: AGEM) -> Learner:
    """Trained in double precision, so that what it holds is double too."""
    one = Learner(mlp().double(), method, Optim(lr=0.05), scenario="domain")
    for task in stream("domain")[:2]:
        x, y = task.train.batch(torch.arange(60))
        data = Examples(x.double(), y)
        one.begin_task(type(task)(task.index, task.name, data, None, None, task.classes))
        for k in range(5):
            one.observe(*data.batch(torch.arange(12 * k, 12 * k + 12)))
        one.end_task()
    return one


def step_on(one: Learner, seed: int) -> tuple[Batch, Params]:
    """A batch of the third task with its reference batch, and a random gradient."""
    method, rng = one.method, torch.Generator().manual_seed(seed)
    assert isinstance(method, GradientMethod)
    x, y = stream("domain")[2].train.batch(torch.arange(12))
    batch, _ = method.batch(
        one._bound, one.params, one.state, Batch(x.double(), y, torch.full_like(y, -1)), rng
    )
    g = {k: torch.randn(p.shape, generator=rng, dtype=p.dtype) for k, p in one.params.items()}
    return batch, g


def reference_gradient(one: Learner, batch: Batch) -> Tensor:
    """g_ref by plain autograd through the module itself."""
    x, y, _ = batch.extra["agem"]
    loss = nn.functional.cross_entropy(one.model(x), y)
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(one.model.parameters()))])


def flat(a: Params) -> Tensor:
    return torch.cat([v.reshape(-1) for v in a.values()])


@pytest.mark.parametrize("seed", range(6))
def test_the_step_is_eq_11_and_gems_with_one_constraint(seed: int) -> None:
    one = after_two_tasks(AGEM(memory_per_task=20, reference=15))
    batch, grads = step_on(one, seed)
    g, r = flat(grads), reference_gradient(one, batch)
    with torch.no_grad():
        found = flat(one.method.gradient(one._bound, one.params, one.state, batch, grads))  # type: ignore[attr-defined]
    if g @ r < 0:
        torch.testing.assert_close(found, g - (g @ r) / (r @ r) * r, rtol=1e-10, atol=1e-12)
        assert abs(float(found @ r)) < 1e-10 * float(g.norm() * r.norm())
    else:
        assert torch.equal(found, g)
    torch.testing.assert_close(found, project(g, r[None])[0], rtol=1e-8, atol=1e-10)


def test_both_sides_of_the_constraint_occur() -> None:
    one = after_two_tasks(AGEM(memory_per_task=20, reference=15))
    signs = set()
    for seed in range(6):
        batch, grads = step_on(one, seed)
        signs.add(bool(flat(grads) @ reference_gradient(one, batch) < 0))
    assert signs == {True, False}


def test_references_are_drawn_anew_each_step_from_all_past_tasks() -> None:
    one = after_two_tasks(AGEM(memory_per_task=20, reference=15))
    drawn = [step_on(one, s)[0].extra["agem"][0] for s in range(4)]
    assert all(len(d) == 15 for d in drawn) and not torch.equal(drawn[0], drawn[1])
    past = one.state.past[0].flatten(1).tolist()
    which = {past.index(row) // 20 for d in drawn for row in d.flatten(1).tolist()}
    assert which == {0, 1} and len(past) == 40


def test_without_memory_it_is_naive() -> None:
    a, _ = go(AGEM(memory_per_task=0), "class", "cnn")
    b, _ = go(Naive(), "class", "cnn")
    assert all(torch.equal(a.params[k], b.params[k]) for k in b.params)
