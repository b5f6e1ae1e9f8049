"""Herding against the paper's algorithm as it is written, and sets that shrink to their best."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.laws.toy import home, learner, stream
from torch import Tensor

from retain import Naive
from retain.memory import Exemplars, herd, herded
from retain.types import HIDDEN, Batch


def slow(features: Tensor, k: int) -> list[int]:
    """Rebuffi et al. 2017, algorithm 4, word for word."""
    f = [v / v.norm().clamp_min(1e-12) for v in features]
    mu = torch.stack(f).mean(0)
    chosen: list[int] = []
    for i in range(1, min(k, len(f)) + 1):
        before = sum((f[j] for j in chosen), torch.zeros_like(mu))
        rest = [j for j in range(len(f)) if j not in chosen]
        chosen.append(min(rest, key=lambda j: float((mu - (f[j] + before) / i).norm())))
    return chosen


@given(st.integers(1, 25), st.integers(1, 6), st.integers(0, 30), st.integers(0, 99))
def test_herding_is_algorithm_4(n: int, dim: int, k: int, seed: int) -> None:
    f = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    chosen = herd(f, k).tolist()
    assert len(set(chosen)) == len(chosen) == min(k, n)
    if dim > 1:  # in one dimension all are +1 or -1, and any of the same sign is as good
        assert chosen == slow(f, k)
    assert chosen[: k // 2] == herd(f, k // 2).tolist()


def test_a_feature_of_zeros_is_no_better_than_it_is() -> None:
    f = torch.tensor([[0.0, 0.0], [3.0, 0.0], [2.0, 0.0], [4.0, 0.0], [1.0, 0.0]])  # the mean is 0.8
    assert herd(f, 5).tolist() == [1, 2, 0, 3, 4]  # the means are 1, 1, 2/3, 3/4, 4/5


def test_the_mean_of_exemplars_is_closer_than_that_of_a_random_choice() -> None:
    rng = torch.Generator().manual_seed(0)
    f = torch.nn.functional.normalize(torch.randn(500, 20, generator=rng), dim=1)
    herded_mean = (f[herd(f, 20)].mean(0) - f.mean(0)).norm()
    random = [(f[torch.randperm(500, generator=rng)[:20]].mean(0) - f.mean(0)).norm() for _ in range(50)]
    assert herded_mean < 0.5 * min(random)


def numbered(y: int, n: int) -> Batch:
    """n exemplars of class y, numbered in the order of their worth."""
    i = torch.arange(n)
    return Batch(
        torch.stack([torch.full_like(i, y), i], 1).float(), torch.full_like(i, y), torch.zeros_like(i)
    )


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 20), st.booleans())
def test_sets_shrink_to_their_best_as_others_come(sizes: list[int], capacity: int, each: bool) -> None:
    memory = Exemplars.like(numbered(0, 1), capacity, each)
    for c, n in enumerate(sizes):
        room = memory.room(1)
        memory = memory.add((numbered(c, n),))
        assert max(memory.sizes) <= room
    held = memory.all()
    if not each:
        assert len(held.y) <= capacity
    for c, n in enumerate(sizes):
        mine = held.x[held.y == c]
        share = capacity if each else capacity // len(sizes)
        assert mine[:, 1].tolist() == list(range(len(mine))) and bool((mine[:, 0] == c).all())
        assert min(n, share) <= len(mine) or not each
        if min(sizes) > capacity and not each:
            assert share <= len(mine) <= share + 1 and len(held.y) == capacity
    assert memory.add(()).sizes == memory.sizes


def test_exemplars_are_drawn_without_replacement_as_far_as_they_go() -> None:
    memory = Exemplars.like(numbered(0, 1), 10).add((numbered(0, 5), numbered(1, 5)))
    rng = torch.Generator().manual_seed(0)
    drawn = memory.draw(10, rng)
    assert len({tuple(r) for r in drawn.x.tolist()}) == 10
    assert len(memory.draw(25, rng).y) == 25


@pytest.mark.parametrize("k", [3, 1000])
def test_of_each_class_of_a_task(k: int) -> None:
    one = learner(Naive())
    task = stream(home(Naive()))[0]
    one.begin_task(task)
    sets = herded(one._bound, one.params, task.train, HIDDEN, k)
    assert [b.y.unique().tolist() for b in sets] == [[0], [1], [2], [3]]
    for b in sets:
        x, _ = task.train.batch((task.train.labels() == b.y[0]).nonzero()[:, 0])
        f = one._bound.features(one.params, x)
        assert torch.equal(b.x, x[herd(f, k)]) and bool((b.task == HIDDEN).all())
