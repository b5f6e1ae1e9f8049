"""One file, one paper. A method is found by lying in this folder: nothing has to be registered."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from typing import Any, get_args

from torch import Tensor

from retain.method import GradientMethod, Method
from retain.optim import check_word
from retain.types import Loss, Scenario

WORKS = ("replay", "der-pp", "generative-classifier", "slda")  # in scenario class, whatever may be kept


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


def can_learn(method: Method[Any], loss: Loss, class_weights: Tensor | None) -> None:
    """Raise ValueError where a method is not made for a loss, or leaves class weights out of its own."""
    if callable(loss):
        raise ValueError(
            f"loss must be one of {', '.join(get_args(Loss))}, got {loss!r}; a criterion of your own stays in your "
            "loop: retain.attach(model, method)"
        )
    check_word("loss", loss, Loss)
    name = type(method).__name__
    if loss not in method.needs.losses:
        others = [n for n, kind in discover().items() if loss in kind().needs.losses]
        raise ValueError(f"{name} does not learn loss {loss}; these do: {', '.join(others)}")
    if class_weights is None:
        return
    if loss != "cross-entropy":
        raise ValueError(f"class_weights are for classes, the loss is {loss}: leave them out")
    if not isinstance(method, GradientMethod) or method.adds_loss:
        raise ValueError(f"{name} has a loss of its own, which knows no class weights: leave them out")


def free_of_boundaries() -> list[str]:
    """The methods that run without being told where a task begins and ends."""
    return [n for n, kind in discover().items() if not kind.traits.boundaries]


def caution(methods: Sequence[Method[Any]], scenario: Scenario) -> str | None:
    """One line on those of the methods that are known to fail in a scenario, and what works; else None.

    Plain training is there to be seen failing: nothing is said of it.
    """
    known = discover()
    failing = [
        type(m).__name__
        for m in methods
        if scenario in m.needs.fails_in and not isinstance(m, known["naive"])
    ]
    if not failing:
        return None
    works = [n for n in WORKS if scenario not in known[n].traits.fails_in]
    one = len(failing) == 1
    figure = ", about 1 / tasks (20% with five)" if scenario == "class" else ""
    return (
        f"{', '.join(failing)} {'is' if one else 'are'} known to fail in scenario {scenario}: "
        f"{'it ends' if one else 'they end'} near plain training{figure}. "
        f"What works: {', '.join(works)}; see retain list methods"
    )
