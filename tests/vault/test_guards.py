"""Guards: what is held out, and how they share a budget."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.vault.errors import VaultError
from retain.vault.guards import Guard, hold_out, joined, within_budget

labels = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(
    lambda v: torch.tensor(v, dtype=torch.int64)
)
sizes = st.one_of(st.integers(1, 80), st.floats(0.01, 0.99))


def guard(name: str, n: int, classes: int = 4) -> Guard:
    return Guard.of(
        name, torch.arange(n * 3, dtype=torch.float32).reshape(n, 3), torch.arange(n) % classes, 0
    )


@given(labels, sizes, st.integers(0, 9))
@settings(max_examples=150)
def test_rows_are_split_in_two_and_no_class_is_lost_to_training(
    y: torch.Tensor, size: int | float, seed: int
) -> None:
    train, held = hold_out(y, size, seed)
    assert torch.equal(torch.cat([train, held]).sort().values, torch.arange(len(y)))
    assert train.tolist() == sorted(train.tolist()) and held.tolist() == sorted(held.tolist())
    assert set(y[train].tolist()) == set(y.tolist())
    wanted = size if isinstance(size, int) else round(size * len(y))
    assert len(held) == min(wanted, len(y) - len(y.unique()))


def test_every_class_is_held_out_in_proportion() -> None:
    y = torch.tensor([0] * 700 + [1] * 200 + [2] * 95 + [3] * 5)
    _, held = hold_out(y, 200, seed=3)
    assert torch.bincount(y[held]).tolist() == pytest.approx([140, 40, 19, 1], abs=1)


def test_the_choice_is_the_seeds() -> None:
    y = torch.arange(200) % 5
    assert hold_out(y, 50, 1)[1].tolist() == hold_out(y, 50, 1)[1].tolist()
    assert hold_out(y, 50, 1)[1].tolist() != hold_out(y, 50, 2)[1].tolist()


def test_numbers_are_held_out_whatever_they_are() -> None:
    train, held = hold_out(torch.rand(40, 2, generator=torch.Generator().manual_seed(0)), 10, seed=0)
    assert (len(train), len(held)) == (30, 10)
    assert len(hold_out(torch.zeros(5, 1), 99, seed=0)[0]) == 1  # never all
    assert len(hold_out(torch.zeros(0, 1), 3, seed=0)[1]) == 0


@pytest.mark.parametrize("size", [0, -1, 0.0, 1.0, 1.5, float("nan"), True])
def test_a_size_outside_its_range_is_refused(size: float) -> None:
    with pytest.raises(VaultError, match="size must be"):
        hold_out(torch.zeros(5, dtype=torch.int64), size, 0)


def test_within_the_budget_nothing_changes() -> None:
    guards = [guard("a", 10), guard("b", 20)]
    kept = within_budget(guards, sum(g.nbytes for g in guards))
    assert all(k is g for k, g in zip(kept, guards, strict=True))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 4000))
@settings(max_examples=150)
def test_the_largest_give_way_first_and_all_keep_to_the_budget(ns: list[int], budget: int) -> None:
    guards = [guard(f"g{i}", n) for i, n in enumerate(ns)]
    row = guards[0].nbytes // ns[0]
    if budget < row * len(ns):
        with pytest.raises(VaultError, match="too few"):
            within_budget(guards, budget)
        return
    kept = [len(k.y) for k in within_budget(guards, budget)]
    assert sum(kept) * row <= budget
    assert [k.name for k in within_budget(guards, budget)] == [g.name for g in guards]
    common = max(kept)
    assert all(k in (n, common) for k, n in zip(kept, ns, strict=True))
    if kept != ns:
        assert sum(kept) * row > budget - row * len(ns)  # and little of it is left over


def test_a_guard_only_ever_shrinks_to_a_part_of_itself() -> None:
    kept = [guard("a", 100), guard("b", 100)]
    for budget in (3000, 1500, 1500, 400):
        before, kept = kept, within_budget(kept, budget)
        for a, b in zip(before, kept, strict=True):
            rows = {tuple(r): int(y) for r, y in zip(a.x.tolist(), a.y, strict=True)}
            assert all(rows[tuple(r)] == int(y) for r, y in zip(b.x.tolist(), b.y, strict=True))
            assert torch.bincount(b.y).max() - torch.bincount(b.y).min() <= 1
            assert b.x[:, 0].tolist() == sorted(b.x[:, 0].tolist())
    assert (
        within_budget([guard("a", 100)], 500)[0].x.tolist()
        == within_budget([guard("a", 100)], 500)[0].x.tolist()
    )


def test_a_rare_class_stays_guarded() -> None:
    y = torch.tensor([0] * 98 + [1, 2])
    kept = within_budget([Guard.of("a", torch.zeros(100, 1), y, 0)], 200)[0]
    assert torch.bincount(kept.y).tolist() == [8, 1, 1]


def test_an_empty_guard_takes_nothing() -> None:
    empty = Guard.of("none", torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 0)
    assert [len(g.y) for g in within_budget([empty, guard("a", 9)], 84)] == [0, 3]
    assert within_budget([], 10) == []


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(2, 8), st.data())
def test_joined_guards_hold_the_same_examples_in_the_same_order(
    n: int, most: int, data: st.DataObject
) -> None:
    updates = [f"u{i}" for i in range(n)]
    alone = [guard(name, data.draw(st.integers(0, 5)))._replace(name=name) for name in updates]
    alone = [g._replace(numbers=torch.full_like(g.numbers, i)) for i, g in enumerate(alone) if len(g.y)]
    found = joined(alone, most, updates)
    assert len(found) == min(most, len(alone)) and len({g.name for g in found}) == len(found)
    for field in ("x", "y", "numbers"):
        parts = [[getattr(g, field) for g in guards] for guards in (found, alone)]
        assert not alone or torch.equal(torch.cat(parts[0]), torch.cat(parts[1]))
    if alone:
        assert found[-1] is alone[-1] or most >= len(alone)
    sizes = [len(g.numbers.unique()) for g in found[:-1]]
    assert not sizes or max(sizes) <= 4 * min(sizes)


def test_a_joined_guard_takes_no_name_that_is_taken() -> None:
    updates = ["a", "b", "a to b"]
    alone = [guard(u, 3)._replace(name=u, numbers=torch.full((3,), i)) for i, u in enumerate(updates)]
    assert [g.name for g in joined(alone, 2, updates)] == ["a to b'", "a to b"]
