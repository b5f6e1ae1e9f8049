"""Calibration: the likeliest temperature, and the calibration error against a slow twin."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as nnf

from retain.vault.calibrate import FEWEST, HIGH, calibrate, ece, temperature
from retain.vault.errors import VaultError


def drawn(n: int, t: float, seed: int = 0, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels that are drawn from their soft-max at temperature t."""
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, generator=rng)
    return logits, torch.multinomial((logits / t).softmax(1), 1, generator=rng)[:, 0]


@pytest.mark.parametrize("t", [0.3, 1.0, 2.5, 6.0])
def test_the_temperature_that_labels_were_drawn_at_is_found(t: float) -> None:
    assert temperature(*drawn(8000, t)) == pytest.approx(t, rel=0.08)


def test_it_is_the_likeliest() -> None:
    logits, y = drawn(300, 2.0)
    best = temperature(logits, y)
    losses = [float(nnf.cross_entropy(logits.double() / t, y)) for t in torch.linspace(0.5, 8, 400).tolist()]
    assert float(nnf.cross_entropy(logits.double() / best, y)) <= min(losses) + 1e-9


def test_a_temperature_moves_no_answer_and_is_right_on_average() -> None:
    logits, y = drawn(4000, 3.0)
    found = calibrate(logits, y)
    assert found.ece > 0.2 and found.ece_calibrated < 0.05 and found.note is None
    assert calibrate(logits, y) == found
    assert torch.equal((logits / found.temperature).argmax(1), logits.argmax(1))


def test_classes_that_are_not_in_play_change_nothing() -> None:
    logits, y = drawn(500, 2.0)
    wide = torch.cat([logits, torch.full((500, 3), -math.inf)], 1)
    assert temperature(wide, y) == pytest.approx(temperature(logits, y))
    assert ece(wide, y) == pytest.approx(ece(logits, y))
    y = y.clone()
    y[:100] = 6  # classes not in play: nothing can be learned from these
    assert temperature(wide, y) == pytest.approx(temperature(logits[100:], y[100:]))
    assert ece(wide, y) > ece(logits[100:], y[100:])  # but they are wrong answers


def test_where_there_is_no_telling_it_is_one_and_says_why() -> None:
    logits, y = drawn(2 * FEWEST - 3, 3.0)
    few = calibrate(logits, y)
    assert few.temperature == 1.0 and few.note is not None and "too few" in few.note
    right = 4 * torch.eye(3).repeat(50, 1)
    sure = calibrate(right, torch.arange(150) % 3)
    assert sure.temperature == 1.0 and sure.note is not None and "likeliest" in sure.note
    assert calibrate(torch.zeros(100, 3), torch.arange(100) % 3).temperature == 1.0
    empty = calibrate(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert empty[:3] == (1.0, 0.0, 0.0)


def test_answers_that_are_no_better_than_chance_end_at_the_highest() -> None:
    logits, _ = drawn(2000, 1.0)
    y = torch.randint(5, (2000,), generator=torch.Generator().manual_seed(9))
    assert temperature(20 * logits, y) == pytest.approx(HIGH, rel=0.01)


def test_the_error_is_that_of_bins_counted_one_by_one() -> None:
    logits, y = drawn(400, 2.0)
    for bins in (1, 4, 15):
        p, guess = logits.double().softmax(1).max(1)
        gap = 0.0
        for i in range(bins):
            inside = [k for k in range(400) if i / bins < float(p[k]) <= (i + 1) / bins]
            if inside:
                right = sum(bool(guess[k] == y[k]) for k in inside) / len(inside)
                gap += len(inside) / 400 * abs(right - float(p[inside].mean()))
        assert ece(logits, y, bins) == pytest.approx(gap)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_none_are_refused(bad: float) -> None:
    logits, y = drawn(50, 1.0)
    logits[3, 1] = bad
    for f in (temperature, ece, calibrate):
        with pytest.raises(VaultError, match="finite"):
            f(logits, y)
    with pytest.raises(VaultError, match="in play"):
        temperature(torch.full((30, 2), -math.inf), torch.zeros(30, dtype=torch.int64))
