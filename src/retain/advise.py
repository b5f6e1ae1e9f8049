"""From constraints to methods: which can be used at all, in what order, and what each other one lacks.

What a method needs, keeps and costs is read from its traits; how good it is, from the runs that
`retain reproduce` made (`recipes/reproduced.json`). Nothing here is an opinion.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

import torch

from retain.examples import Examples
from retain.experiment import method_from
from retain.learner import Learner
from retain.method import Method, Stores
from retain.methods import discover
from retain.models import MLP
from retain.optim import Optim
from retain.reproduce import method_of, recipes
from retain.streams import BUILDERS, Stream
from retain.types import Scenario, Task

SIZES = ("memory", "memory_per_task")  # what says how many examples a method keeps
CLASSES = 10  # of the streams that figures are of
FEWEST = CLASSES  # images: one of each class
BATCH = 128  # examples a step, as in Settings: some keep something for each of the last ones
BOUNDS = {
    "naive": "the lower bound: it does nothing against forgetting",
    "joint": "the upper bound: it keeps all data and trains on all of it again",
}


@dataclass(frozen=True)
class Constraints:
    """What there is to be had."""

    task_known: bool = False  # the task of an example is known when predicting
    new_classes: bool = True  # every task brings classes of its own, to be told from all others
    store: Stores = "examples"  # the most that may be kept of the data
    memory_bytes: int | None = None  # the most that may be kept, in bytes; none: any
    backbone: Literal["trained", "frozen"] = (
        "trained"  # whether the network below its last layer may be trained
    )
    compute: float | None = None  # the most that a step may cost, in plain steps; none: any
    boundaries: bool = True  # it is known where a task begins and ends

    def __post_init__(self) -> None:
        if self.store not in get_args(Stores) or self.backbone not in ("trained", "frozen"):
            raise ValueError(
                f"store must be one of {', '.join(get_args(Stores))}; backbone trained or frozen"
            )
        if self.memory_bytes is not None and self.memory_bytes < 0:
            raise ValueError(f"memory_bytes must be >= 0, got {self.memory_bytes}")
        if self.compute is not None and not (math.isfinite(self.compute) and self.compute > 0):
            raise ValueError(f"compute must be a number > 0, got {self.compute}")
        if self.task_known and not self.boundaries:
            raise ValueError(
                "where the task of an example is known, so are the boundaries: drop one of the two"
            )

    @property
    def scenario(self) -> Scenario:
        """Which of the three this is."""
        return "task" if self.task_known else "class" if self.new_classes else "domain"


@dataclass(frozen=True)
class Figure:
    """What a method was measured to reach: the mean accuracy over all tasks at the end, in percent."""

    id: str  # of the recipe's row
    title: str
    group: str
    stream: str
    scenario: Scenario
    mean: float
    half: float | None  # of the 95% interval; None: one seed
    seeds: int
    seconds: float  # of one seed
    method: Mapping[str, Any] = field(default_factory=dict)  # its name and hyper-parameters
    tasks: int = 1  # of the stream
    plain: float | None = None  # what plain training reaches: in the same recipe, else on the same stream
    plain_in: str = ""  # that other recipe, whose tasks may be more or fewer

    @property
    def recipe(self) -> str:
        """The recipe that it is a row of."""
        return self.id.partition("/")[0]

    @property
    def spared(self) -> float | None:
        """The share of plain training's errors that it does not make: 1 is perfect, below 0 worse than plain."""
        return None if self.plain is None else 1 - (100 - self.mean) / (100 - self.plain)

    @property
    def value(self) -> str:
        """In percent, with half of its interval."""
        return f"{self.mean:.1f}" + ("" if self.half is None else f" \u00b1 {self.half:.1f}")

    def __str__(self) -> str:
        count = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        plain = "" if self.plain is None else f", where plain training has {self.plain:.1f}"
        plain += f" in {self.plain_in}" if self.plain_in else ""
        whole = f"{self.value} % on {self.stream}{plain}"
        return f"{whole} ({self.title}: {self.id}, {count}, {self.seconds:.0f} s each)"


@dataclass(frozen=True)
class Advice:
    """What is said of one method."""

    name: str
    lacks: tuple[str, ...]  # why it cannot be used; empty: it can
    figure: Figure | None  # the best that was measured under these constraints
    keeps: str
    cost: str


