"""MIR against a step really taken, for every example of the memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from tests.laws.toy import ORDER, Scenario, double, learner, stream
from tests.reference.replayed import LR, Memory, assert_same, by_hand, model, ours
from torch import Tensor, nn

from retain import Learner, Optim, batches
from retain.methods.mir import MIR


def rise(net: nn.Module, x: Tensor, y: Tensor, old_x: Tensor, old_y: Tensor) -> Tensor:
    """How much the losses rise in a step along x, y that is taken on a copy of the network."""
    other = copy.deepcopy(net)
    sgd = torch.optim.SGD(other.parameters(), lr=LR)
    nnf.cross_entropy(other(x), y).backward()
    sgd.step()
    with torch.no_grad():
        before, after = (nnf.cross_entropy(f(old_x), old_y, reduction="none") for f in (net, other))
    return after - before


@pytest.mark.parametrize("scenario", ["domain", "class"])
def test_it_replays_what_a_step_harms_most(scenario: Scenario) -> None:
    memory = Memory(40)

    def step(net: nn.Module, x: Tensor, y: Tensor, task: int) -> Tensor:
        both = [(x, y)]
        if memory.rows:
            k = min(5, len(memory.rows))
            old_x, old_y = (
                torch.stack(c) for c in zip(*memory.draw(min(4 * k, len(memory.rows))), strict=True)
            )
            with torch.enable_grad():
                s = rise(net, x, y, old_x, old_y)
            worst = s.argsort(descending=True)[:k]
            both.append((old_x[worst], old_y[worst]))
        memory.offer(list(zip(x, y, strict=True)))
        xs, ys = (torch.cat(c) for c in zip(*both, strict=True))
        return nnf.cross_entropy(net(xs), ys)

    twin = by_hand(step, scenario)
    assert_same(ours(MIR(memory=40, candidates=4, replay_batch=5), scenario), twin)


def test_with_all_of_the_memory_as_candidates_no_other_example_is_harmed_more() -> None:
    method = MIR(memory=30, candidates=10, replay_batch=3)
    one = Learner(model(), method, Optim(lr=LR))
    with double():
        for task in stream("domain")[:2]:
            one.begin_task(task)
            for x, y in batches(task.train, ORDER, 0, task.index):
                held = one.state.memory.slots.all() if one.state.memory is not None else None
                truth = None if held is None else rise(one.model, x, y, held.x.clone(), held.y.clone())
                rows = None if held is None else held.x.clone()
                batch = one.batch(x, y)
                if truth is not None and rows is not None:
                    chosen = [int((rows == v).flatten(1).all(1).nonzero()[0]) for v in batch.x[len(x) :]]
                    assert sorted(chosen) == sorted(truth.topk(3).indices.tolist())
                one.loss(batch).backward()
                one.step()
            one.end_task()


def test_the_step_that_it_imagines_leaves_running_statistics_alone() -> None:
    one = learner(MIR(memory=30), "cnn")
    one.begin_task(stream("domain")[0])
    steps = 0
    for x, y in batches(stream("domain")[0].train, ORDER):
        one.observe(x, y)
        steps += 1
    assert int(one.params["1.num_batches_tracked"]) == steps


@pytest.mark.parametrize("bad", [{"memory": -1}, {"candidates": 0}, {"replay_batch": 0}])
def test_numbers_outside_their_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"MIR\.{next(iter(bad))} must be"):
        MIR(**bad)
