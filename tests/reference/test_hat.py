"""HAT: earlier tasks' outputs unchanged, and each of the paper's formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
from tests.laws.toy import ORDER, learner, stream
from tests.reference.earlier import OPTIMS, learn, outputs
from torch import Tensor, nn

from retain import GradientMethod, Learner, Optim, batches
from retain.methods.hat import HAT
from retain.types import Batch


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("optim", OPTIMS, ids=["sgd", "momentum and decay", "adam"])
def test_earlier_tasks_outputs_stay_as_they_were(model: str, optim: Optim) -> None:
    one = learner(HAT(), model, optim=optim, scenario="task")
    expected: dict[int, Tensor] = {}
    for task in stream("task"):
        start = {k: p.detach().clone() for k, p in one.params.items()}
        learn(one, task)
        one.end_task()
        for t, old in expected.items():
            torch.testing.assert_close(outputs(one, stream("task")[t]), old, rtol=0, atol=1e-6)
        expected[task.index] = outputs(one, task)
        first = next(iter(start))
        assert not torch.equal(one.params[first], start[first]), "it does learn"


def in_second_task() -> tuple[Learner, Batch]:
    """Amid the second task, in double precision, with the batch of the next step."""
    one = Learner(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4)),
        HAT(s_max=50.0), Optim(lr=0.1), scenario="task",
    )  # fmt: skip
    learn(one, stream("task")[0])
    one.end_task()
    one.begin_task(stream("task")[1])
    x, y = stream("task")[1].train.batch(torch.arange(12))
    one.observe(x, y)
    assert isinstance(one.method, GradientMethod)
    batch, one.state = one.method.batch(
        one._bound, one.params, one.state, Batch(x, y, torch.ones_like(y)), one.rng
    )
    return one, batch


def test_objective_is_the_gated_network_written_out() -> None:
    one, batch = in_second_task()
    p, s, used = one.params, one.state.clock.s, one.state.used
    a = [torch.sigmoid(s * p[f"hat.1.{k}"]) for k in ("1", "3")]
    h = batch.x.flatten(1)
    for layer, gate in zip(("1", "3"), a, strict=True):
        h = gate * torch.relu(h @ p[f"{layer}.weight"].T + p[f"{layer}.bias"])
    logits = (h @ p["5.weight"].T + p["5.bias"]).masked_fill(
        ~torch.tensor([False, False, True, True]), -torch.inf
    )
    free = [1 - u.float() for u in used]
    R = sum((x * f).sum() for x, f in zip(a, free, strict=True)) / sum(f.sum() for f in free)
    expected = nn.functional.cross_entropy(logits, batch.y) + 0.75 * R
    found = one.method.objective(one._bound, p, one.state, batch, one.rng)  # type: ignore[attr-defined]
    torch.testing.assert_close(found, expected)


def test_gradients_are_those_of_eq_2_and_of_section_2_5() -> None:
    one, batch = in_second_task()
    p, state = one.params, one.state
    g = {k: torch.randn_like(v) for k, v in p.items()}
    with torch.no_grad():
        found = one.method.gradient(one._bound, p, state, batch, {k: v.clone() for k, v in g.items()})  # type: ignore[attr-defined]
    a, b = (u.float() for u in state.used)
    assert 0 < a.sum() < 8 and 0 < b.sum() < 6
    for i in range(6):
        for j in range(8):
            factor = 1 - min(float(b[i]), float(a[j]))
            assert float(found["3.weight"][i, j]) == factor * float(g["3.weight"][i, j])
    assert torch.equal(found["1.weight"], (1 - a)[:, None] * g["1.weight"])
    assert torch.equal(found["1.bias"], (1 - a) * g["1.bias"])
    assert torch.equal(found["5.weight"], g["5.weight"]), "the head is the task's own"
    for e, q, new in zip(
        p["hat.1.1"].tolist(), g["hat.1.1"].tolist(), found["hat.1.1"].tolist(), strict=True
    ):
        s = state.clock.s
        expected = q * 50 * (math.cosh(max(-50, min(50, s * e))) + 1) / (s * (math.cosh(e) + 1))
        assert math.isclose(new, expected, rel_tol=1e-4)


def test_s_is_annealed_within_each_epoch() -> None:
    one = learner(HAT(s_max=100.0), "mlp", scenario="task")
    task, seen = stream("task")[0], []
    one.begin_task(task)
    for _ in range(2):
        for x, y in batches(task.train, ORDER):
            one.observe(x, y)
            seen.append(one.state.clock.s)
    expected = [0.01 + (100 - 0.01) * b / 4 for b in range(5)]
    assert seen == pytest.approx(expected * 2)


@pytest.mark.parametrize("head_is_zero", [False, True])
def test_a_residual_network_is_refused(head_is_zero: bool) -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x.flatten(1)).relu()
            out: Tensor = self.c(h + self.b(h).relu())
            return out

    model = Residual()
    if head_is_zero:
        nn.init.zeros_(model.c.weight)
    one = Learner(model, HAT(), scenario="task")
    with pytest.raises(ValueError, match="one chain"):
        one.begin_task(stream("task")[0])
