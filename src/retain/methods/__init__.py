"""One file, one paper. A method is found by lying in this folder: nothing has to be registered."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

from retain.method import Method


def discover() -> dict[str, type[Method[Any]]]:
    """Every method in this folder by its name: that of its file, with dashes.

    >>> sorted(discover())
    ['ewc', 'gem', 'generative-replay', 'joint', 'l2', 'naive', 'replay']
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
