"""Hyper-parameters chosen on the first tasks of a stream only, and frozen for the rest.

Chaudhry et al. 2019 (A-GEM, section 3: D^CV and D^EV): a learner that sees its tasks once cannot be
tuned on all of them. Trials see the first k tasks alone, with a seed that is never reported, and are
scored on validation images that were held out of training. No test image is looked at.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from retain.divergence import Diverged
from retain.experiment import Experiment, from_plain
from retain.missing import NotInstalled
from retain.result import Result
from retain.run import Progress, run
from retain.seeds import derive
from retain.streams import BUILDERS, Stream

VALIDATION = 1000  # images held out of each task, where the settings say none
TRIALS = "trials.log"  # one line of JSON an event
SETTINGS = ("lr", "momentum", "weight_decay", "clip", "epochs", "iterations", "batch_size", "optimizer", "schedule",
            "init", "reset_optimizer")  # fmt: skip
"""The settings that can be tuned: how to learn. What is learned, and from what, is given."""


class NoOptuna(NotInstalled):
    """The package that proposes the trials is not installed."""

    def __init__(self) -> None:
        super().__init__("tuning needs Optuna, which is not installed: pip install optuna")


@dataclass(frozen=True)
class Knob:
    """One hyper-parameter and where its value is looked for: from low to high, or among choices.

    Raises:
        ValueError: an empty range, a logarithmic one that reaches 0, or choices that leave nothing to choose.
    """

    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()
    whole: bool = False  # only whole numbers

    def __post_init__(self) -> None:
        if self.choices:
            if len(set(self.choices)) < max(2, len(self.choices)):
                raise ValueError(f"{self.name}: give two or more choices, each once, got {self.choices}")
            return
        if self.low is None or self.high is None or not self.low < self.high:
            got = f"{self.low} and {self.high}"
            raise ValueError(f"{self.name}: the range is empty: LOW must be below HIGH, got {got}")
        if self.log and self.low <= 0:
            raise ValueError(f"{self.name}: a logarithmic range begins above 0, got {self.low}")

    @property
    def ends(self) -> tuple[Any, ...]:
        """Its choices, or the two ends of its range."""
        kind = int if self.whole else float
        return self.choices or tuple(kind(x) for x in (self.low, self.high) if x is not None)


@dataclass(frozen=True)
class Plan:
    """What is tuned, on what, and how long.

    Raises:
        ValueError: nothing to tune, a name that cannot be tuned, a value that the method or the settings
            refuse, or numbers that leave no trial, no task to tune on or none to report on.
    """

    experiment: Experiment  # with the values of all that is not tuned
    knobs: tuple[Knob, ...]
    first: int = 3  # tasks that trials see
    trials: int = 20
    seed: int = 1000  # of the trials

    def __post_init__(self) -> None:
        if not self.knobs:
            raise ValueError("say what to tune, such as --tune lam=1:1000:log")
        names = [k.name for k in self.knobs]
        if twice := [n for n in dict.fromkeys(names) if names.count(n) > 1]:
            raise ValueError(f"{', '.join(twice)} is named twice: give it one range or one list of choices")
        own = list(vars(self.experiment.method))
        for k in self.knobs:
            if k.name not in own and k.name not in SETTINGS:
                there = ", ".join([*own, *SETTINGS])
                raise ValueError(f"{k.name} cannot be tuned; of {self._name} these can: {there}")
        if self.trials < 1 or self.first < 1:
            raise ValueError(f"trials and first_tasks must be >= 1, got {self.trials} and {self.first}")
        for k in self.knobs:
            for value in k.ends:
                self.with_values({k.name: value})  # says now, and not amid the trials, what is refused
        if "tasks" not in inspect.signature(BUILDERS[self.experiment.stream]).parameters:
            raise ValueError(f"the stream {self.experiment.stream} has no first tasks to tune on")
        if self.first >= (total := self._tasks()):
            raise ValueError(
                f"first_tasks must be below {total}, the tasks of the stream, to leave some; got {self.first}"
            )

    @property
    def _name(self) -> str:
        return type(self.experiment.method).__name__

    @property
    def combinations(self) -> list[dict[str, Any]]:
        """Every set of values, where there are choices alone and trials enough for each; else none."""
        lists = [k.choices for k in self.knobs]
        if not 0 < math.prod(map(len, lists)) <= self.trials:
            return []
        return [
            dict(zip([k.name for k in self.knobs], values, strict=True))
            for values in itertools.product(*lists)
        ]

    @property
    def total(self) -> int:
        """How many trials there will be: no combination of choices is run twice."""
        return len(self.combinations) or self.trials

    @property
    def unseen(self) -> str:
        """The tasks that no trial sees, in words."""
        first, last = self.first + 1, self._tasks()
        return f"task {last}" if first == last else f"tasks {first} to {last}"

    def _tasks(self) -> int:
        whole = self.experiment.build_stream()
        return len(whole) // self.experiment.settings.repeats

    def describe(self) -> dict[str, Any]:
        """Plain data; two plans whose trials can be continued one with the other are equal in it."""
        knobs = [dataclasses.asdict(k) for k in self.knobs]
        plain = {
            "experiment": self.experiment.config(),
            "knobs": knobs,
            "first": self.first,
            "seed": self.seed,
        }
        return dict(json.loads(json.dumps(plain)))

    def with_values(self, values: Mapping[str, Any]) -> Experiment:
        """The experiment with these instead of its own; whole numbers and choices as they are."""
        e = self.experiment
        own = vars(e.method)
        method = {k: v for k, v in values.items() if k in own}
        rest = {k: v for k, v in values.items() if k not in own}
        if "iterations" in rest:
            rest["epochs"] = 1
        return Experiment(
            e.stream,
            from_plain(type(e.method), {**vars(e.method), **method}),
            dataclasses.replace(e.settings, **rest),
        )

    def of_trial(self, values: Mapping[str, Any]) -> Experiment:
        """What a trial runs: the first tasks, the trials' seed, images held out."""
        e = self.with_values(values)
        held = e.settings.validation or VALIDATION
        seen = dataclasses.replace(e.settings, tasks=self.first, seed=self.seed, validation=held)
        return Experiment(e.stream, e.method, seen)


