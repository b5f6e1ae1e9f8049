"""Replay's three published recipes by hand, and what each of its memories holds."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, get_args, get_type_hints

import pytest
import torch
import torch.nn.functional as nnf
from tests.laws.toy import ORDER, Scenario, learner, stream
from tests.reference.replayed import Memory, assert_same, by_hand, ours
from torch import Tensor, nn

from retain import Replay, batches
from retain.memory import herd
from retain.types import HIDDEN


@pytest.mark.parametrize("scenario", ["domain", "class"])
def test_er_replays_from_the_second_batch_on_all_examples_alike(scenario: Scenario) -> None:
    """Chaudhry et al. 2019, algorithm 1."""
    memory = Memory(25)

    def step(net: nn.Module, x: Tensor, y: Tensor, task: int) -> Tensor:
        old = memory.draw(7) if memory.rows else []
        memory.offer(list(zip(x, y, strict=True)))
        xs = torch.stack([*x, *(row[0] for row in old)])
        ys = torch.stack([*y, *(row[1] for row in old)])
        return nnf.cross_entropy(net(xs), ys)

    twin = by_hand(step, scenario)
    assert_same(ours(Replay(memory=25, replay_batch=7), scenario), twin)


@pytest.mark.parametrize("weighting", ["examples", "tasks"])
@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("scenario", ["domain", "class"])
def test_rehearsal_replays_past_tasks_only(
    weighting: Literal["examples", "tasks"], per_class: bool, scenario: Scenario
) -> None:
    """Hsu et al. 2018 weigh examples alike, van de Ven et al. 2022 by 1/k and 1 - 1/k."""
    memory, budget = Memory(0), 6 if per_class else 13
    sets: list[list[tuple[Tensor, Tensor]]] = []

    def step(net: nn.Module, x: Tensor, y: Tensor, task: int) -> Tensor:
        memory.rows = [row for each in sets for row in each]
        if not memory.rows:
            return nnf.cross_entropy(net(x), y)
        old_x, old_y = (torch.stack(c) for c in zip(*memory.draw(8), strict=True))
        new, old = nnf.cross_entropy(net(x), y), nnf.cross_entropy(net(old_x), old_y)
        share = 1 / (task + 1) if weighting == "tasks" else len(y) / (len(y) + 8)
        return share * new + (1 - share) * old

    def end(t: int) -> None:
        x, y = stream(scenario)[t].train.batch(torch.arange(60))
        order = torch.randperm(60, generator=memory.rng).tolist()
        sets.extend([(x[i], y[i]) for i in order if y[i] == c] for c in dict.fromkeys(y.tolist()))
        share, more = (budget, 0) if per_class else divmod(budget, len(sets))
        for i, each in enumerate(sets):
            del each[share + (i < more) :]

    twin = by_hand(step, scenario, end)
    method = Replay(budget, select="random", per_class=per_class, weighting=weighting, replay_batch=8)
    one = ours(method, scenario)
    assert_same(one, twin)
    assert (
        method.examples_stored(one.state) == sum(map(len, sets)) == (budget * len(sets) if per_class else 13)
    )


def test_herding_keeps_of_each_class_what_the_network_after_the_task_calls_typical() -> None:
    one = learner(Replay(memory=20, select="herding"), scenario="class")
    for i, task in enumerate(stream("class")):
        one.begin_task(task)
        for x, y in batches(task.train, ORDER, 0, task.index):
            one.observe(x, y)
        one.end_task()
        held = one.state.memory.all()
        assert len(held.y) == 20 and set(held.task.tolist()) == {HIDDEN}
        assert max(Counter(held.y.tolist()).values()) - min(Counter(held.y.tolist()).values()) <= 1
        for c in task.classes:
            x, _ = task.train.batch((task.train.labels() == c).nonzero()[:, 0])
            with torch.no_grad():
                best = herd(one._bound.features(one.params, x), 20 // (i + 2))
            assert torch.equal(held.x[held.y == c][: len(best)], x[best])


def test_a_ring_holds_the_newest_of_each_class_of_each_task() -> None:
    one = learner(Replay(memory=24, select="ring"), scenario="domain")
    last: dict[tuple[int, int], list[Tensor]] = {}
    for t, task in enumerate(stream("domain")):
        one.begin_task(task)
        for x, y in batches(task.train, ORDER, 0, task.index):
            one.observe(x, y)
            for v, c in zip(x, y.tolist(), strict=True):
                last.setdefault((t, c), []).append(v)
        one.end_task()
        memory = one.state.memory
        for (g, c), seen in last.items():
            mine = memory.slots.x[memory.group == (g << 32) + c]
            assert 24 // len(last) <= len(mine) <= 24 // len(last) + 1
            expected = torch.stack(seen[-len(mine) :])
            assert sorted(mine.sum((1, 2, 3)).tolist()) == sorted(expected.sum((1, 2, 3)).tolist())


def test_only_what_chooses_at_the_end_of_a_task_needs_to_be_told_of_it() -> None:
    choices = get_args(get_type_hints(Replay)["select"])
    needs = {s: Replay(select=s).needs.boundaries for s in choices}
    assert [s for s, b in needs.items() if b] == ["random", "herding"]
    assert Replay(select="random", per_class=True).needs.growth == "with classes"


@pytest.mark.parametrize(
    "bad", [{"memory": -1}, {"replay_batch": 0}, {"weighting": "tasks"}, {"per_class": True}]
)
def test_what_has_no_meaning_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"Replay\.{next(iter(bad))} must be"):
        Replay(**bad)
