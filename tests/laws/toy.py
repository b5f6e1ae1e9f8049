"""Streams, networks and learners so small that every law runs on every method in no time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from retain import EWC, GEM, GenerativeReplay, Learner, Method, Optim, Order, Replay, Stream, run
from retain.methods import discover
from retain.methods.bir import BIR
from retain.methods.kfac_laplace import KFACLaplace
from retain.methods.lwf import LwF
from retain.methods.ncm import NCM
from retain.methods.randumb import RanDumb
from retain.methods.ranpac import RanPAC
from retain.methods.slda import SLDA
from retain.methods.vcl import VCL
from retain.result import Result
from retain.seeds import derive

Scenario = Literal["task", "domain", "class"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
ORDER = Order(batch_size=12)
SGD = Optim(lr=0.1)
N, CLASSES, SHAPE = 60, 4, (1, 8, 8)

# Default settings, but for sizes that would take long.
SMALL: dict[str, dict[str, Any]] = {
    "gdumb": {"memory": 40, "memory_epochs": 20, "memory_batch": 5},
    "gss": {"memory": 30},
    "packnet": {"prune": 0.5},
    "icarl": {"memory": 20},
    "randumb": {"size": 16},
    "ranpac": {"size": 40},
    "vcl": {"draws": 0, "sigma": 0.05, "sigma_lr": 0.01},
    "rwalk": {"every": 2},
    "generative-replay": {"generator_hidden": (16,), "latent": 4},
    "replay-through-feedback": {"feedback": (16,), "latent": 4},
    "bir": {"feedback": (16,), "latent": 4, "shut": 0.5},
    "generative-classifier": {"generator_hidden": (16,), "latent": 3, "draws": 5, "generator_lr": 0.01},
}
DEFAULTS: dict[str, Method[Any]] = {n: kind(**SMALL.get(n, {})) for n, kind in discover().items()}
VARIANTS: dict[str, Method[Any]] = {
    "randumb-conv": RanDumb(features="conv", size=32, kernel=3, grid=2, apart=True),
    "slda-first": SLDA(on="first"),
    "ncm-network": NCM(on="network"),
    "ranpac-network": RanPAC(on="network", size=30, lam=1.0),
    "ewc-online": EWC(online=True, gamma=0.9),
    "ewc-proximal": EWC(lam=1e6, proximal=True),
    "ewc-sampled": EWC(labels="sampled", examples=20),
    "ewc-true": EWC(labels="true", examples=None),
    "kfac-laplace-nearest": KFACLaplace(merge="nearest"),
    "gem-random": GEM(choice="random", memory_per_task=20),
    "gem-ring-wraps": GEM(memory_per_task=25, margin=0.0, ridge=0.0),
    "replay-balanced": Replay(memory=20, select="balanced"),
    "replay-tasks": Replay(memory=30, select="random", weighting="tasks", replay_batch=5),
    "replay-herding": Replay(memory=4, select="herding", per_class=True),
    "replay-ring": Replay(memory=20, select="ring"),
    "generative-replay-soft": GenerativeReplay(labels="soft", generator_hidden=(16,), latent=4),
    "generative-replay-conv": GenerativeReplay(generator="conv", latent=4, replay_batch=7),
    "vcl-coreset": VCL(sigma=0.05, draws=0, coreset=10, coreset_steps=3),
    "bir-internal": BIR(feedback=(16,), latent=4, shut=0.5, generator_lr=0.01, internal=True),
    "lwf-whole": LwF(lam=1.0, temperature=1.0),
}
METHODS = DEFAULTS | VARIANTS

# Laws that a method is not under, with the reason.
EXCEPT: dict[str, dict[str, str]] = {
    "naive on the first task": {
        "gdumb": "learns at the end of a task alone",
        "gss": "an example is replayed from the step after its own, in the first task too",
        "icarl": "learns each class by a sigmoid of its own",
        "slda": "the network is not trained",
        "ncm": "the network is not trained",
        "ncm-network": "the network is not trained",
        "ranpac": "the network is not trained",
        "ranpac-network": "the network is not trained",
        "randumb": "the network is not trained",
        "randumb-conv": "the network is not trained",
        "replay-through-feedback": "the generator's loss also trains the network's layers",
        "bir": "the generator's loss also trains the network's layers",
        "bir-internal": "a classifier on the network's features is trained, not the network",
        "generative-classifier": "the network is not trained",
        "packnet": "prunes and retrains at the end of every task",
        "hat": "learns through gates from the first step on",
        "xdg": "learns through gates from the first step on",
        "replay": "an example is replayed from the step after its own, in the first task too",
        "replay-balanced": "an example is replayed from the step after its own, in the first task too",
        "replay-ring": "an example is replayed from the step after its own, in the first task too",
        "mir": "an example is replayed from the step after its own, in the first task too",
        "er-ace": "an example is replayed from the step after its own, in the first task too",
        "der": "an example is replayed from the step after its own, in the first task too",
        "der-pp": "an example is replayed from the step after its own, in the first task too",
        "vcl": "learns samples of its weights from the first step on",
        "vcl-coreset": "learns samples of its weights from the first step on",
    },
    "order of the classes": {
        "icarl": "exemplars lie class after class, and are drawn by their places",
        "bir": "a class is replayed, and gates are drawn, by its place in the order of the classes",
        "bir-internal": "the same, and the classifier's rows are drawn in the order of the classes",
        "vcl": "noise is drawn weight by weight, in the order of the head's rows",
        "vcl-coreset": "noise is drawn weight by weight, in the order of the head's rows",
        "ewc-sampled": "a sampled label is found by its place in the order of the classes",
    },
    "order of the data": {
        "ncm": "sums in float64 of float32 numbers are exact: no order changes a bit",
        "ncm-network": "sums in float64 of float32 numbers are exact: no order changes a bit",
    },
    "one step a batch": {
        "gdumb": "learns at the end of a task alone",
        "slda": "the network is not trained",
        "ncm": "the network is not trained",
        "ncm-network": "the network is not trained",
        "ranpac": "the network is not trained",
        "ranpac-network": "the network is not trained",
        "randumb": "the network is not trained",
        "randumb-conv": "the network is not trained",
        "slda-first": "the network is trained on the first task alone",
        "generative-classifier": "never runs the network",
        "joint": "goes through the data of all tasks so far",
        "separate": "a new network for each task, its running statistics included",
        "progressive": "a new column for each task, its running statistics included",
    },
}


@contextmanager
def double() -> Iterator[None]:
    """torch's default dtype is float64 inside."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def home(method: Method[Any]) -> Scenario:
    """A scenario that the method can be used in."""
    allowed = method.needs.scenarios
    return "domain" if "domain" in allowed else allowed[0]


