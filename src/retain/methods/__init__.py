"""One file, one paper. A method is found by lying in this folder: nothing has to be registered."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

from retain.method import Method
from retain.types import Scenario


def discover() -> dict[str, type[Method[Any]]]:
    """Every method in this folder by its name: that of its file, with dashes.

    >>> discover()["ewc"].__name__
    'EWC'
    """
    found: dict[str, type[Method[Any]]] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        members = vars(importlib.import_module(f"{__name__}.{module}")).values()
        own = [
            c
            for c in members
            if inspect.isclass(c) and issubclass(c, Method) and c.__module__ == f"{__name__}.{module}"
        ]
        if len(own) != 1:
            raise ImportError(
                f"methods/{module}.py must define one method, found {[c.__name__ for c in own]}"
            )
        found[module.replace("_", "-")] = own[0]
    return found


def usable_in(method: Method[Any], scenario: Scenario) -> None:
    """Raise ValueError where a method needs what a scenario hides; the message says what can be used."""
    if scenario in method.needs.scenarios:
        return
    others = [n for n, kind in discover().items() if scenario in kind.traits.scenarios]
    raise ValueError(
        f"{type(method).__name__} can be used in scenario {' or '.join(method.needs.scenarios)} only, where the "
        f"task of an example is known when predicting; this is {scenario}, where these can: {', '.join(others)}"
    )


def free_of_boundaries() -> list[str]:
    """The methods that run without being told where a task begins and ends."""
    return [n for n, kind in discover().items() if not kind.traits.boundaries]


def caution(method: Method[Any], scenario: Scenario) -> str | None:
    """One line where a method is known to fail in a scenario, with what works there instead; else None."""
    if scenario not in method.needs.fails_in:
        return None
    works: dict[str, list[str]] = {}
    for name, kind in discover().items():
        t = kind.traits
        if kind.data == "task" and scenario in t.scenarios and scenario not in t.fails_in:
            works.setdefault(t.stores, []).append(name)
    said = "; ".join(f"keeping {stores}: {_few(names)}" for stores, names in works.items())
    return (
        f"{type(method).__name__} is known to fail in scenario {scenario}: it ends near what plain training "
        f"reaches (about 20% on Split MNIST). What works there: {said}; see retain list methods"
    )


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
