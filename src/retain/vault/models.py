"""The networks of vaults, by name: `mlp`, `mlp:400,400`, `cnn`, `resnet18`, or a factory of one's own."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from retain.models import CNN, MLP, ResNet18
from retain.seeds import derive
from retain.vault.errors import VaultError

PLAIN: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {"cnn": CNN, "resnet18": ResNet18}
HIDDEN = [256, 256]  # of an mlp that is not told
WIDEST = 1_000_000
FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
TRUSTED = "RETAIN_MODELS"  # modules whose factories a vault may import
RULE = "a model is mlp, mlp:400,400, cnn, resnet18 or PACKAGE.MODULE:FACTORY"


def parse_model(text: str) -> dict[str, Any]:
    """What the command line says, as `build` takes it and a vault keeps it. Nothing is imported yet.

    >>> parse_model("mlp"), parse_model("mlp:400,400")
    ({'name': 'mlp', 'hidden': [256, 256]}, {'name': 'mlp', 'hidden': [400, 400]})
    >>> parse_model("cnn"), parse_model("shop.nets:make")
    ({'name': 'cnn'}, {'name': 'shop.nets:make'})

    Raises:
        VaultError: it is no such name.
    """
    name, colon, rest = text.partition(":")
    if name == "mlp":
        widths = [w.strip() for w in rest.split(",")] if colon else [str(w) for w in HIDDEN]
        hidden = [int(w) if re.fullmatch("[0-9]{1,9}", w) else 0 for w in widths]
        return {"name": "mlp", "hidden": _widths(hidden, text)}
    if text in PLAIN or FACTORY.fullmatch(text):
        return {"name": text}
    raise VaultError(f"{RULE}, got {text!r}")


def is_factory(name: str) -> bool:
    """Whether it names code outside the package."""
    return FACTORY.fullmatch(name) is not None and not name.startswith("mlp:")


def check_trust(name: str, said: str | None) -> None:
    """Raise VaultError where a vault names a factory that its user has not: importing it would run its code.

    Args:
        name: of the model, as the vault has it.
        said: by the user, of this vault; beside it the variable TRUSTED counts, modules with commas.
    """
    if not is_factory(name) or said == name:
        return
    module = name.partition(":")[0]
    if module not in [m.strip() for m in os.environ.get(TRUSTED, "").split(",")]:
        raise VaultError(
            f"this vault makes its network by code that is not in it, {name}: if you trust that code, set "
            f"{TRUSTED}={module} (in Python also retain.open(path, model={name!r}))"
        )


def build(spec: Mapping[str, Any], shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
    """A network [N, *shape] -> [N, outputs], its weights drawn from the seed.

    The same arguments give the same bits; torch's global generator is left as it was.

    Args:
        spec: what `parse_model` gives.
        shape: of one example.
        outputs: of the network.
        seed: of the weights.

    Raises:
        VaultError: the network cannot take such examples; or the factory cannot be imported, fails, or gives
            anything but a network of that shape.

    >>> build({"name": "mlp", "hidden": [8]}, (4,), 3, seed=0)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "model"))
        name = spec.get("name")
        if name == "mlp":
            return MLP(shape, outputs, _widths(spec.get("hidden"), spec))
        if isinstance(name, str) and name in PLAIN:
            try:
                return PLAIN[name](shape, outputs)
            except ValueError as e:
                raise VaultError(f"model {name}: {e}") from e
        if isinstance(name, str) and FACTORY.fullmatch(name):
            return _made(name, shape, outputs)
    raise VaultError(f"{RULE}, got {name!r}")


def _widths(hidden: object, given: object) -> list[int]:
    good = isinstance(hidden, list) and all(type(w) is int and 0 < w <= WIDEST for w in hidden)
    if not good:
        raise VaultError(f"mlp takes the widths of its hidden layers, such as mlp:400,400, got {given!r}")
    return list(hidden)  # type: ignore[call-overload, no-any-return]


def _made(name: str, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """What the user's factory gives, once it has been seen to be such a network."""
    factory = _factory(name)
    try:
        made = factory(shape, outputs)
    except Exception as e:  # the user's own code may raise anything
        raise VaultError(f"{name}(shape={shape}, outputs={outputs}) fails: {_said(e)}") from e
    if not isinstance(made, nn.Module):
        raise VaultError(f"{name} must give a torch.nn.Module, it gave {type(made).__name__}")
    modes = {m: m.training for m in made.modules()}
    try:
        with torch.no_grad():
            out = made.eval()(torch.zeros(2, *shape))
    except Exception as e:
        raise VaultError(f"the network of {name} fails on inputs [2, {_listed(shape)}]: {_said(e)}") from e
    for module, training in modes.items():  # one that the factory put in evaluation mode stays in it
        module.training = training
    found = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if found != [2, outputs]:
        raise VaultError(
            f"the network of {name} must give logits [N, {outputs}], of 2 examples it gave {found}: let its last "
            "layer have as many outputs as the factory is told"
        )
    return made


def _factory(name: str) -> Callable[[tuple[int, ...], int], object]:
    """The function that the user named when the vault was made."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as e:  # importing runs the user's code
        raise VaultError(
            f"model {name} cannot be imported: {_said(e)}; check the name, and that its package is on PYTHONPATH"
        ) from e
    if not callable(found):
        raise VaultError(f"{name} must be a function of (shape, outputs), it is {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _said(e: Exception) -> str:
    """In one line."""
    return " ".join(f"{type(e).__name__}: {e}".split())[:200]


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
