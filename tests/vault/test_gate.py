"""The gate's verdicts and what it says of them; its error rates by simulation (in full: benchmarks/gate.py)."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from retain.vault import gate
from retain.vault import noninferiority as ni
from retain.vault.agreement import Agreement
from retain.vault.errors import VaultError
from retain.vault.gate import Compared, Gate, judge


def guard(name: str, n: int, right: int, losses: int, gains: int, **more: Any) -> Compared:
    """n examples of which `right` were right, `losses` of these are now wrong and `gains` of the others right."""
    served = torch.arange(n) < right
    candidate = served.clone()
    candidate[:losses] = False
    candidate[right : right + gains] = True
    return Compared(name, served, candidate, **more)


NEW = guard("march", 200, 0, 0, 180)
BETTER = "better on the new data (0.0 -> 90.0 %), and "


def test_a_candidate_that_is_as_good_and_better_on_the_new_data_passes() -> None:
    said = judge([guard("january", 1000, 930, 20, 20), guard("february", 1000, 930, 15, 15)], NEW, Gate())
    assert said.passed and said.reason == BETTER + "no guard loses more than its margin"
    assert [(t.name, t.what, t.gated, t.passed) for t in said.tests] == [
        ("january", "guard", True, True), ("february", "guard", True, True), ("march", "new data", True, True)
    ]  # fmt: skip
    january = said.tests[0]
    assert (january.n, january.served, january.candidate, january.losses, january.gains) == (
        1000,
        0.93,
        0.93,
        20,
        20,
    )
    assert january.p == ni.loss_p(20, 20, 1000, said.margin) and january.bound == ni.loss_bound(
        20, 20, 1000, 0.05
    )


def test_labels_that_contradict_what_is_served_are_refused_first() -> None:
    guards = [guard("january", 1000, 930, 20, 20)]
    wrong = judge(guards, NEW, Gate(), labels=Agreement(47, 3, 0.93, 0.2, 1e-9, False))
    assert not wrong.passed and wrong.tests == judge(guards, NEW, Gate()).tests
    assert wrong.reason == (
        "refused: the labels contradict what is served: of 47 new examples that look like known ones 3 bear the label "
        "that it gives them, and 44 should; look whether they slipped: if they mean something else now, serve it all "
        "the same"
    )
    fine = judge(guards, NEW, Gate(), labels=Agreement(47, 40, 0.93, 0.2, 0.9, True))
    assert fine == judge(guards, NEW, Gate())


def test_a_guard_that_loses_is_named_with_its_figures() -> None:
    said = judge(
        [guard("january", 1000, 930, 61, 20), guard("february", 1000, 930, 15, 15)], NEW, Gate(margin=0.021)
    )
    assert not said.passed
    assert said.reason == (
        "refused: guard 'january' loses 4.1 points (served 93.0 %, candidate 88.9 %; margin 2.1, p 0.99)"
    )


def test_the_worst_comes_first_and_the_others_are_counted() -> None:
    guards = [guard(f"g{i}", 500, 450, 20 + 10 * i, 0) for i in range(5)]
    said = judge(guards, guard("march", 200, 100, 0, 0), Gate(margin=0.02))
    assert said.reason == (
        "refused: guard 'g4' loses 12.0 points (served 90.0 %, candidate 78.0 %; margin 2.0, p 1); "
        "5 more failed: 'g0' (guard), 'g1' (guard), 'g2' (guard), ..."
    )


def test_what_may_be_lost_unseen_is_refused_and_the_fix_is_named() -> None:
    reason = judge([guard("january", 1000, 930, 20, 15)], NEW, Gate(margin=0.01)).reason
    assert reason == (
        "refused: guard 'january' may lose up to 1.5 points (served 93.0 %, candidate 92.5 %; margin 1.0, p 0.21): "
        "larger guards or a wider margin would tell"
    )


def test_a_guard_too_small_for_its_margin_says_how_many_it_needs() -> None:
    reason = judge([guard("january", 20, 18, 0, 0)], NEW, Gate(margin=0.02)).reason
    assert "'january' holds 20 examples, too few" in reason
    assert reason.endswith("give it 149 or more, or a margin of 14.0 points")
    assert judge([guard("january", 149, 140, 0, 0)], NEW, Gate(margin=0.02)).passed
    assert judge([guard("january", 20, 18, 0, 0)], NEW, Gate(margin=0.14)).passed


def test_a_small_guard_has_a_wide_margin_of_its_own_and_that_is_said() -> None:
    said = judge([guard("tiny", 20, 18, 0, 0), guard("large", 4000, 3900, 0, 0)], NEW, Gate())
    tiny, large = said.tests[:2]
    assert said.passed and tiny.margin == said.margin and large.margin == pytest.approx(0.01)
    assert tiny.margin is not None and tiny.margin > 0.14
    assert said.reason.endswith(
        f"(but guard 'tiny', n = 20, resolves no less than {100 * tiny.margin:.1f} points)"
    )


def test_the_new_data_must_be_better_strictly() -> None:
    old = [guard("january", 1000, 930, 0, 0)]
    said = judge(old, guard("march", 100, 50, 5, 5), Gate())
    assert not said.passed and said.reason == "refused: no better on the new data (50.0 -> 50.0 %)"
    one_more = judge(old, guard("march", 100, 50, 4, 5), Gate())
    assert one_more.passed and one_more.tests[-1].p == pytest.approx(0.5)


def test_without_guards_or_new_data() -> None:
    assert judge([], NEW, Gate()).reason == BETTER + "there is no guard yet"
    only = judge([guard("january", 1000, 930, 0, 0)], None, Gate())
    assert only.passed and only.reason == "no guard loses more than its margin"


def test_classes_with_enough_guards_decide_and_the_others_are_reported() -> None:
    classes = torch.tensor([0] * 600 + [1] * 400)
    served = torch.ones(1000, dtype=torch.bool)
    lost = served.clone()
    lost[:45] = False  # of class 0: 7.5 %; of all: 4.5 %
    said = judge([Compared("january", served, lost, classes)], NEW, Gate(margin=0.06), ["cat", "dog"])
    whole, cat, dog = said.tests[:3]
    assert whole.passed and not cat.passed and (cat.name, cat.gated, cat.losses) == ("january/cat", True, 45)
    assert (dog.name, dog.gated, dog.passed, dog.bound) == ("january/dog", False, True, None)
    assert not said.passed and said.reason.startswith("refused: class 'january/cat' loses 7.5 points")
    lost = served.clone()
    lost[600:645] = False
    said = judge([Compared("january", served, lost, classes)], NEW, Gate(margin=0.06))
    assert said.passed and not said.tests[2].passed and said.tests[2].name == "january/1"
    assert len(judge([Compared("january", served, lost, classes * 0)], NEW, Gate(margin=0.06)).tests) == 2


def test_losses_to_new_classes_have_their_own_margin() -> None:
    def moved(n: int, k: int) -> gate.Test:
        c = guard("january", n, n, 0, 0, to_new=torch.arange(n) < k)
        said = judge([c], NEW, Gate())
        assert said.passed == said.tests[1].passed
        return said.tests[1]

    few = moved(1000, 80)
    assert (few.what, few.losses, few.n, few.margin, few.passed) == ("to new classes", 80, 1000, 0.1, True)
    assert few.p == ni.share_p(80, 1000, 0.1) and few.candidate == pytest.approx(0.92)
    assert not moved(1000, 90).passed  # the exact binomial test is not sure that it is below 10 %
    assert moved(1000, 0).passed
    small = moved(40, 2)  # a true 5 % must pass in four of five cases, so the margin is wider
    assert small.margin is not None and small.margin > 0.1 and small.passed
    c = guard("jan{uary}", 80, 80, 0, 0, to_new=torch.arange(80) < 8)
    said = judge([c], NEW, Gate())
    assert not said.passed and said.reason == (
        "refused: guard 'jan{uary}' loses 10.0 points to new classes (8 of 80 examples; p 0.17), and 80 examples "
        "cannot show that it is less than the margin of 14.3 points: larger guards or a wider margin would tell"
    )
    c = guard("january", 1000, 1000, 0, 0, to_new=torch.arange(1000) < 150)
    assert judge([c], NEW, Gate()).reason == (
        "refused: guard 'january' loses 15.0 points to new classes (150 of 1000 examples; margin 10.0, p 1)"
    )


def losses(name: str, n: int, factor: float, seed: int = 0, spread: float = 0.15) -> Compared:
    """Losses, and a candidate's, `factor` times as large on average."""
    rng = np.random.default_rng(seed)
    served = rng.gamma(2.0, size=n)
    candidate = factor * served * rng.gamma(1 / spread**2, spread**2, size=n)
    return Compared(name, torch.from_numpy(served).float(), torch.from_numpy(candidate).float())


