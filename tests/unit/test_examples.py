"""Examples and Union against slow twins that read one example at a time."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.laws.toy import double
from torch import Tensor

from retain.examples import Examples, Union
from retain.streams import permuted


def made(seed: int, n: int = 9, dtype: torch.dtype = torch.uint8, **how: Any) -> Examples:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, 2, 3), generator=rng)
    x = x.to(dtype) if dtype == torch.uint8 else x / 7 - 11
    return Examples(x, torch.randint(0, 5, (n,), generator=rng), **how)


def turn(x: Tensor) -> Tensor:
    return x.flip(2)


def one_by_one(e: Examples, index: Tensor) -> tuple[Tensor, Tensor]:
    """The slow twin: Python numbers, one example after the other."""
    xs, ys = [], []
    for i in index.tolist():
        row = i if e.rows is None else int(e.rows[i])
        x = e.x[row : row + 1]
        x = (x if e.arrange is None else e.arrange(x))[0]
        x = torch.tensor([float(v) / 255 if e.x.dtype == torch.uint8 else float(v) for v in x.flatten()])
        if e.normalise is not None:
            x = (x - e.normalise[0]) / e.normalise[1]
        xs.append(x.view(e.x.shape[1:]))
        ys.append(int(e.y[row]))
    return torch.stack(xs), torch.tensor(ys)


ways = st.fixed_dictionaries(
    {
        "rows": st.one_of(st.none(), st.lists(st.integers(0, 8), min_size=1, max_size=12).map(torch.tensor)),
        "arrange": st.sampled_from([None, turn]),
        "normalise": st.sampled_from([None, (0.13, 0.31), (-2.0, 4.0)]),
    }
)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 99), how=ways, dtype=st.sampled_from([torch.uint8, torch.float32]), data=st.data())
def test_batch_equals_reading_one_by_one(seed, how, dtype, data):
    e = made(seed, dtype=dtype, **how)
    index = torch.tensor(data.draw(st.lists(st.integers(0, len(e) - 1), min_size=1, max_size=8)))
    before = e.x.clone()
    x, y = e.batch(index)
    slow_x, slow_y = one_by_one(e, index)
    assert torch.allclose(x, slow_x, atol=1e-6) and torch.equal(y, slow_y)
    assert x.dtype == torch.get_default_dtype() and torch.equal(e.labels(index), y)
    assert torch.equal(e.x, before)  # reading changes nothing that is stored
    x.add_(1)
    assert torch.equal(e.x, before)  # and what is read is nobody else's


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 99), how=ways, chunk=st.integers(1, 20))
def test_materialise_changes_no_batch(seed, how, chunk):
    e = made(seed, **how)
    m = e.materialise(chunk)
    index = torch.randperm(len(e), generator=torch.Generator().manual_seed(seed))
    assert all(torch.equal(a, b) for a, b in zip(e.batch(index), m.batch(index), strict=True))
    assert m.rows is None and m.arrange is None and m.x.dtype == torch.uint8
    assert m.x.numel() * m.x.element_size() == e.nbytes == len(e) * 6
    assert m.shape == e.shape and m.range == e.range and torch.equal(m.labels(), e.labels())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), how=ways, data=st.data())
def test_subset_of_a_subset(seed, how, data):
    e = made(seed, **how)
    index = torch.tensor(data.draw(st.lists(st.integers(0, len(e) - 1), min_size=2, max_size=8)))
    again = torch.tensor([1, 0, 1])
    part = e.subset(index).subset(again)
    assert len(part) == 3 and part.x is e.x
    whole = e.batch(index[again])
    assert all(torch.equal(a, b) for a, b in zip(part.batch(torch.arange(3)), whole, strict=True))


def test_range_bounds_what_is_read_and_is_reached():
    x = torch.tensor([[0], [255], [51]], dtype=torch.uint8)
    for normalise in (None, (0.1, 0.2752), (0.5, 0.5)):
        e = Examples(x, torch.tensor([0, 1, 2]), normalise=normalise)
        read = e.batch(torch.arange(3))[0]
        assert e.range == pytest.approx((read.min().item(), read.max().item()))
    assert Examples(x, e.y).range == (0.0, 1.0)
    assert replace(e, x=x.float(), normalise=None).range is None  # the user's floats: not known


def test_float64_as_the_default_is_kept():
    with double():
        assert made(0).batch(torch.arange(3))[0].dtype == torch.float64


@settings(max_examples=60, deadline=None)
@given(hows=st.lists(ways, min_size=1, max_size=4), data=st.data())
def test_a_union_reads_each_part_in_its_own_way(hows, data):
    parts = tuple(made(k, **how) for k, how in enumerate(hows))
    union = Union(parts)
    assert len(union) == sum(map(len, parts))
    index = torch.tensor(data.draw(st.lists(st.integers(0, len(union) - 1), min_size=1, max_size=10)))
    place = [(k, i) for k, p in enumerate(parts) for i in range(len(p))]
    slow = [parts[k].batch(torch.tensor([i])) for k, i in (place[j] for j in index.tolist())]
    x, y = union.batch(index)
    assert torch.equal(x, torch.cat([s[0] for s in slow])) and torch.equal(y, torch.cat([s[1] for s in slow]))
    assert torch.equal(union.labels(index), y)
    assert union.part_of(index).tolist() == [place[j][0] for j in index.tolist()]
    assert union.shape == parts[0].shape


def test_union_of_tasks_equals_each_in_its_own_way():
    stream = permuted(tasks=3, samples=20)
    parts = [t.train for t in stream if isinstance(t.train, Examples)]
    assert len(parts) == 3
    union = Union(tuple(parts))
    index = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    x, y = union.batch(index)
    for k, task in enumerate(stream):
        own = index // 20 == k
        wanted = task.train.batch(index[own] - 20 * k)
        assert torch.equal(x[own], wanted[0]) and torch.equal(y[own], wanted[1])


def test_union_range_only_where_all_agree():
    plain, scaled = made(0), made(1, normalise=(0.5, 0.5))
    assert Union((plain, made(2))).range == (0.0, 1.0)
    assert Union((plain, scaled)).range is None