def figures(table: dict[str, Any] | None = None) -> dict[str, list[Figure]]:
    """What was reproduced, by method; rows of other measures and differences of two runs left out.

    Args:
        table: the content of a table.json of `retain reproduce`; None: the package's own, if it has one.
    """
    table = reproduced() if table is None else table
    measured = {row.id: row for row in recipes()}
    found: dict[str, list[Figure]] = {}
    for r in table["rows"]:
        row = measured.get(r["id"])
        if row is None or row.said.measure != "acc" or row.minus is not None or r["mean"] is None:
            continue
        config = r["runs"][0]["config"]
        method = method_of(config)
        half = None if r["low"] is None else (r["high"] - r["low"]) / 2
        stream, scenario = config["stream"], config.get("scenario")
        scenario = scenario or _default(stream, "scenario", "domain")
        tasks = config.get("tasks") or _default(stream, "tasks", 1)
        found.setdefault(method["name"], []).append(
            Figure(
                r["id"], r["title"], r["group"], stream, scenario, r["mean"], half, len(r["values"]),
                r["seconds"], method, tasks,
            )
        )  # fmt: skip
    plain = found.get("naive", [])
    return {name: [_beside_plain(f, plain) for f in own] for name, own in found.items()}


def _beside_plain(f: Figure, naive: list[Figure]) -> Figure:
    """With the least that plain training reached (its other rows are of learning all at once)."""
    alike = [n for n in naive if (n.stream, n.scenario) == (f.stream, f.scenario) and n.mean < 100]
    near = [n for n in alike if n.recipe == f.recipe]
    least = min(near or alike, key=lambda n: n.mean, default=None)
    if least is None:
        return f
    return replace(f, plain=least.mean, plain_in="" if near else least.recipe)


@cache
def reproduced() -> dict[str, Any]:
    """The table that the package carries: a table.json of `retain reproduce`; without rows if it has none."""
    file = files("retain") / "recipes" / "reproduced.json"
    table: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {"rows": []}
    return table


def _default(stream: str, name: str, otherwise: Any) -> Any:
    """A stream's own scenario, or number of tasks; `otherwise` where it has no choice."""
    known = inspect.signature(BUILDERS[stream]).parameters
    return known[name].default if name in known else otherwise


def advise(given: Constraints, table: dict[str, Any] | None = None) -> list[Advice]:
    """Every method, best first, those that cannot be used last.

    First come those with a figure under these constraints, by the share of plain training's errors that
    they spare: accuracies on different streams cannot be compared, and even so figures of different
    recipes are no contest. Then come those that were not
    reproduced, by what they may keep, the most first, and by what a step costs.
    """
    known = figures(table)
    made = [_judge(name, kind, given, known.get(name, [])) for name, kind in discover().items()]
    return sorted(made, key=_rank)


def _rank(a: Advice) -> tuple[Any, ...]:
    traits = discover()[a.name].traits
    most = -get_args(Stores).index(traits.stores)
    return bool(a.lacks), a.figure is None, _merit(a.figure), most, traits.steps, a.name


def _merit(f: Figure | None) -> tuple[bool, float]:
    """Ascending from the best; figures without a plain one to compare with come last."""
    spared = None if f is None else f.spared
    return spared is None, -(spared or 0.0)


def _judge(name: str, kind: type[Method[Any]], given: Constraints, known: list[Figure]) -> Advice:
    t, s = kind.traits, given.scenario
    lacks = [BOUNDS[name]] if name in BOUNDS else []
    if s not in t.scenarios:
        lacks.append(f"needs to know the task ({' or '.join(t.scenarios)} only)")
    if s in t.fails_in:
        lacks.append(f"known to forget nearly all in scenario {s}")
    if get_args(Stores).index(t.stores) > get_args(Stores).index(given.store):
        lacks.append(f"keeps {_what(t.stores)}")
    if t.boundaries and not given.boundaries:
        lacks.append("must be told where tasks begin and end")
    if given.backbone == "frozen" and not t.closed_form:
        lacks.append("trains the network")
    if given.compute is not None and t.steps > given.compute:
        lacks.append(f"costs too much: {t.cost}")
    keeps = _what(t.stores) + ("" if t.growth == "constant" else f", growing {t.growth}")
    if given.memory_bytes is not None and not lacks:
        kept, short = _memory(name, s, given.memory_bytes)
        keeps, lacks = f"{keeps} ({kept})", [*lacks, *short]
    here = [f for f in known if _keeps_to(given, f)]
    return Advice(name, tuple(lacks), min(here, key=_merit, default=None), keeps, t.cost)


