"""Labels that slipped are found where the data look known; data that look new, and a weak version, raise no alarm."""

from __future__ import annotations

import math
import statistics
from collections import Counter

import pytest
import torch
from torch import Tensor

from retain.vault import agreement as module
from retain.vault.agreement import Agreement, Rows, agreement, chosen

FEATURES = 6


def rows(n: int, rng: torch.Generator, right: float = 0.95, classes: int = 4, moved: float = 0.0) -> Rows:
    """Examples of classes that lie 4 apart, moved by so much; the served version knows that share of them."""
    y = torch.randint(classes, (n,), generator=rng)
    x = torch.randn(n, FEATURES, generator=rng) + 4.0 * y[:, None] + moved
    other = (y + torch.randint(1, classes, (n,), generator=rng)) % classes
    return Rows(x, x, y, torch.where(torch.rand(n, generator=rng) < right, y, other))


def labelled(r: Rows, y: Tensor) -> Rows:
    return Rows(r.x, r.features, y, r.answers)


def found(known: Rows, new: Rows) -> Agreement:
    shares = {c: float((known.answers == c)[known.y == c].double().mean()) for c in known.y.unique().tolist()}
    a, b = (chosen(t, known.y, known.x[0].numel(), seed=0) for t in (known.y, new.y))
    said = agreement(known.part(a), new.part(b), shares)
    assert said is not None
    return said


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_slip_by_a_row_is_found_though_chance_lets_many_agree(classes: int) -> None:
    missed = 0
    for seed in range(50):
        rng = torch.Generator().manual_seed(seed)
        new = rows(200, rng, classes=classes)
        missed += found(rows(200, rng, classes=classes), labelled(new, new.y.roll(1))).passed
    assert missed <= 1


def test_a_slip_by_a_row_is_found_where_one_class_is_frequent() -> None:
    missed = 0
    for seed in range(50):
        rng = torch.Generator().manual_seed(seed)
        known, new = rows(1500, rng, classes=2), rows(1500, rng, classes=2)
        known, new = (
            r.part(((r.y == 0) | (torch.arange(1500) % 4 == 0)).nonzero()[:, 0]) for r in (known, new)
        )
        missed += found(known, labelled(new, new.y.roll(1))).passed  # of 4 examples in 5 one class
    assert missed <= 1


def test_labels_of_the_next_class_are_found_in_a_hundred_updates_of_forty() -> None:
    for seed in range(100):
        rng = torch.Generator().manual_seed(seed)
        known, new = rows(100, rng), rows(40, rng)
        said = found(known, labelled(new, (new.y + 1) % 4))
        assert said.contradiction, said


@pytest.mark.parametrize("right", [0.95, 0.6, 0.3])
@pytest.mark.parametrize("classes", [2, 4])
def test_right_labels_raise_no_alarm_however_weak_the_served_version_is(right: float, classes: int) -> None:
    alarms = 0
    for seed in range(200):
        rng = torch.Generator().manual_seed(seed)
        known, new = (rows(n, rng, right, classes) for n in (100, 60))
        alarms += found(known, new).contradiction is not None
    assert alarms <= 2  # 1 % would be 2


def test_examples_that_look_new_are_not_counted() -> None:
    rng = torch.Generator().manual_seed(0)
    known = rows(300, rng)
    far = found(known, rows(300, rng, right=0.0, moved=40.0))
    assert far == Agreement(0, 0, 0.0, 0.0, 1.0, True) and far.contradiction is None
    new = rows(300, rng)  # near in what the network makes of them, but not as they are
    assert found(known, Rows(new.x + 40, new.features, new.y, new.answers)).n == 0
    assert found(known, Rows(new.x, new.features + 40, new.y, new.answers)).n == 0


def test_copies_of_known_examples_look_known() -> None:
    rng = torch.Generator().manual_seed(0)
    known = rows(40, rng)
    known = known.part(torch.arange(40).repeat(3))  # each three times: no distance is usual
    new = known.part(torch.randint(120, (200,), generator=rng))
    assert found(known, new).n == 200


