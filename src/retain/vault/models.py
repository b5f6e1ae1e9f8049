"""The networks of vaults, by name: `mlp`, `mlp:400,400`, `cnn`, `resnet18`, or a factory of one's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from retain.models import CNN, MLP, ResNet18
from retain.seeds import derive
from retain.vault.errors import VaultError

PLAIN = ("mlp", "cnn", "resnet18")


def parse_model(text: str) -> dict[str, Any]:
    """What the command line says, as a vault keeps it.

    >>> parse_model("mlp:400,400"), parse_model("cnn")
    ({'name': 'mlp', 'hidden': [400, 400]}, {'name': 'cnn'})

    Raises:
        VaultError: it is no such name.
    """
    name, colon, rest = text.partition(":")
    if name == "mlp":
        widths = rest.split(",") if colon else ["256", "256"]
        if not all(w.strip().isdigit() and int(w) > 0 for w in widths):
            raise VaultError(f"mlp takes the widths of its hidden layers, such as mlp:400,400, got {text!r}")
        return {"name": "mlp", "hidden": [int(w) for w in widths]}
    if text in PLAIN:
        return {"name": text}
    if colon and name and rest.isidentifier() and all(part.isidentifier() for part in name.split(".")):
        return {"name": text}
    raise VaultError(f"a model is {', '.join(PLAIN)} or PACKAGE.MODULE:FACTORY, got {text!r}")


def build(spec: dict[str, Any], shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
    """A network [N, *shape] -> [N, outputs], its weights drawn from the seed; torch's own generator is left alone.

    Raises:
        VaultError: the factory cannot be imported, or gives no such network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "model"))
        return _made(spec, shape, outputs)


def _made(spec: dict[str, Any], shape: tuple[int, ...], outputs: int) -> nn.Module:
    name = spec["name"]
    if name == "mlp":
        return MLP(shape, outputs, spec["hidden"])
    try:
        if name == "cnn":
            return CNN(shape, outputs)
        if name == "resnet18":
            return ResNet18(shape, outputs)
    except ValueError as e:
        raise VaultError(f"model {name}: {e}") from e
    made = _factory(name)(shape, outputs)
    if not isinstance(made, nn.Module):
        raise VaultError(f"{name} must give a torch.nn.Module, it gave {type(made).__name__}")
    return made


def _factory(name: str) -> Callable[[tuple[int, ...], int], Any]:
    """What the user named when the vault was made; imported, never read from a file of the vault."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as e:
        raise VaultError(f"model {name} cannot be imported: {e}; put its package on PYTHONPATH") from e
    if not callable(found):
        raise VaultError(f"{name} is no function that makes a network from (shape, outputs)")
    return found  # type: ignore[no-any-return]