@dataclass(frozen=True)
class Trial:
    """One set of values and what it came to on the validation images, in [0, 1]."""

    number: int
    values: Mapping[str, Any]
    score: float


class Tuning:
    """The trials of a plan, kept in a folder, so that they can go on after a stop.

    Args:
        plan: what is tuned.
        out: the folder; trials that it holds are taken up.

    Raises:
        NoOptuna: it is not installed.
        ValueError: the folder holds trials of another plan.
    """

    def __init__(self, plan: Plan, out: Path):
        self.plan = plan
        self.optuna = _optuna()
        out.mkdir(parents=True, exist_ok=True)
        journal = self.optuna.storages.journal
        storage = self.optuna.storages.JournalStorage(journal.JournalFileBackend(str(out / TRIALS)))
        self.study = self.optuna.create_study(
            storage=storage, study_name="retain", direction="maximize", load_if_exists=True
        )
        known = self.study.user_attrs.get("plan")
        if known is None:
            self.study.set_user_attr("plan", plan.describe())
        elif known != plan.describe():
            raise ValueError(f"{out / TRIALS} holds the trials of another plan; --force replaces them")

    @property
    def done(self) -> list[Trial]:
        """The trials that have a score, in order."""
        return [
            Trial(t.number, dict(t.params), t.value)
            for t in self.study.get_trials(deepcopy=False)
            if t.value is not None
        ]

    @property
    def best(self) -> Trial:
        """The highest score; of equal ones the first.

        Raises:
            ValueError: there is no trial yet, or none that reached more than 0.
        """
        found = max(self.done, key=lambda t: (t.score, -t.number), default=None)
        if found is None or found.score <= 0:
            raise ValueError("no trial has learned anything: widen the ranges, towards smaller values")
        return found

    def ask(self) -> Trial | None:
        """The next trial, or one that was begun and not ended; None: all are done.

        Which values it has depends on the plan and the scores so far, not on how often it was stopped.
        Where trials are enough for every combination of choices, each is run once.
        """
        running = self.optuna.trial.TrialState.RUNNING
        for t in self.study.get_trials(deepcopy=False, states=[running]):
            if set(t.params) == {k.name for k in self.plan.knobs}:
                return Trial(t.number, dict(t.params), 0.0)
            self.study.tell(
                t.number, state=self.optuna.trial.TrialState.FAIL
            )  # stopped while it was asked for
        if combinations := self.plan.combinations:
            return self._combination(combinations)
        if len(self.done) >= self.plan.trials:
            return None
        seed = derive(self.plan.seed, "trial", len(self.done)) % 2**32
        self.study.sampler = self.optuna.samplers.TPESampler(seed=seed)
        asked = self.study.ask({k.name: self._distribution(k) for k in self.plan.knobs})
        return Trial(asked.number, dict(asked.params), 0.0)

    def _combination(self, combinations: Sequence[Mapping[str, Any]]) -> Trial | None:
        """The first that has no score yet."""
        tried = [t.values for t in self.done]
        values = next((c for c in combinations if c not in tried), None)
        if values is None:
            return None
        made = self.optuna.trial.create_trial(
            state=self.optuna.trial.TrialState.RUNNING,
            params=dict(values),
            distributions={k.name: self._distribution(k) for k in self.plan.knobs},
        )
        self.study.add_trial(made)
        return Trial(len(self.study.get_trials(deepcopy=False)) - 1, values, 0.0)

    def tell(self, trial: Trial, score: float) -> None:
        """What it came to."""
        self.study.tell(trial.number, score)

    def _distribution(self, k: Knob) -> Any:
        d = self.optuna.distributions
        if k.choices:
            return d.CategoricalDistribution(k.choices)
        assert k.low is not None and k.high is not None
        if k.whole:
            return d.IntDistribution(int(k.low), int(k.high), log=k.log)
        return d.FloatDistribution(k.low, k.high, log=k.log)