PAIRS = [(name, s) for name, m in METHODS.items() for s in SCENARIOS if s in m.needs.scenarios]


def images(classes: list[int], n: int, seed: int, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """uint8 [n, 1, 8, 8] around one pattern a class, and int64 labels, every class in turn."""
    pattern = torch.rand(
        CLASSES, 64, generator=torch.Generator().manual_seed(derive(0, "pattern")), dtype=torch.float32
    )  # whatever torch's default is when a test first asks: streams are kept for the tests after it
    rng = torch.Generator().manual_seed(derive(seed, "images"))
    y = torch.tensor(classes).repeat(n)[:n]
    x = (0.7 * pattern[y] + 0.3 * torch.rand(n, 64, generator=rng, dtype=torch.float32)) * 255
    x = x if order is None else x[:, order]
    return x.to(torch.uint8).view(n, *SHAPE), y


@cache
def stream(scenario: Scenario, classes: Literal["seen", "all"] = "all") -> Stream:
    """Three tasks: permuted pixels with all four classes, or some of the classes in each."""
    groups = {"domain": [[0, 1, 2, 3]] * 3, "task": [[0, 1], [2, 3], [1, 2]], "class": [[0, 1], [2], [3]]}
    arrays = []
    for t, labels in enumerate(groups[scenario]):
        rng = torch.Generator().manual_seed(t)
        order = torch.randperm(64, generator=rng) if scenario == "domain" else None
        arrays.append((*images(labels, N, 2 * t, order), *images(labels, 40, 2 * t + 1, order)))
    return Stream.from_arrays(arrays, scenario, classes)


def mlp() -> nn.Module:
    """64-16-4."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def cnn() -> nn.Module:
    """With everything that behaves differently in training: BatchNorm and Dropout."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Dropout(0.2),
        nn.Flatten(), nn.Linear(48, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(12, CLASSES),
    )  # fmt: skip


def norm() -> nn.Module:
    """With BatchNorm, and nothing that draws random numbers."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(),
        nn.Linear(48, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, CLASSES),
    )  # fmt: skip


def learner(
    method: Method[Any], model: str = "mlp", seed: int = 0, optim: Optim = SGD, **more: Any
) -> Learner:
    """A fresh one; its weights, and whatever Dropout draws, come from the seed."""
    torch.manual_seed(derive(seed, "model"))
    return Learner({"mlp": mlp, "cnn": cnn, "norm": norm}[model](), method, optim, seed=seed, **more)


def go(
    method: Method[Any], scenario: Scenario | None = None, model: str = "mlp", on: Stream | None = None,
    **more: Any,
) -> tuple[Learner, Result]:  # fmt: skip
    """A whole run, over the toy stream of the scenario (None: the method's home) or `on` another one."""
    one = learner(method, model, **more)
    return one, run(on or stream(scenario or home(method)), one, ORDER, curve_every=2)


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a nested state with its path, in which the kind of each container is spelt out."""
    if isinstance(tree, dict):
        for k, v in tree.items():
            yield from leaves(v, f"{path}.{k}")
    elif isinstance(tree, list | tuple):
        yield f"{path}:{type(tree).__name__}", len(tree)
        for i, v in enumerate(tree):
            yield from leaves(v, f"{path}[{i}]")
    else:
        yield path, tree


def differing(a: Any, b: Any) -> list[str]:
    """The paths at which two nested states differ in a bit, a type or the structure; [] if in none."""
    one, two = dict(leaves(a)), dict(leaves(b))
    return [k for k in {**one, **two} if k not in one or k not in two or not _equal(one[k], two[k])]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        # torch.equal says no to NaN beside NaN, and yes to different dtypes
        return a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
    return type(a) is type(b) and bool(a == b)


def kept(one: Learner) -> dict[str, Any]:
    """A copy of all that it knows."""
    return {"params": clone(one.params), "state": clone(one.state)}


def clone(tree: Any) -> Any:
    """A nested state that shares no memory with this one."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return {k: clone(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        values = [clone(v) for v in tree]
        return type(tree)(*values) if "_fields" in vars(type(tree)) else type(tree)(values)
    return tree


def without_seconds(result: Result) -> dict[str, Any]:
    """All that must be the same when a run is repeated."""
    return {k: v for k, v in result.to_json().items() if k != "seconds"}


def load_result(folder: Path) -> Result:
    """What a run with `out` left there."""
    return Result.load(folder / "result.json")