def _keeps_to(given: Constraints, f: Figure) -> bool:
    """Whether what was measured was measured under these constraints: as for tasks told, and images kept."""
    method: Any = method_from(f.method)
    if f.scenario != given.scenario or (method.needs.boundaries and not given.boundaries):
        return False
    if given.memory_bytes is None or method.traits.stores != "examples":
        return True
    each, rest = example_bytes(f.method["name"], f.scenario)
    (size,) = [name for name in SIZES if hasattr(method, name)]
    times = f.tasks if size == "memory_per_task" else CLASSES if getattr(method, "per_class", False) else 1
    return bool(rest + each * times * getattr(method, size) <= given.memory_bytes)


def _what(stores: Stores) -> str:
    return (
        "nothing of the data" if stores == "nothing" else stores if stores != "generator" else "a generator"
    )


def _memory(name: str, scenario: Scenario, most: int) -> tuple[str, list[str]]:
    """What fits into so many bytes, in words, and what is lacking."""
    if discover()[name].traits.stores == "examples":
        each, rest = example_bytes(name, scenario)
        fit = max(0, most - rest) // each
        beside = f" beside {rest:,} bytes of its own" if rest >= each else ""
        short = [f"{most:,} bytes are {fit} images{beside}, fewer than one a class"] if fit < FEWEST else []
        return f"{fit:,} MNIST images of {each:,} bytes fit{beside}", short
    one, two = measured_bytes(name, scenario)
    words = f"{two:,} bytes after two tasks" + (f", {two - one:,} a task more" if two > one else "")
    return words, [f"keeps {words}"] if two > most else []


@cache
def measured_bytes(name: str, scenario: Scenario) -> tuple[int, int]:
    """What a method keeps after one and after two tasks: measured, on noise, with the default network.

    The network is 784-256-256-10, the hyper-parameters are the method's own defaults.
    """
    (one, _), (two, _) = _kept(discover()[name](), scenario)
    return one, two


@cache
def example_bytes(name: str, scenario: Scenario) -> tuple[int, int]:
    """What a method keeps for each MNIST image, and what it keeps beside them: measured in the same way.

    An image is 784 float32, a label and a task number: 3152 bytes. Some keep more: its logits, a score.
    """
    kind: Any = discover()[name]
    (size,) = [f.name for f in fields(kind) if f.name in SIZES]
    (few, n), (many, m) = (_kept(kind(**{size: k}), scenario)[1] for k in (10, 20))
    each = (many - few) // (m - n)
    return each, few - n * each


def _kept(method: Method[Any], scenario: Scenario) -> list[tuple[int, int]]:
    """Bytes and examples that are kept after each of two tasks of noise, a batch each."""
    rng = torch.Generator().manual_seed(0)
    labels = [torch.arange(BATCH) % 5 + (5 * t if scenario != "domain" else 0) for t in range(2)]
    sets = [Examples(torch.rand(BATCH, 1, 28, 28, generator=rng), y) for y in labels]
    tasks = [Task(t, str(t), e, e, e, tuple(sorted(set(e.y.tolist())))) for t, e in enumerate(sets)]
    stream = Stream("noise", tuple(tasks), scenario, 10)
    before = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        slow = Optim(lr=1e-6)  # at which nothing diverges
        learner = Learner(MLP((1, 28, 28), 10, (256, 256)), method, slow, seed=0, scenario=scenario)
        learner.follow(stream)
        sizes = []
        for task in stream:
            learner.begin_task(task, 1)
            learner.observe(*task.train.batch(torch.arange(BATCH)))
            learner.end_task()
            sizes.append((learner.state_bytes, method.examples_stored(learner.state)))
    finally:
        torch.set_rng_state(before)
    return sizes