def run_trial(
    plan: Plan,
    trial: Trial,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Result | Diverged:
    """Learn the first tasks with a trial's values; every accuracy in the result is on validation images.

    Raises:
        Interrupted: `stop` said so.
    """
    e = plan.of_trial(trial.values)
    torch.set_num_threads(e.settings.threads)
    stream = for_scoring(e.build_stream())
    try:
        return run(
            stream, e.build_learner(stream), e.settings.order, curve_every=0, progress=progress, stop=stop,
            config=e.config(),
        )  # fmt: skip
    except Diverged as said:
        return said


def for_scoring(stream: Stream) -> Stream:
    """The same tasks with their validation images in the place of the test images, which are gone.

    Raises:
        ValueError: a task has no validation images.
    """
    if any(task.validation is None for task in stream):
        raise ValueError("trials are scored on validation images: validation must be >= 1")
    tasks = [dataclasses.replace(task, test=task.validation, validation=None) for task in stream]
    return dataclasses.replace(stream, tasks=tuple(tasks))


def later(result: Result, plan: Plan) -> float:
    """The mean accuracy at the end on the tasks that no trial has seen, in [0, 1]."""
    n = len(result.tasks) // plan.experiment.settings.repeats
    unseen = [a for i, a in enumerate(result.accuracy[-1]) if i % n >= plan.first]
    return sum(unseen) / len(unseen)


def to_toml(e: Experiment, methods: Sequence[str] = (), seeds: int = 3) -> str:
    """What `retain run FILE.toml` runs, or with methods, `retain compare FILE.toml`. Defaults are left out.

    Raises:
        ValueError: a value is none where its default is not, which TOML cannot say.
    """
    config = e.config()
    table = {k: v for k, v in config["method"].items() if k != "name"}
    name = config["method"]["name"]
    lines = [f"stream = {_toml(e.stream)}"]
    if methods:
        lines += [f"methods = {_toml(list(methods))}", f"seeds = {seeds}"]
    settings = {
        f.name: config[f.name]
        for f in dataclasses.fields(e.settings)
        if getattr(e.settings, f.name) != f.default and not (methods and f.name == "seed")
    }
    lines += [f"{k} = {_toml(v)}" for k, v in settings.items()]
    defaults = vars(type(e.method)())
    lines += ["", f"[{name}]" if methods else "[method]", *([] if methods else [f"name = {_toml(name)}"])]
    for k, v in table.items():
        if v is not None or defaults[k] is not None:
            lines.append(f"{k} = {_toml(v)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if value is None:
        raise ValueError("a value is none, which TOML has no word for: give a number")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value) if isinstance(value, str | bool) else repr(value)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as e:
        raise NoOptuna from e
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
