"""The streams of the literature, each over MNIST, Fashion-MNIST or CIFAR, each from one seed.

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
from retain.streams.mixing import blurred, repeated
from retain.streams.sources import Data
from retain.streams.stream import Stream
from retain.types import Classes, Scenario, Task

OPTIONS = {
    "data": "mnist (comes with the package), fashion-mnist, cifar10 or cifar100 (from a folder, binary version).",
    "folder": "Where the data lie, in torchvision's layout; None: the package, or where Debian puts them.",
    "tasks": "How many tasks; for split at most classes / per_task, and None for that many.",
    "samples": "Training images a task (over all its visits), drawn at random for each task; None: all.",
    "test_samples": "Test images a task, drawn at random for each task; None: all.",
    "validation": "Training images held out for validation; no task trains on any of them.",
    "seed": "Of every draw.",
    "pad": "Zero-pad the images to 32x32, before anything else is done to them; not for CIFAR's, which are so.",
    "normalise": "Read pixels as (x - mean) / sd of all training images, all channels alike, not in [0, 1].",
    "first": "Whether the first task is permuted like the others, or plain.",
    "max_angle": "Angles are drawn from 0 to this, in degrees.",
    "scenario": "What is known of the task at test: task, domain (identity hidden; split counts labels anew in "
    "each task), class (identity hidden, labels of all tasks told apart; split only).",
    "per_task": "Classes a task.",
    "class_order": "ascending, random, or the classes themselves, such as 3,1,4,0.",
    "classes": "Scenario class: outputs in play are those of the classes seen so far, or all there are.",
    "noise": "To each pixel of the first task is added a number drawn uniformly from 0 to this.",
    "boundaries": "Whether methods are told where a task begins and ends; if not, only those that need no "
    "boundary can be run, and the scenario is domain or class.",
    "blur": "Tasks mix at their edges: this share of a task's training images, in [0, 1), changes places with as "
    "many of its two neighbours, half with each (the first and the last task have one neighbour and exchange "
    "half as many). Within a task all are then in random order. Not in scenario task. As Bang et al. 2021 "
    "(Rainbow Memory: 'blurry') and Koh et al. 2022 (i-Blurry), but exchanged with neighbours alone.",
    "repeats": "Go round all tasks so many times. A task's training images are dealt among its visits, each seen "
    "in one; every visit counts as a task, named such as 'A (2)', tested on all test images of its task.",
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
    scenario: Scenario = "domain",
    boundaries: bool = True,
    blur: float = 0.0,
    repeats: int = 1,
) -> Stream:
    """Permuted MNIST: in each task the pixels of all images change places in one new way.

    Goodfellow et al. 2013 (An Empirical Investigation of Catastrophic Forgetting) and Kirkpatrick
    et al. 2017 (EWC, section 2.1) leave the first task plain; Lopez-Paz & Ranzato 2017 (GEM,
    section 4.1) permute every task. Scenario domain or task, all classes in every task. The channels
    of a pixel stay together.
    """
    config = _config("permuted", locals())
    if first not in ("permuted", "plain"):
        raise ValueError(f"first must be permuted or plain, got {first!r}")
    images = Images.of(config)
    made, area = [], images.side**2
    for t in range(_count("tasks", tasks)):
        order = torch.randperm(area, generator=generator(seed, "permutation", t))
        order = torch.cat([order + channel * area for channel in range(images.kind.channels)])
        plain = t == 0 and first == "plain"
        made.append(images.task(t, _letter(t), None if plain else Permute(order)))
    return _same_labels("permuted", made, images, config)


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
    scenario: Scenario = "domain",
    boundaries: bool = True,
    blur: float = 0.0,
    repeats: int = 1,
) -> Stream:
    """Rotated MNIST: in each task all images are turned counter-clockwise by one angle.

    Lopez-Paz & Ranzato 2017 (GEM, section 4.1): a fixed angle between 0 and 180 degrees a task.
    Here it is uniform for each task; the paper's code draws from T equal parts in ascending order,
    and turns without interpolation. Scenario domain or task, all classes in every task.
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
    return _same_labels("rotated", made, images, config)


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
    boundaries: bool = True,
    blur: float = 0.0,
    repeats: int = 1,
) -> Stream:
    """Split MNIST (or CIFAR): each task brings a few of the classes, and no other.

    Zenke et al. 2017 (Synaptic Intelligence, section 5.1); the three scenarios are van de Ven &
    Tolias 2019's. Task and class keep the labels and have an output for each; domain counts them
    from 0 in each task and has `per_task` outputs.
    """
    config = _config("split", locals())
    images = Images.of(config)
    count = images.kind.classes
    order = _class_order(class_order, seed, count)
    config["class_order"] = (
        class_order if class_order in ("ascending", "random") else ",".join(map(str, order))
    )
    groups = _groups(order, per_task, tasks, scenario)
    made = [
        images.task(t, "/".join(map(str, group)), only=group, relabel=order if scenario == "domain" else None)
        for t, group in enumerate(groups)
    ]
    outputs = per_task if scenario == "domain" else count
    in_play = classes if scenario == "class" else "all"
    return Stream("split", _flow(made, config), scenario, outputs, in_play, config, boundaries)


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
    to `noise`, the sum clamped to 1, drawn once and kept as uint8. Scenario domain, all classes in both.
    """
    config = _config("noisy-clean", locals())
    if not _real(noise) or not 0 <= noise <= 1:
        raise ValueError(f"noise must be in [0, 1], got {noise!r}")
    images = Images.of(config)

    def add_noise(clean: Examples, purpose: str) -> Examples:
        lying = clean.materialise()
        return replace(lying, x=noisy(lying.x, noise, generator(seed, "noise", purpose)))

    tasks = images.task(0, "noisy", once=add_noise), images.task(1, "clean")
    return Stream("noisy-clean", tasks, "domain", images.kind.classes, config=config)


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


def _same_labels(name: str, made: list[Task], images: Images, config: dict[str, Any]) -> Stream:
    """The stream of tasks that all have the same classes."""
    if config["scenario"] not in ("domain", "task"):
        raise ValueError(
            f"scenario of {name} must be domain or task, since all its tasks have the same classes, "
            f"got {config['scenario']!r}"
        )
    told, outputs = _flow(made, config), images.kind.classes
    return Stream(name, told, config["scenario"], outputs, "all", config, config["boundaries"])


def _flow(made: list[Task], config: dict[str, Any]) -> tuple[Task, ...]:
    """The tasks as they come: repeated, then blurred."""
    if not isinstance(config["boundaries"], bool):
        raise ValueError(f"boundaries must be true or false, got {config['boundaries']!r}")
    blur, seed = config["blur"], config["seed"]
    if not _real(blur) or not 0 <= blur < 1:
        raise ValueError(f"blur must be a share from 0 to below 1, got {blur!r}")
    if blur and config["scenario"] == "task":
        raise ValueError(
            "blur mixes tasks, so that none can be named, but the scenario is task: give --scenario domain or "
            "--scenario class (class: split only)"
        )
    return tuple(blurred(repeated(made, _count("repeats", config["repeats"]), seed), blur, seed))


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


def _groups(order: list[int], per_task: int, tasks: int | None, scenario: Scenario) -> list[list[int]]:
    if _count("per_task", per_task) > len(order) or len(order) % per_task:
        raise ValueError(f"per_task must divide the {len(order)} classes into equal tasks, got {per_task}")
    groups = [order[i : i + per_task] for i in range(0, len(order), per_task)]
    if tasks is not None and _count("tasks", tasks) > len(groups):
        raise ValueError(f"tasks must be at most {len(order)} / {per_task} = {len(groups)}, got {tasks}")
    if scenario == "domain" and per_task == 1:
        raise ValueError(
            "per_task must be at least 2 in scenario domain: one class leaves nothing to tell apart"
        )
    return groups[:tasks]


def _class_order(given: str | Sequence[int], seed: int, count: int) -> list[int]:
    if given == "ascending":
        return list(range(count))
    if given == "random":
        return [int(c) for c in torch.randperm(count, generator=generator(seed, "class order"))]
    try:
        order = [int(c) for c in (given.split(",") if isinstance(given, str) else given)]
    except (TypeError, ValueError):
        order = []
    if not order or len(set(order)) < len(order) or not set(order) <= set(range(count)):
        raise ValueError(
            f"class_order must be ascending, random, or different classes from 0 to {count - 1} such as "
            f"3,1,4,0, got {given!r}"
        )
    return order