def by_hand(known: Rows, new: Rows) -> tuple[int, int, float, float]:
    """Example by example."""

    def distance(a: Tensor, b: Tensor) -> float:
        return math.dist(a.flatten().tolist(), b.flatten().tolist())

    def near(a: Tensor, b: Tensor) -> list[bool]:
        apart = [min(distance(u, v) for j, v in enumerate(a) if j != i) for i, u in enumerate(a)]
        of = {
            c: [d for d, k in zip(apart, known.y.tolist(), strict=True) if k == c] for c in known.y.tolist()
        }
        nearest = [min((distance(u, v), int(c)) for v, c in zip(a, known.y, strict=True)) for u in b]
        return [d <= math.sqrt(statistics.median(v * v for v in of[c])) for d, c in nearest]

    both = zip(near(known.x, new.x), near(known.features, new.features), strict=True)
    kept = [i for i, (one, two) in enumerate(both) if one and two and int(new.y[i]) in known.y.tolist()]
    labels, answers = ([int(t[i]) for i in kept] for t in (new.y, new.answers))
    shares = []
    for c in labels:
        same = [bool(a == c) for a, k in zip(known.answers, known.y, strict=True) if k == c]
        shares.append(sum(same) / len(same))
    one, two = Counter(labels), Counter(answers)
    agree, n = sum(a == b for a, b in zip(labels, answers, strict=True)), len(kept)
    return n, agree, sum(shares) / n, sum(one[c] * two[c] for c in one) / n**2


def test_it_counts_what_a_loop_over_examples_counts() -> None:
    rng = torch.Generator().manual_seed(3)
    known, new = rows(60, rng, 0.8), rows(50, rng, 0.7)
    known = known.part((known.y != 3).nonzero()[:, 0])  # a class that no guard holds
    known = Rows(known.x, torch.randn(len(known.y), 2, generator=rng), known.y, known.answers)
    new = Rows(new.x, torch.randn(50, 2, generator=rng), new.y, new.answers)
    n, agree, expected, chance = by_hand(known, new)
    said = found(known, new)
    assert 0 < n < 50 and (said.n, said.agree) == (n, agree)
    assert said.expected == pytest.approx(expected) and said.chance == pytest.approx(chance)
    half = (expected + chance) / 2
    tail = sum(math.comb(n, k) * half**k * (1 - half) ** (n - k) for k in range(agree + 1))
    assert said.p == pytest.approx(tail) and said.passed is (tail > 0.01)


def test_where_there_is_nothing_to_compare_with_nothing_is_said() -> None:
    rng = torch.Generator().manual_seed(0)
    known, new = rows(100, rng), rows(20, rng)
    shares = dict.fromkeys(range(4), 1.0)
    assert agreement(known.part(torch.arange(19)), new, shares) is None
    assert agreement(known, new.part(torch.arange(0)), shares) is None
    assert len(chosen(new.y + 4, known.y, FEATURES, 0)) == 0
    nothing = Rows(
        known.x, known.features, known.y, (known.y + 1) % 4
    )  # it knows nothing: it contradicts nothing
    assert found(nothing, labelled(new, (new.y + 2) % 4)).p == 1


def test_of_many_examples_some_are_chosen_the_same_in_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    known, new = rows(400, rng), rows(400, rng)
    new = labelled(new, (new.y + 1) % 4)
    whole = found(known, new)
    monkeypatch.setattr(module, "MOST", 50)
    few = found(known, new)
    assert few == found(known, new) and 0 < few.n <= 50 < whole.n
    assert few.contradiction
    monkeypatch.setattr(module, "MOST", 2000)
    monkeypatch.setattr(module, "LEAST", 20)
    monkeypatch.setattr(module, "NUMBERS", 70 * FEATURES)  # of large images fewer
    assert 20 < found(known, new).n <= 70


def test_distances_are_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 30, 50, generator=rng)
    monkeypatch.setattr(module, "AT_ONCE", 7)
    torch.testing.assert_close(module._squares(a, b), torch.cdist(a.double(), b.double()).square())
