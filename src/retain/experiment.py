"""One run as plain settings: what the command line, a TOML file and a result's `config` all say."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import tomllib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from retain import parallel
from retain.combine import describe, owners
from retain.learner import Learner
from retain.method import Method
from retain.methods import discover
from retain.models import CNN, MLP, Init, initialise
from retain.optim import Optim, Schedule
from retain.order import Order
from retain.problem import Fast
from retain.record import Cells
from retain.result import Result
from retain.run import Course, Progress
from retain.seeds import derive
from retain.streams import BUILDERS, Stream, build


@dataclass(frozen=True)
class Settings:
    """What any run can be told, whatever its method. None: the stream's own default."""

    data: Literal["mnist", "fashion-mnist", "cifar10", "cifar100"] = "mnist"  # the images
    folder: str | None = None  # where the data lie, in torchvision's layout; CIFAR: the binary version
    scenario: Literal["task", "domain", "class"] | None = None  # what is known of the task at test
    tasks: int | None = None  # how many tasks
    samples: int | None = None  # training images a task
    test_samples: int | None = None  # test images a task
    validation: int = 0  # training images held out, that no task trains on
    class_order: str | None = None  # split: ascending, random, or the classes, such as 3,1,4,0,2,5,6,7,8,9
    per_task: int | None = None  # split: classes a task
    classes: Literal["seen", "all"] | None = None  # split, scenario class: outputs in play
    first: Literal["permuted", "plain"] | None = None  # permuted: whether the first task is permuted too
    max_angle: float | None = None  # rotated: the largest angle, in degrees
    noise: float | None = None  # noisy-clean: the largest number added to a pixel
    boundaries: bool = True  # tell methods where a task begins and ends
    blur: float = 0.0  # share of a task's images that changes places with its neighbours', in [0, 1)
    repeats: int = 1  # times that all tasks come round, their images dealt among the visits
    pad: bool = False  # zero-pad the images to 32x32
    normalise: bool = False  # read pixels as (x - mean) / sd
    model: Literal["mlp", "cnn"] = "mlp"  # the network
    hidden: tuple[int, ...] = (256, 256)  # mlp: widths of its hidden layers
    init: Init = "torch"  # how its weights are drawn
    epochs: int = 1  # passes over each task
    iterations: int | None = None  # steps a task, instead of epochs
    batch_size: int = 128  # examples a step
    drop_last: bool = False  # leave out the last, smaller batch of an epoch
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"  # what moves the weights
    lr: float = 0.1  # learning rate
    momentum: float = 0.0  # of sgd
    weight_decay: float = 0.0  # of the optimiser
    schedule: Schedule = "constant"  # of the learning rate within each task
    clip: float | None = None  # largest norm of the gradient
    reset_optimizer: bool = False  # begin each task with a fresh optimiser; else --keep-optimizer
    seed: int = 0  # of data, order, initial weights and sampling
    threads: int = 1  # that torch computes with
    device: Literal["cpu", "cuda"] = "cpu"  # where the network, its data and the method's memories are
    precision: Literal["float32", "bf16"] = "float32"  # of training's matrix products
    compile: bool = False  # training steps by torch.compile
    channels_last: bool = False  # cnn: images with the channels last in memory
    evaluate: str = (
        "all"  # tests after a task: all, or current (it and the next), sample:N (of the past) or both
    )
    curve_every: int | None = (
        None  # steps between points of the accuracy curve; none: a tenth of a task; 0: task ends
    )
    curve_samples: int = 1000  # test images of each task that the curve is measured on
    record: Literal["confusions"] | None = None  # what to write down beside accuracies, at each task's end

    def __post_init__(self) -> None:
        for name in ("threads", "curve_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.curve_every is not None and self.curve_every < 0:
            raise ValueError(f"curve_every must be >= 0, got {self.curve_every}")
        Cells.of(self.evaluate, self.curve_every)
        if self.channels_last and self.model != "cnn":
            raise ValueError(f"channels_last is for images as a cnn takes them, model is {self.model}")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must be widths >= 1, such as 256,256, got {self.hidden}")
        self.order, self.optim  # noqa: B018  (each checks its own settings)

    @property
    def order(self) -> Order:
        """How the examples are gone through."""
        return Order(self.epochs, self.iterations, self.batch_size, self.drop_last)

    @property
    def optim(self) -> Optim:
        """What the weights are moved with."""
        return Optim(self.optimizer, self.lr, self.momentum, self.weight_decay)


@dataclass(frozen=True)
class Experiment:
    """A stream by name, a method, and settings: all that a run needs, and what its result carries.

    >>> from retain import EWC
    >>> e = Experiment("permuted", EWC(lam=30), Settings(tasks=3, hidden=(50,)))
    >>> Experiment.from_config(e.config()) == e
    True

    Raises:
        ValueError: an unknown stream, or a setting that means nothing to it.
    """

    stream: str
    method: Method[Any]
    settings: Settings = Settings()

    def __post_init__(self) -> None:
        if self.stream not in BUILDERS:
            raise ValueError(f"no stream is called {self.stream!r}; there are {', '.join(BUILDERS)}")
        known = inspect.signature(BUILDERS[self.stream]).parameters
        for name in _OF_STREAMS - set(known):
            given, default = getattr(self.settings, name), _DEFAULTS[name]
            if given != default:
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"{flag} {given} means nothing to the stream {self.stream}")

    def config(self) -> dict[str, Any]:
        """Plain data from which `from_config` makes the same experiment."""
        plain = {
            k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self.settings).items()
        }
        for name in _LATER:  # left out as before there was a choice: the same run, the same files
            if plain[name] == _DEFAULTS[name]:
                del plain[name]
        return {"stream": self.stream, "method": describe(self.method), **plain}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Experiment:
        """From what `config` gave, or from a TOML file's content: every key but stream and method may lack.

        Raises:
            ValueError: an unknown key, or a value of the wrong kind or outside its range.
        """
        rest = dict(config)
        stream, method = rest.pop("stream", None), rest.pop("method", None)
        if "methods" in rest:
            raise ValueError("methods = [...] describes a comparison: retain compare FILE")
        if not isinstance(stream, str):
            raise ValueError(f"stream must be one of {', '.join(BUILDERS)}, got {stream!r}")
        if method is None:
            raise ValueError(
                f'a method is missing: method = "ewc", or a table [method]; {", ".join(discover())}'
            )
        return cls(stream, method_from(method), from_plain(Settings, rest))

    def build_stream(self) -> Stream:
        """The tasks."""
        known = inspect.signature(BUILDERS[self.stream]).parameters
        given = {k: getattr(self.settings, k) for k in _OF_STREAMS & set(known)}
        return build({"name": self.stream, **{k: v for k, v in given.items() if v is not None}})

    def build_model(self, stream: Stream) -> nn.Module:
        """The network, its weights drawn from the seed.

        Raises:
            ValueError: it should be on a GPU, and there is none.
        """
        s = self.settings
        if s.device == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                "device is cuda, but torch finds no such GPU on this machine: leave device at cpu"
            )
        torch.manual_seed(derive(s.seed, "model"))
        net: nn.Module = (
            CNN(stream.shape, stream.num_classes)
            if s.model == "cnn"
            else MLP(stream.shape, stream.num_classes, s.hidden)
        )
        device = parallel.device() if s.device == "cuda" else torch.device("cpu")
        return initialise(net, s.init).to(device)  # drawn on the CPU: the same weights on any device

    def build_learner(self, stream: Stream) -> Learner:
        """Network, method and optimiser together."""
        s = self.settings
        return Learner(
            self.build_model(stream), self.method, s.optim, seed=s.seed, scenario=stream.scenario,
            classes=stream.classes, schedule=s.schedule, clip=s.clip, reset_optimizer=s.reset_optimizer,
            fast=Fast(s.precision, s.compile, s.channels_last),
        )  # fmt: skip

    def run(
        self,
        out: Path | None = None,
        resume: bool = False,
        checkpoint_seconds: float = 30.0,
        progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Result:
        """`retain.run` with all of these settings, which the result then carries."""
        return self.course(out, checkpoint_seconds).run(resume, progress, stop)

    def course(self, out: Path | None = None, checkpoint_seconds: float = 30.0) -> Course:
        """The same, set up and not yet run."""
        s = self.settings
        torch.set_num_threads(s.threads)
        stream = self.build_stream()
        return Course(
            stream, self.build_learner(stream), s.order, s.evaluate, s.curve_every, s.curve_samples, out,
            checkpoint_seconds, self.config(), s.record,
        )  # fmt: skip


_DEFAULTS = {f.name: f.default for f in fields(Settings)}
_LATER = (
    "evaluate",
    "device",
    "precision",
    "compile",
    "channels_last",
    "record",
)  # than the first result files
_OF_STREAMS = {name for b in BUILDERS.values() for name in inspect.signature(b).parameters} & set(_DEFAULTS)


def load_config(path: Path) -> dict[str, Any]:
    """The configuration in a TOML file, or the one that a `result.json` carries.

    Raises:
        ValueError: names the file and what is wrong with it.
        FileNotFoundError: there is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            return tomllib.loads(text)
        data = json.loads(text)
        config = data.get("config", data) if isinstance(data, dict) else None
        if not isinstance(config, dict):
            raise ValueError("no configuration in it; name a result.json or a .toml file")
        return config
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{path}: {e}") from e


def method_from(data: object) -> Method[Any]:
    """A method from its name, or from a table of its name and hyper-parameters.

    Raises:
        ValueError: no such method or hyper-parameter, or a value of the wrong kind or range.
    """
    if isinstance(data, str):
        data = {"name": data}
    known = discover()
    if isinstance(data, dict) and "name" not in data:
        raise ValueError(
            f'the table [method] lacks its name, such as name = "ewc"; there are {", ".join(known)}'
        )
    if not isinstance(data, dict) or data.get("name") not in known:
        name = data.get("name") if isinstance(data, dict) else data
        raise ValueError(f"no method is called {name!r}; there are {', '.join(known)}")
    rest = {k: v for k, v in data.items() if k != "name"}
    made: Method[Any] = from_plain(known[data["name"]], rest)
    return made


def from_plain(kind: type[Any], data: dict[str, Any]) -> Any:
    """A dataclass from plain data, each value checked against its field's type.

    Raises:
        ValueError: names the key, the value and what was expected.
    """
    hints = typing.get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    out = {}
    for key, value in data.items():
        name = key.replace("-", "_")
        if name not in names:
            raise ValueError(_stranger(kind, key, names))
        out[name] = _fit(hints[name], value, key)
    return kind(**out)


def _stranger(kind: type[Any], key: str, names: list[str]) -> str:
    """What to say of a key that does not belong there: where it does, or what is close to it."""
    name = key.replace("-", "_")
    if kind is not Settings:
        near = difflib.get_close_matches(name, names, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{kind.__name__} has no {key!r}{hint}; it has {', '.join(names) or 'no hyper-parameters'}"
    if having := owners(name):
        whose = f"{key} is a hyper-parameter of {', '.join(having)}"
        return f"{whose}: put it into the table [method] of a run, or [{having[0]}] of a comparison"
    if key in ("out", "resume", "force", "quiet", "workers"):
        return f"{key} is no setting of a run; give it on the command line, as --{key}"
    near = difflib.get_close_matches(name, names, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"there is no setting {key!r}{hint}; there are {', '.join(names)}"


def _fit(hint: Any, value: Any, key: str) -> Any:
    """The value as its type has it: lists become tuples, whole numbers floats, and "none" None where None can be.

    TOML has no null: "none" is what the command line takes for it.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if type(None) in args and (value is None or (isinstance(value, str) and value.lower() == "none")):
            return None
        return _fit(next(a for a in args if a is not type(None)), value, key)
    if origin is Literal:
        if value in args:
            return value
        raise ValueError(f"{key} must be one of {', '.join(map(str, args))}, got {value!r}")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{key} must be a list of numbers, such as [256, 256], got {value!r}")
        return tuple(_fit(args[0], v, key) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    word = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(
        hint, str(hint)
    )
    raise ValueError(f"{key} must be {word}, got {value!r}")
