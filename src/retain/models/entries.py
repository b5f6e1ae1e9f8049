"""A module's parameters as entries of Params under a prefix: what a method adds beside the network."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Generator, nn

from retain.types import Params, Spec

M = TypeVar("M", bound=nn.Module)


def under(prefix: str, params: Params) -> Params:
    """The entries whose name begins with a prefix, without it.

    >>> under("vae.", {"vae.w": 1, "w": 2})
    {'w': 1}
    """
    return {k.removeprefix(prefix): p for k, p in params.items() if k.startswith(prefix)}


def drawn(build: Callable[[], nn.Module], prefix: str, spec: Spec, rng: Generator) -> Params:
    """The parameters of a module that is built with weights drawn from `rng`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=rng)))
        module = build()
    module = module.to(spec.device, spec.dtype)
    return {prefix + k: p.detach() for k, p in module.named_parameters()}


def skeleton(build: Callable[..., M], *settings: Hashable) -> M:
    """`build(*settings)` as a function of its parameters, for `functional_call`: no memory of its own."""
    module: M = _on_meta(build, settings)
    return module


@cache
def _on_meta(build: Any, settings: tuple[Hashable, ...]) -> Any:
    with torch.device("meta"):
        return build(*settings)
