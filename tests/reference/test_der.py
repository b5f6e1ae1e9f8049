"""DER and DER++ against the papers' equations by hand, and the logits that they keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from tests.laws.toy import ORDER, Scenario, differing, double, go, kept, stream
from tests.reference.replayed import LR, Memory, assert_same, by_hand, model, ours
from torch import Tensor, nn

from retain import Learner, Method, Naive, Optim, batches
from retain.methods.der import DER
from retain.methods.der_pp import DERpp


def slow(
    scenario: Scenario, capacity: int, n: int, alpha: float, beta: float
) -> tuple[dict[str, Tensor], Memory]:
    """Equation 6, a forward pass for each of its terms."""
    memory = Memory(capacity)

    def step(net: nn.Module, x: Tensor, y: Tensor, task: int) -> Tensor:
        h = net(x)
        loss = nnf.cross_entropy(h, y)
        if memory.rows:
            x1, _, z1 = (torch.stack(column) for column in zip(*memory.draw(n), strict=True))
            loss = loss + alpha * ((z1 - net(x1)) ** 2).mean()
        if memory.rows and beta:
            x2, y2, _ = (torch.stack(column) for column in zip(*memory.draw(n), strict=True))
            loss = loss + beta * nnf.cross_entropy(net(x2), y2)
        memory.offer(list(zip(x, y, h.detach(), strict=True)))
        return loss

    return by_hand(step, scenario), memory


@pytest.mark.parametrize(
    ("method", "n", "beta"),
    [
        (DER(memory=25, alpha=0.7, replay_batch=9), 9, 0),
        (DERpp(memory=25, alpha=0.7, beta=0.4, replay_batch=30), 30, 0.4),
    ],
)
@pytest.mark.parametrize("scenario", ["domain", "class"])
def test_it_descends_the_papers_equation(
    method: Method[Any], n: int, beta: float, scenario: Scenario
) -> None:
    twin, memory = slow(scenario, 25, n, 0.7, beta)
    one = ours(method, scenario)
    assert_same(one, twin)
    x, y, z = (torch.stack(column) for column in zip(*memory.rows, strict=True))
    held = one.state.reservoir.slots
    assert torch.equal(held.x, x) and torch.equal(held.y, y)
    torch.testing.assert_close(one.state.z, z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", [DER(memory=0), DER(alpha=0), DERpp(memory=0), DERpp(alpha=0, beta=0)])
def test_without_strength_or_memory_it_is_naive(method: Method[Any]) -> None:
    naive, found = go(Naive(), "class", "cnn")[0], go(method, "class", "cnn")[0]
    assert differing(naive.params, found.params) == []


def test_without_labels_der_pp_is_der() -> None:
    der, pp = (go(m, "class", "cnn")[0] for m in (DER(memory=30), DERpp(memory=30, beta=0)))
    assert differing(kept(der), kept(pp)) == []


@pytest.mark.parametrize("kind", [DER, DERpp])
def test_the_logits_kept_are_those_before_the_step_in_which_the_example_was_new(kind: Any) -> None:
    one = Learner(model(), kind(memory=20), Optim(lr=LR))
    said: dict[Any, Tensor] = {}
    with double():
        for task in stream("domain"):
            one.begin_task(task)
            for x, y in batches(task.train, ORDER, 0, task.index):
                with torch.no_grad():
                    said |= {tuple(v.flatten().tolist()): h for v, h in zip(x, one.model(x), strict=True)}
                one.observe(x, y)
            one.end_task()
    held = one.state.reservoir.slots
    assert held.filled == 20
    expected = torch.stack([said[tuple(v.flatten().tolist())] for v in held.x])
    torch.testing.assert_close(one.state.z, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bad", [{"memory": -1}, {"replay_batch": 0}])
@pytest.mark.parametrize("kind", [DER, DERpp])
def test_numbers_outside_their_range_are_refused(kind: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.{next(iter(bad))} must be"):
        kind(**bad)
