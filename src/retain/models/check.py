"""Settings of a generator that no generator can have."""

from __future__ import annotations

import math
from collections.abc import Callable

RULES: dict[str, Callable[[float], bool]] = {
    "> 0": lambda v: v > 0,
    ">= 0": lambda v: v >= 0,
    ">= 1": lambda v: v >= 1,
    "in [0, 1)": lambda v: 0 <= v < 1,
}


def check_numbers(method: object, rules: dict[str, str]) -> None:
    """Raise ValueError where a field, or a member of a tuple, breaks its rule or is infinite; None may be.

    >>> check_numbers(3 + 4j, {"real": "> 0", "imag": ">= 1"})
    """
    for name, rule in rules.items():
        value = getattr(method, name)
        for v in value if isinstance(value, tuple) else (value,):
            if v is not None and not (math.isfinite(v) and RULES[rule](v)):
                raise ValueError(f"{type(method).__name__}.{name} must be {rule}, got {value}")
