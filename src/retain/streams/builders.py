"""The streams of the literature, each over MNIST or Fashion-MNIST, each from one seed.

Every draw (which images, which permutation, which angle, what noise) has a generator of its own,
derived from the seed, its purpose and the task. So a task is the same however many tasks there
are, whatever method is run on it, and whatever else draws random numbers.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from retain.examples import Examples
from retain.seeds import generator
from retain.streams.arrange import Permute, Rotate, noisy
from retain.streams.images import Images
from retain.streams.sources import CLASSES, Data
from retain.streams.stream import Stream
from retain.types import Classes, Scenario

OPTIONS = {
    "data": "mnist (comes with the package) or fashion-mnist.",
    "folder": "Where the data lie, in torchvision's layout; None: the package, or where Debian puts them.",
    "tasks": "How many tasks; for split at most 10 / per_task, and None for that many.",
    "samples": "Training images a task, drawn at random for each task; None: all.",
    "test_samples": "Test images a task, drawn at random for each task; None: all.",
    "validation": "Training images held out for validation; no task trains on any of them.",
    "seed": "Of every draw.",
    "pad": "Zero-pad the images to 32x32, before anything else is done to them.",
    "normalise": "Read pixels as (x - mean) / sd of all training images, not in [0, 1].",
    "first": "Whether the first task is permuted like the others, or plain.",
    "max_angle": "Angles are drawn from 0 to this, in degrees.",
    "scenario": "What is known of the task at test: task, domain (identity hidden, labels counted anew in "
    "each task), class (identity hidden, labels of all tasks told apart).",
    "per_task": "Classes a task.",
    "class_order": "ascending, random, or the classes themselves, such as 3,1,4,0.",
    "classes": "Scenario class: outputs in play are those of the classes seen so far, or all ten.",
    "noise": "To each pixel of the first task is added a number drawn uniformly from 0 to this.",
}
"""What each option of the builders means; the command line's help, too."""

F = TypeVar("F", bound=Callable[..., Stream])


def _described(builder: F) -> F:
    """Write the options into the docstring, so that `help` and the command line say them all."""
    lines = [f"    {name}: {OPTIONS[name]}" for name in inspect.signature(builder).parameters]
    builder.__doc__ = "\n".join([inspect.cleandoc(builder.__doc__ or ""), "", "Args:", *lines])
    return builder


@_described
def permuted(
    *,
    data: Data = "mnist",
    folder: Path | str | None = None,
    tasks: int = 10,
    samples: int | None = None,
    test_samples: int | None = None,
    validation: int = 0,
    seed: int = 0,
    pad: bool = False,
    normalise: bool = False,
    first: Literal["permuted", "plain"] = "permuted",
) -> Stream:
    """Permuted MNIST: in each task the pixels of all images change places in one new way.

    Goodfellow et al. 2013 (An Empirical Investigation of Catastrophic Forgetting) and Kirkpatrick
    et al. 2017 (EWC, section 2.1) leave the first task plain; Lopez-Paz & Ranzato 2017 (GEM,
    section 4.1) permute every task. Scenario domain, ten classes.
    """
    config = _config("permuted", locals())
    if first not in ("permuted", "plain"):
        raise ValueError(f"first must be permuted or plain, got {first!r}")
    images = Images.of(config)
    made = []
    for t in range(_count("tasks", tasks)):
        order = torch.randperm(images.side**2, generator=generator(seed, "permutation", t))
        plain = t == 0 and first == "plain"
        made.append(images.task(t, _letter(t), None if plain else Permute(order)))
    return Stream("permuted", tuple(made), "domain", CLASSES, config=config)


@_described
def rotated(
    *,
    data: Data = "mnist",
    folder: Path | str | None = None,
    tasks: int = 10,
    samples: int | None = None,
    test_samples: int | None = None,
    validation: int = 0,
    seed: int = 0,
    pad: bool = False,
    normalise: bool = False,
    max_angle: float = 180.0,
) -> Stream:
    """Rotated MNIST: in each task all images are turned counter-clockwise by one angle.

    Lopez-Paz & Ranzato 2017 (GEM, section 4.1): a fixed angle between 0 and 180 degrees a task.
    Here it is uniform for each task; the paper's code draws from T equal parts in ascending order,
    and turns without interpolation. Scenario domain, ten classes.
    """
    config = _config("rotated", locals())
    if not _real(max_angle) or not 0 < max_angle <= 360:
        raise ValueError(f"max_angle must be above 0 and at most 360 degrees, got {max_angle!r}")
    images = Images.of(config)
    made = []
    for t in range(_count("tasks", tasks)):
        draw = torch.rand((), generator=generator(seed, "angle", t), dtype=torch.float64)
        angle = float(draw) * max_angle
        made.append(images.task(t, f"{angle:.1f} degrees", Rotate(angle, images.side)))
    return Stream("rotated", tuple(made), "domain", CLASSES, config=config)


