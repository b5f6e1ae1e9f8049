"""Memories: who is kept, with what probability, and that no row is read which was never written."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from retain.memory import Balanced, Dark, Reservoir, Ring, Slots, beside, mixed
from retain.types import Batch

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def numbered(start: int, n: int, classes: int = 3) -> Batch:
    """Examples that carry their own number, from 1, so that a row of zeros is one never written."""
    i = torch.arange(start + 1, start + n + 1)
    return Batch(i[:, None].float(), i % classes, i * 10)


def numbers(batch: Batch) -> list[int]:
    """Which examples those are; each must be whole."""
    x = batch.x[:, 0].long()
    assert torch.equal(batch.task, x * 10)
    return [int(v) for v in x]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 12), sizes)
def test_a_ring_holds_exactly_the_last_ones(capacity: int, batches: list[int]) -> None:
    ring, seen = Ring.like(numbered(0, 1), capacity), 0
    for n in batches:
        ring = ring.add(numbered(seen, n))
        seen += n
        held = numbers(ring.slots.all())
        assert sorted(held) == list(range(max(0, seen - capacity) + 1, seen + 1))
        assert ring.slots.filled == min(seen, capacity) and ring.seen == seen


@given(st.integers(1, 12), sizes, st.integers(1, 30), st.sampled_from([Reservoir, Balanced]))
def test_trap_17_no_memory_is_read_where_it_was_never_written(
    capacity: int, batches: list[int], n: int, kind: type[Reservoir] | type[Balanced]
) -> None:
    memory: Reservoir | Balanced = kind.like(numbered(0, 1), capacity)
    seen, generator = 0, rng()
    for size in batches:
        memory = memory.add(numbered(seen, size), 0, generator)
        seen += size
        drawn = numbers(memory.draw(n, generator))
        assert len(drawn) == n and min(drawn) >= 1 and max(drawn) <= seen
        held = numbers(memory.slots.all())
        assert set(drawn) <= set(held) and len(set(held)) == len(held) == min(seen, capacity)
        if n <= len(held):
            assert len(set(drawn)) == n, "drawn with replacement although there are enough"


@pytest.mark.parametrize("kind", [Reservoir, Balanced])
def test_room_for_none_holds_none(kind: type[Reservoir] | type[Balanced]) -> None:
    memory = kind.like(numbered(0, 1), 0)
    memory = memory.add(numbered(0, 5), 0, rng())
    assert memory.slots.filled == 0 and len(memory.slots.all().y) == 0
    assert Ring.like(numbered(0, 1), 0).add(numbered(0, 5)).slots.filled == 0


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_a_reservoir_holds_every_example_seen_with_the_same_probability(batch: int) -> None:
    capacity, seen, runs = 8, 40, 1500
    generator, counts = rng(1), Counter[int]()
    for _ in range(runs):
        memory = Reservoir.like(numbered(0, 1), capacity)
        for start in range(0, seen, batch):
            memory = memory.add(numbered(start, min(batch, seen - start)), 0, generator)
        counts.update(numbers(memory.slots.all()))
    assert sum(counts.values()) == runs * capacity
    assert chisquare([counts[i + 1] for i in range(seen)]).pvalue > 0.001


@pytest.mark.parametrize("draws", [1, 3, 6])
def test_each_example_held_is_drawn_equally_often(draws: int) -> None:
    slots = Slots.like(numbered(0, 1), 10).put(list(range(6)), numbered(0, 6), list(range(6)))
    generator, counts = rng(2), Counter[int]()
    for _ in range(1200):
        counts.update(numbers(slots.draw(draws, generator)))
    assert chisquare([counts[i + 1] for i in range(6)]).pvalue > 0.001


def fill(
    capacity: int, stream: list[tuple[int, int]], generator: torch.Generator, batch: int = 5
) -> Balanced:
    """A balanced memory after a stream of (task, class)."""
    memory = Balanced.like(numbered(0, 1), capacity)
    start = 0
    while start < len(stream):
        task = stream[start][0]
        part = [c for t, c in stream[start : start + batch] if t == task]
        i = torch.arange(start + 1, start + len(part) + 1)
        memory = memory.add(Batch(i[:, None].float(), torch.tensor(part), i * 10), task, generator)
        start += len(part)
    return memory


@given(st.integers(4, 20), st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(0, 5))
def test_trap_16_equal_room_for_every_class_of_every_task(
    capacity: int, counts: list[int], seed: int
) -> None:
    """Sizes are the fairest possible: no group has less than another, unless no more of it was seen."""
    stream = [(t, 0) for t, n in enumerate(counts) for _ in range(n)]
    memory = fill(capacity, stream, rng(seed))
    held = Counter((memory.group[: memory.slots.filled] >> 32).tolist())
    assert sum(held.values()) == min(capacity, len(stream))
    for t, n in enumerate(counts):
        assert held[t] == n or held[t] >= max(held.values()) - 1


def test_trap_16_classes_of_the_first_task_do_not_keep_later_tasks_out() -> None:
    memory = fill(12, [(t, i % 2) for t in range(3) for i in range(40)], rng())
    y = memory.slots.all().y
    held = Counter(zip((memory.group >> 32).tolist(), y.tolist(), strict=True))
    assert held == {(t, c): 2 for t in range(3) for c in range(2)}
    assert torch.equal(memory.group & 0xFFFFFFFF, y)


@pytest.mark.parametrize("capacity", [6, 7, 8])
def test_within_a_group_a_balanced_memory_is_a_uniform_sample(capacity: int) -> None:
    """Also where the groups do not divide its room, so that some must be larger than others."""
    stream = [(0, i % 3) for i in range(36)]
    generator, counts = rng(3), Counter[int]()
    for _ in range(1500):
        counts.update(numbers(fill(capacity, stream, generator).slots.all()))
    for c in range(3):
        mine = [counts[i + 1] for i, (_, label) in enumerate(stream) if label == c]
        assert chisquare(mine).pvalue > 0.001, (c, mine)


def test_a_newcomer_finds_room_even_where_there_are_more_groups_than_slots() -> None:
    memory = fill(2, [(t, 0) for t in range(4) for _ in range(3)], rng())
    assert 3 in (memory.group >> 32).tolist()


def test_new_and_old_side_by_side() -> None:
    new, old = numbered(0, 4), numbered(10, 2)
    both = beside(new, old)
    assert numbers(both) == [1, 2, 3, 4, 11, 12] and both.weight is None
    weighted = beside(new, old, k=4).weight
    assert weighted is not None
    torch.testing.assert_close(weighted, torch.tensor([1 / 16] * 4 + [3 / 8] * 2))
    soft = old._replace(y=torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]))
    for taken in (new._replace(weight=torch.ones(4)), new._replace(extra={"noise": torch.ones(4)})):
        with pytest.raises(ValueError, match="chain"):
            beside(taken, old)
    mixed = beside(new, soft)
    assert mixed.y[0].tolist() == [0, 1, 0] and torch.equal(mixed.y[4:], soft.y)


@given(st.integers(0, 12), sizes)
def test_a_reservoir_says_where_each_row_went(capacity: int, batches: list[int]) -> None:
    memory, seen, generator = Reservoir.like(numbered(0, 1), capacity), 0, rng()
    twin, same = Reservoir.like(numbered(0, 1), capacity), rng()
    for n in batches:
        batch = numbered(seen, n)
        before = memory.slots.x.clone()
        memory, slot = memory.take(batch, generator)
        twin = twin.add(batch, 0, same)
        kept = slot >= 0
        assert torch.equal(memory.slots.x[slot[kept]], batch.x[kept])
        elsewhere = torch.ones(capacity, dtype=torch.bool)
        elsewhere[slot[kept]] = False
        assert torch.equal(memory.slots.x[elsewhere], before[elsewhere])
        assert torch.equal(memory.slots.x, twin.slots.x)
        seen += n


@given(st.integers(1, 12), sizes)
def test_what_the_network_said_stays_with_its_example(capacity: int, batches: list[int]) -> None:
    memory, seen, generator = Dark.like(numbered(0, 1), torch.zeros(capacity, 2)), 0, rng()
    for n in batches:
        batch = numbered(seen, n)
        memory = memory.add(batch, generator)
        memory.note(torch.cat([-batch.x, 2 * batch.x], 1))
        seen += n
        old, z = memory.draw(5, generator)
        assert min(numbers(old)) >= 1 and memory.filled == min(seen, capacity)
        assert torch.equal(z, torch.cat([-old.x, 2 * old.x], 1))


@given(st.integers(4, 20), st.lists(st.integers(0, 2), min_size=1, max_size=60))
def test_a_balanced_ring_holds_the_newest_of_each_class(capacity: int, labels: list[int]) -> None:
    memory = Balanced.like(numbered(0, 1), capacity, newest=True)
    for start in range(0, len(labels), 5):
        part = torch.tensor(labels[start : start + 5])
        i = torch.arange(start + 1, start + len(part) + 1)
        memory = memory.add(Batch(i[:, None].float(), part, i * 10), 0, rng())
    held = sorted(numbers(memory.all()))
    assert len(held) == min(capacity, len(labels))
    counts = Counter(labels[i - 1] for i in held)
    for c in set(labels):
        of_class = [i + 1 for i, label in enumerate(labels) if label == c]
        assert [i for i in held if labels[i - 1] == c] == of_class[len(of_class) - counts[c] :]
        assert counts[c] == len(of_class) or counts[c] >= max(counts.values()) - 1


def test_each_part_of_a_mixture_counts_as_it_is_told() -> None:
    three = mixed((numbered(0, 4), 1.0), (numbered(10, 2), 0.0), (numbered(20, 5), 0.5))
    assert numbers(three) == [1, 2, 3, 4, 11, 12, 21, 22, 23, 24, 25]
    assert three.weight is not None
    torch.testing.assert_close(three.weight, torch.tensor([0.25] * 4 + [0.0] * 2 + [0.1] * 5))
    with pytest.raises(ValueError, match="chain"):
        mixed((three, 1.0), (numbered(0, 1), 1.0))