def test_losses_are_compared_in_shares_of_the_served_mean() -> None:
    new = losses("march", 200, 0.5)
    said = judge([losses("january", 2000, 1.0)], new, Gate())
    assert said.passed and said.reason.startswith("better on the new data (mean loss ")
    january, march = said.tests
    assert january.margin is not None and january.bound is not None
    assert january.bound < january.margin == said.margin < 0.05
    assert march.p < 0.001 and march.losses + march.gains == 200
    worse = judge([losses("january", 2000, 1.2)], new, Gate())
    assert not worse.passed and "loses 2" in worse.reason and "% of its mean loss" in worse.reason
    assert not judge([losses("january", 2000, 1.0)], losses("march", 200, 1.5), Gate()).passed
    few = judge([losses("january", 4, 1.0)], new, Gate(margin=0.5))
    assert few.reason.endswith("give it 5 or more")


def test_equal_candidates_pass_planned_losses_as_often_as_planned() -> None:
    passed = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shared, own, other = rng.gamma([[1.8], [0.2], [0.2]], size=(3, 400))  # correlation 0.9
        c = Compared("january", torch.from_numpy(shared + own), torch.from_numpy(shared + other))
        passed += judge([c], None, Gate()).passed
    assert 0.69 <= passed / 60 <= 0.95  # 0.8