@_described
def split(
    *,
    data: Data = "mnist",
    folder: Path | str | None = None,
    tasks: int | None = None,
    samples: int | None = None,
    test_samples: int | None = None,
    validation: int = 0,
    seed: int = 0,
    pad: bool = False,
    normalise: bool = False,
    scenario: Scenario = "task",
    per_task: int = 2,
    class_order: str | Sequence[int] = "ascending",
    classes: Classes = "seen",
) -> Stream:
    """Split MNIST: each task brings a few of the ten classes, and no other.

    Zenke et al. 2017 (Synaptic Intelligence, section 5.1); the three scenarios are van de Ven &
    Tolias 2019's. Task and class keep the labels 0 to 9 and ten outputs; domain counts them from 0
    in each task and has `per_task` outputs.
    """
    config = _config("split", locals())
    order = _class_order(class_order, seed)
    config["class_order"] = (
        class_order if class_order in ("ascending", "random") else ",".join(map(str, order))
    )
    groups = _groups(order, per_task, tasks)
    if scenario == "domain" and per_task == 1:
        raise ValueError(
            "per_task must be at least 2 in scenario domain: one class leaves nothing to tell apart"
        )
    images = Images.of(config)
    made = [
        images.task(t, "/".join(map(str, group)), only=group, relabel=order if scenario == "domain" else None)
        for t, group in enumerate(groups)
    ]
    outputs = per_task if scenario == "domain" else CLASSES
    return Stream("split", tuple(made), scenario, outputs, classes if scenario == "class" else "all", config)


@_described
def noisy_clean(
    *,
    data: Data = "mnist",
    folder: Path | str | None = None,
    samples: int | None = None,
    test_samples: int | None = None,
    validation: int = 0,
    seed: int = 0,
    pad: bool = False,
    normalise: bool = False,
    noise: float = 0.6,
) -> Stream:
    """Two tasks: digits under heavy pixel noise, then the same digits clean.

    Hung-yi Lee's lecture Life Long Learning, which names no level: here the noise is uniform from 0
    to `noise`, the sum clamped to 1, drawn once and kept as uint8. Scenario domain, ten classes.
    """
    config = _config("noisy-clean", locals())
    if not _real(noise) or not 0 <= noise <= 1:
        raise ValueError(f"noise must be in [0, 1], got {noise!r}")
    images = Images.of(config)

    def add_noise(clean: Examples, purpose: str) -> Examples:
        lying = clean.materialise()
        return replace(lying, x=noisy(lying.x, noise, generator(seed, "noise", purpose)))

    tasks = images.task(0, "noisy", once=add_noise), images.task(1, "clean")
    return Stream("noisy-clean", tasks, "domain", CLASSES, config=config)


BUILDERS: dict[str, Callable[..., Stream]] = {
    "permuted": permuted,
    "rotated": rotated,
    "split": split,
    "noisy-clean": noisy_clean,
}


def build(config: Mapping[str, Any]) -> Stream:
    """The stream that `config` describes: a builder's name, and any of its options.

    `build(stream.config)` is the same stream again, slices included ("only": positions of tasks).

    Raises:
        ValueError: an unknown name or option, or a value that the builder refuses.
        DataNotFound: the data are not where they were looked for.

    >>> build({"name": "split", "scenario": "class", "samples": 100})
    <Stream split: 5 tasks, scenario class, 10 classes, examples [1, 28, 28]>
    """
    options = dict(config)
    name, only = options.pop("name", None), options.pop("only", None)
    if name in ("arrays", "datasets"):
        raise ValueError(
            f"a stream of your own {name} cannot be made from its config; use Stream.from_{name} again"
        )
    if name not in BUILDERS:
        raise ValueError(
            f"no stream is called {name!r}{_close(name, BUILDERS)}; there are {', '.join(BUILDERS)}"
        )
    known = list(inspect.signature(BUILDERS[name]).parameters)
    for option in options:
        if option not in known:
            raise ValueError(
                f"stream {name} has no option {option!r}{_close(option, known)}; it has {', '.join(known)}"
            )
    stream = BUILDERS[name](**options)
    if only is None:
        return stream
    if not isinstance(only, list) or any(i not in range(len(stream)) for i in only):
        raise ValueError(f"only must be a list of tasks from 0 to {len(stream) - 1}, got {only}")
    return stream.select(only)


def _letter(t: int) -> str:
    """A, B, ..., Z, A2, B2, ...: what the EWC paper calls its permuted tasks."""
    return chr(ord("A") + t % 26) + (str(t // 26 + 1) if t >= 26 else "")


def _close(name: object, known: Mapping[str, Any] | Sequence[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _config(name: str, options: dict[str, Any]) -> dict[str, Any]:
    folder = options["folder"]
    return {"name": name, **options, "folder": None if folder is None else str(folder)}


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return value


def _groups(order: list[int], per_task: int, tasks: int | None) -> list[list[int]]:
    if _count("per_task", per_task) > len(order) or len(order) % per_task:
        raise ValueError(f"per_task must divide the {len(order)} classes into equal tasks, got {per_task}")
    groups = [order[i : i + per_task] for i in range(0, len(order), per_task)]
    if tasks is not None and _count("tasks", tasks) > len(groups):
        raise ValueError(f"tasks must be at most {len(order)} / {per_task} = {len(groups)}, got {tasks}")
    return groups[:tasks]


def _class_order(given: str | Sequence[int], seed: int) -> list[int]:
    if given == "ascending":
        return list(range(CLASSES))
    if given == "random":
        return [int(c) for c in torch.randperm(CLASSES, generator=generator(seed, "class order"))]
    try:
        order = [int(c) for c in (given.split(",") if isinstance(given, str) else given)]
    except (TypeError, ValueError):
        order = []
    if not order or len(set(order)) < len(order) or not set(order) <= set(range(CLASSES)):
        raise ValueError(
            f"class_order must be ascending, random, or different classes from 0 to {CLASSES - 1} such as "
            f"3,1,4,0, got {given!r}"
        )
    return order
