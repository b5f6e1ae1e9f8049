"""Hyper-parameters outside their rule are refused by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from retain.method import GradientMethod, check_choices, check_numbers


@dataclass(frozen=True)
class Numbers(GradientMethod[None]):
    """Some settings with the rules they are under."""

    rate: float = 0.5
    steps: int | None = None
    share: float = 0.0
    widths: tuple[int, ...] = ()
    word: Literal["one", "two"] = "one"

    def __post_init__(self) -> None:
        check_choices(self)
        rules = {"rate": "a number > 0", "steps": ">= 1 or none (all)", "share": "in [0, 1)"}
        check_numbers(self, rules | {"widths": ">= 1"})


def test_what_is_within_its_rule_passes() -> None:
    Numbers(rate=1e-9, steps=1, share=0.999, widths=(1, 2), word="two")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"rate": 0.0}, "Numbers.rate must be a number > 0, got 0.0"),
        ({"rate": math.nan}, "Numbers.rate must be a number > 0, got nan"),
        ({"rate": math.inf}, "Numbers.rate must be a number > 0, got inf"),
        ({"steps": 0}, "Numbers.steps must be >= 1 or none (all), got 0"),
        ({"share": 1}, "Numbers.share must be in [0, 1), got 1"),
        ({"widths": (4, 0)}, "Numbers.widths must be >= 1, got (4, 0)"),
        ({"word": "three"}, "Numbers.word must be one of one, two, got 'three'"),
    ],
)
def test_what_is_outside_is_refused_in_words(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        Numbers(**bad)
    assert str(refused.value) == message


def test_none_passes_only_where_the_type_has_it() -> None:
    Numbers(steps=None)
    with pytest.raises(TypeError):
        Numbers(rate=None)  # type: ignore[arg-type]
