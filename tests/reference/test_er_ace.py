"""ER-ACE against its two cross-entropies, row by row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.laws.toy import SCENARIOS, Scenario, mlp, stream
from tests.reference.replayed import Memory, assert_same, by_hand, ce, mean, ours
from torch import Tensor, nn

from retain import Learner, Optim
from retain.methods.er_ace import ERACE


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_new_rows_compete_with_classes_of_their_batch_and_old_ones_with_all_seen(scenario: Scenario) -> None:
    memory, seen = Memory(25), set[int]()

    def in_play(task: int) -> set[int]:
        return set(stream(scenario)[task].classes) if scenario == "task" else {0, 1, 2, 3}

    def step(net: nn.Module, x: Tensor, y: Tensor, task: int) -> Tensor:
        current = set(y.tolist())
        seen.update(current)
        loss = mean([ce(h, int(c), current & in_play(task)) for h, c in zip(net(x), y, strict=True)])
        if memory.rows:
            old = memory.draw(9)
            h = net(torch.stack([row[0] for row in old]))
            terms = [ce(h[i], int(c), seen & in_play(t)) for i, (_, c, t) in enumerate(old)]
            loss = loss + mean(terms)
        memory.offer([(v, c, task) for v, c in zip(x, y, strict=True)])
        return loss

    twin = by_hand(step, scenario)
    assert_same(ours(ERACE(memory=25, replay_batch=9), scenario), twin)


def test_a_new_batch_pushes_no_class_down_that_it_does_not_hold() -> None:
    """The gradient at the head's rows of absent classes is exactly 0, where plain replay's is not."""
    torch.manual_seed(0)
    one = Learner(mlp(), ERACE(memory=0), Optim(lr=0.1), scenario="class")
    one.begin_task(stream("class")[0])
    x, y = stream("class")[0].train.batch(torch.arange(12))
    one.loss(one.batch(x, y)).backward()
    g = one.params["3.weight"].grad
    assert g is not None
    assert float(g[:2].abs().max()) > 1e-3 and float(g[2:].abs().max()) < 1e-7


@pytest.mark.parametrize("bad", [{"memory": -1}, {"replay_batch": 0}])
def test_numbers_outside_their_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"ERACE\.{next(iter(bad))} must be"):
        ERACE(**bad)
