"""Labels that slipped are found where the data look known; data that look new, and a weak version, raise no alarm."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import Tensor

from retain.vault import agreement as module
from retain.vault.agreement import Agreement, Rows, agreement

CLASSES, FEATURES = 4, 6


def rows(n: int, rng: torch.Generator, right: float = 0.95, moved: float = 0.0) -> Rows:
    """Examples of classes that lie 4 apart, moved by so much; the served version knows that share of them."""
    y = torch.randint(CLASSES, (n,), generator=rng)
    x = torch.randn(n, FEATURES, generator=rng) + 4.0 * y[:, None] + moved
    return Rows(x, x, y, torch.rand(n, generator=rng) < right)


def slipped(r: Rows) -> Rows:
    """The same with the labels of other classes: where the answer was the label, it no longer is."""
    return Rows(r.x, r.features, (r.y + 1) % CLASSES, torch.zeros_like(r.right))


def found(known: Rows, new: Rows) -> Agreement:
    said = agreement(known, new)
    assert said is not None
    return said


def test_every_slip_is_found_in_a_hundred_updates_of_forty() -> None:
    for seed in range(100):
        rng = torch.Generator().manual_seed(seed)
        said = found(rows(100, rng), slipped(rows(40, rng)))
        assert said.contradiction, said


@pytest.mark.parametrize("right", [0.95, 0.6, 0.3])
def test_right_labels_raise_no_alarm_however_weak_the_served_version_is(right: float) -> None:
    alarms = 0
    for seed in range(200):
        rng = torch.Generator().manual_seed(seed)
        alarms += found(rows(100, rng, right), rows(60, rng, right)).contradiction is not None
    assert alarms == 0  # half of what is expected is far from all of it


def test_examples_that_look_new_are_not_counted() -> None:
    rng = torch.Generator().manual_seed(0)
    known = rows(300, rng)
    far = found(known, rows(300, rng, right=0.0, moved=40.0))
    assert far == Agreement(0, 0, 0.0, 1.0, True) and far.contradiction is None
    new = rows(300, rng)  # near in what the network makes of them, but not as they are
    assert found(known, Rows(new.x + 40, new.features, new.y, new.right)).n == 0
    assert found(known, Rows(new.x, new.features + 40, new.y, new.right)).n == 0


def by_hand(known: Rows, new: Rows) -> tuple[int, int, float]:
    """Example by example."""

    def distance(a: Tensor, b: Tensor) -> float:
        return math.dist(a.flatten().tolist(), b.flatten().tolist())

    def near(a: Tensor, b: Tensor) -> list[bool]:
        apart = [min(distance(u, v) for j, v in enumerate(a) if j != i) for i, u in enumerate(a)]
        usual = {c: statistics.median(d for d, k in zip(apart, known.y, strict=True) if k == c) for c in range(4)
                 if c in known.y}  # fmt: skip
        nearest = [min((distance(u, v), int(c)) for v, c in zip(a, known.y, strict=True)) for u in b]
        return [d <= usual[c] for d, c in nearest]

    both = zip(near(known.x, new.x), near(known.features, new.features), strict=True)
    kept = [i for i, (one, two) in enumerate(both) if one and two and int(new.y[i]) in known.y.tolist()]
    shares = []
    for i in kept:
        same = [bool(r) for r, c in zip(known.right, known.y, strict=True) if c == new.y[i]]
        shares.append(sum(same) / len(same))
    return len(kept), sum(bool(new.right[i]) for i in kept), sum(shares) / len(shares)


def test_it_counts_what_a_loop_over_examples_counts() -> None:
    rng = torch.Generator().manual_seed(3)
    known, new = rows(60, rng, 0.8), rows(50, rng, 0.7)
    known = known.part(known.y != 3)  # a class that no guard holds
    known = Rows(known.x, torch.randn(len(known.y), 2, generator=rng), known.y, known.right)
    new = Rows(new.x, torch.randn(50, 2, generator=rng), new.y, new.right)
    n, agree, expected = by_hand(known, new)
    said = found(known, new)
    assert 0 < n < 50 and (said.n, said.agree) == (n, agree)
    assert said.expected == pytest.approx(expected)
    tail = sum(
        math.comb(n, k) * (expected / 2) ** k * (1 - expected / 2) ** (n - k) for k in range(agree + 1)
    )
    assert said.p == pytest.approx(tail) and said.passed is (tail > 0.01)


def test_where_there_is_nothing_to_compare_with_nothing_is_said() -> None:
    rng = torch.Generator().manual_seed(0)
    known, new = rows(100, rng), rows(20, rng)
    assert agreement(known.part(torch.arange(19)), new) is None
    assert agreement(known, Rows(new.x, new.features, new.y + CLASSES, new.right)) is None
    nothing = Rows(known.x, known.features, known.y, torch.zeros_like(known.right))
    assert found(nothing, slipped(new)).p == 1  # it knows nothing, so it contradicts nothing


def test_of_many_examples_some_are_chosen_the_same_in_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    known, new = rows(400, rng), slipped(rows(400, rng))
    whole = found(known, new)
    monkeypatch.setattr(module, "MOST", 50)
    few = found(known, new)
    assert few == found(known, new) and 0 < few.n <= 50 < whole.n
    assert few.contradiction
    monkeypatch.setattr(module, "MOST", 2000)
    monkeypatch.setattr(module, "LEAST", 20)
    monkeypatch.setattr(module, "NUMBERS", 70 * FEATURES)  # of large images fewer
    assert 20 < found(known, new).n <= 70
