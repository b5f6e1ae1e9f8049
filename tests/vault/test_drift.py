"""Drift: no more false alarms than alpha, and what is different is found and named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency

from retain.vault import drift
from retain.vault.drift import Drift, compare
from retain.vault.errors import VaultError

NAMES = ("cat", "dog", "owl")


def features(
    n: int, rng: torch.Generator, shift: float = 0.0, classes: int = 2
) -> tuple[torch.Tensor, torch.Tensor]:
    """Examples of classes that lie 3 apart, [n, 6], moved by `shift`; and their labels."""
    y = torch.randint(classes, (n,), generator=rng)
    return torch.randn(n, 6, generator=rng) + 3 * y[:, None] + shift, y


def both(seed: int, shift: float = 0.0, n: int = 90) -> Drift:
    rng = torch.Generator().manual_seed(seed)
    (a, ya), (b, yb) = features(n, rng), features(n, rng, shift)
    return compare(a, b, (ya, yb), NAMES, (), seed=seed)


def test_false_alarms_come_as_often_as_alpha_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "PERMUTATIONS", 199)
    alarms = sum(both(seed).drifted for seed in range(150))
    assert alarms <= 15  # 5 % are 7.5, and three standard errors 8
    rng, single = torch.Generator().manual_seed(0), []
    for seed in range(200):  # a single test, without correction: its size is alpha, not less
        a, b = torch.randn(2, 40, 3, generator=rng)
        single.append(compare(a, b, None, (), (), alpha=0.2, seed=seed).drifted)
    assert 0.12 <= np.mean(single) <= 0.29


def test_a_shift_is_found_and_named() -> None:
    found = [both(seed, shift=0.5) for seed in range(10)]
    assert sum(f.drifted for f in found) >= 9
    rng = torch.Generator().manual_seed(1)
    (a, ya), (b, yb) = features(300, rng), features(300, rng)
    b[yb == 1] += 0.7  # dogs only
    said = compare(a, b, (ya, yb), NAMES, ["a category that was never seen: colour=red"])
    assert said.drifted and said.findings[0].startswith("a category")
    assert [f.split(" differ")[0] for f in said.findings[1:]] == ["the features of dog"]
    assert "Holm" in said.findings[1]


def test_a_change_of_spread_is_found_too() -> None:
    rng = torch.Generator().manual_seed(2)
    a, b = torch.randn(200, 4, generator=rng), 2 * torch.randn(200, 4, generator=rng)
    assert compare(a, b, None, (), ()).findings == ("the features differ (p = 0.001)",)


def test_other_shares_of_the_classes_are_found_and_only_these() -> None:
    rng = torch.Generator().manual_seed(3)
    (a, ya), (b, yb) = features(400, rng), features(400, rng)
    few = (yb == 0) | (torch.arange(400) % 4 == 0)  # a quarter of the dogs
    found = compare(a, b[few], (ya, yb[few]), NAMES, ())
    assert [f.split(" differ")[0] for f in found.findings] == ["the shares of the classes"]


def test_a_new_class_among_known_ones_is_no_drift() -> None:
    rng = torch.Generator().manual_seed(4)
    (a, ya), (b, yb) = features(200, rng), features(300, rng, classes=3)
    found = compare(a, b, (ya, yb), NAMES, ())
    assert not found.drifted and found.findings == ()
    assert {t["name"] for t in found.tests} == {
        "the features of cat", "the features of dog", "the shares of the classes"
    }  # fmt: skip


def test_where_all_classes_are_new_there_is_nothing_to_compare() -> None:
    rng = torch.Generator().manual_seed(5)
    a, ya = features(100, rng)
    found = compare(a, a + 9, (ya, ya + 2), (*NAMES, "fox"), ())
    assert found == Drift(False, ("nothing to compare: all classes are new",), ())


def test_too_few_examples_are_not_compared() -> None:
    rng = torch.Generator().manual_seed(6)
    (a, ya), (b, yb) = features(100, rng), features(10, rng, 9.0)
    for labels in ((ya, yb), None):
        found = compare(a, b, labels, NAMES, ())
        assert found.findings == ("nothing to compare: fewer than 20 examples on one side",)


def test_classes_too_small_one_by_one_are_compared_together() -> None:
    rng = torch.Generator().manual_seed(7)
    (a, ya), (b, yb) = features(100, rng, classes=9), features(100, rng, 8.0, classes=9)
    found = compare(a, b, (ya, yb), [str(i) for i in range(9)], ())
    assert found.findings[0].startswith("the features of the known classes differ")


def test_many_classes_still_let_drift_be_found() -> None:
    rng = torch.Generator().manual_seed(11)
    y = torch.arange(60 * 25) % 60
    a, b = torch.randn(2, len(y), 2, generator=rng)
    b[y == 7] += 3
    found = compare(a, b, (y, y), [str(i) for i in range(60)], ())
    assert found.findings[0] == "features were compared within the 50 largest of 60 classes"
    assert [f.split(" differ")[0] for f in found.findings[1:]] == ["the features of 7"]


def test_numbers_and_labels_to_predict_are_compared_each() -> None:
    rng = torch.Generator().manual_seed(9)
    x = torch.randn(400, 3, generator=rng)
    numbers = torch.randn(400, 2, generator=rng)
    numbers[200:, 1] += 1
    found = compare(x[:200], x[200:], (numbers[:200], numbers[200:]), (), ())
    assert [f.split(" differ")[0] for f in found.findings] == ["the targets of output 2"]
    flags = (torch.rand(400, 2, generator=rng) < 0.2).float()
    flags[200:, 0] = (torch.rand(200, generator=rng) < 0.6).float()
    found = compare(x[:200], x[200:], (flags[:200], flags[200:]), (), ())
    assert [f.split(" differ")[0] for f in found.findings] == ["the targets of output 1"]


def test_constant_features_do_not_differ() -> None:
    found = compare(torch.ones(50, 2), torch.ones(60, 2), None, (), ())
    assert not found.drifted and found.tests[0]["p"] == 1.0


def test_the_discrepancy_is_the_sum_over_all_pairs() -> None:
    rng = torch.Generator().manual_seed(10)
    a, b = torch.randn(22, 2, generator=rng).double(), torch.randn(25, 2, generator=rng).double()
    x = torch.cat([a, b])
    apart = torch.tensor([float((p - q).square().sum()) for p in x for q in x if not torch.equal(p, q)])
    width = 2 * apart.double().median()
    k = np.array([[float((-(p - q).square().sum() / width).exp()) for q in x] for p in x])
    slow = k[:22, :22].mean() + k[22:, 22:].mean() - 2 * k[:22, 22:].mean()
    assert compare(a, b, None, (), ()).tests[0]["statistic"] == pytest.approx(slow)


def test_the_g_statistic_and_its_p_are_near_scipys() -> None:
    counts = np.array([[60, 45, 30], [50, 60, 45]])
    ours = drift._shares(counts, 1, 0.05, 0)
    g, p, *_ = chi2_contingency(counts, lambda_="log-likelihood")
    assert ours["statistic"] == pytest.approx(g) and ours["p"] == pytest.approx(p, abs=0.03)


def test_the_same_question_has_the_same_answer_which_is_json() -> None:
    assert both(3) == both(3)
    assert json.loads(json.dumps(both(3).to_json()))["tests"][0]["name"] == "the features of cat"


def test_features_that_are_none_are_refused() -> None:
    x = torch.zeros(30, 2)
    with pytest.raises(VaultError, match="finite"):
        compare(x, x * torch.nan, None, (), ())
    with pytest.raises(VaultError, match=r"\[M, D\]"):
        compare(x, torch.zeros(30, 3), None, (), ())