@pytest.mark.parametrize(
    ("old", "complaint"),
    [
        ([guard("a", 0, 0, 0, 0)], "guard 'a' holds no example"),
        ([guard("a", 5, 5, 0, 0)] * 2, "two guards are called 'a'"),
        ([Compared("a", torch.ones(5) > 0, torch.ones(4) > 0)], "the same 5 examples"),
        ([guard("a", 5, 5, 0, 0, to_new=torch.ones(2) > 0)], "the same 5 examples"),
        ([losses("a", 5, 1.0)], "right and wrong cannot be compared with losses"),
        ([Compared("a", torch.ones(5) > 0, torch.ones(5))], "right and wrong cannot be compared with losses"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused_by_name(old: list[Compared], complaint: str) -> None:
    with pytest.raises(VaultError, match=complaint):
        judge(old, NEW, Gate())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1])
def test_losses_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(VaultError, match="guard 'a': losses must be finite"):
        judge([Compared("a", torch.ones(3), torch.tensor([1.0, bad, 1.0]))], None, Gate())


@pytest.mark.parametrize(
    "settings",
    [{"alpha": 0.5}, {"alpha": 0}, {"margin": 0}, {"margin": 1.0}, {"new_margin": 0.0}, {"new_margin": math.nan},
     {"discordance": 1}, {"power": 1.0}, {"fewest": 0}],
)  # fmt: skip
def test_settings_outside_their_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(VaultError, match=f"{next(iter(settings))} must"):
        Gate(**settings)


def test_a_verdict_is_json() -> None:
    c = guard("january", 40, 40, 1, 0, to_new=torch.arange(40) < 2, classes=torch.arange(40) % 2)
    whole = guard("january", 1000, 930, 61, 20)
    for verdict in (judge(old, None, Gate()) for old in ([c], [losses("january", 4, 1.0)], [whole])):
        text = json.dumps([dataclasses.asdict(t) for t in verdict.tests], allow_nan=False)
        assert json.loads(text)[0]["name"] == "january"


# Error rates


def trials(n: int, worse: float, seed: int, times: int = 250) -> np.ndarray:
    """Losses and gains on four guards of n, [times, 4, 2]; 4 % change, and the first guard is `worse` by so much."""
    rng = np.random.default_rng(seed)
    of = [(0.02 + w / 2, 0.02 - w / 2) for w in (worse, 0, 0, 0)]
    return np.stack([rng.multinomial(n, [b, c, 1 - b - c], size=times)[:, :2] for b, c in of], 1)


def promoted(counts: np.ndarray, n: int, margin: float | None) -> float:
    """The share of the trials that the gate lets pass."""
    half = n // 2
    passed = [
        judge(
            [guard(f"g{i}", n, half, b, c) for i, (b, c) in enumerate(trial)], None, Gate(margin=margin)
        ).passed
        for trial in counts.tolist()
    ]
    return float(np.mean(passed))


def test_error_rates_as_they_are_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ni, "loss_bound", lambda *_: 0.0)  # costly, and it decides nothing
    assert promoted(trials(1000, 0.0, 0), 1000, 0.03) >= 0.95
    assert promoted(trials(1000, 0.03, 1), 1000, 0.03) <= 0.05 + 0.028  # and two standard errors
    assert ni.power_of(5000, 0.01, 0.05, 0.04) ** 4 >= 0.80
    assert promoted(trials(5000, 0.0, 2, 25), 5000, 0.01) >= 0.80 - 0.16
    assert promoted(trials(1000, 0.0, 3), 1000, None) >= 0.80 - 0.05  # the default margin
