"""A stream: tasks, one after the other. Data only; it knows nothing of methods."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args, overload

from torch import Tensor

from retain.streams.check import check_task
from retain.streams.own import Arrays, SizedDataset, examples_of, read_dataset, tasks_of
from retain.types import Classes, Scenario, Task


@dataclass(frozen=True, eq=False, repr=False)
class Stream(Sequence[Task]):
    """Tasks in order, checked once when it is made: `len`, `stream[i]`, `stream[a:b]`, `for task in`.

    A slice is a Stream of the same tasks with the numbers that they had, so `stream[2:]` goes on
    where `stream[:2]` ended.

    Raises:
        ValueError: no task; a task without samples; a label that is negative, not below
            `num_classes` or not among the task's classes; a shape or dtype that changes; NaN or
            infinity. The message names the task.
    """

    name: str
    tasks: tuple[Task, ...]
    scenario: Scenario  # task: identity known at test; domain: hidden, same labels; class: hidden, new labels
    num_classes: int  # outputs of the network
    classes: Classes = "all"  # scenario class only: which outputs loss and prediction run over
    config: dict[str, Any] = field(default_factory=dict)  # JSON-able; `build(config)` makes it again
    boundaries: bool = True  # whether methods are told where a task begins and ends

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError(f"stream {self.name!r} has no task; it needs at least one")
        if self.scenario not in get_args(Scenario) or self.classes not in get_args(Classes):
            raise ValueError(
                f"scenario must be one of {get_args(Scenario)} and classes one of {get_args(Classes)}, "
                f"got {self.scenario!r} and {self.classes!r}"
            )
        if not self.boundaries and self.scenario == "task":
            raise ValueError(
                "without boundaries the task is hidden, but the scenario is task: give --scenario domain or "
                "--scenario class (class: split only)"
            )
        if len({t.index for t in self.tasks}) < len(self.tasks):
            raise ValueError(f"stream {self.name!r}: two tasks have the same index; each needs its own")
        try:
            json.dumps(self.config)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"stream {self.name!r}: its config cannot be written as JSON: {error}"
            ) from error
        for task in self.tasks:
            check_task(task, self.num_classes, like=self.tasks[0])

    def __len__(self) -> int:
        return len(self.tasks)

    @overload
    def __getitem__(self, which: int) -> Task: ...
    @overload
    def __getitem__(self, which: slice) -> Stream: ...
    def __getitem__(self, which: int | slice) -> Task | Stream:
        if isinstance(which, slice):
            return self.select(range(len(self))[which])
        return self.tasks[which]

    def __repr__(self) -> str:
        return (
            f"<Stream {self.name}: {len(self)} tasks, scenario {self.scenario}, {self.num_classes} classes, "
            f"examples {list(self.shape)}>"
        )

    def select(self, positions: Sequence[int]) -> Stream:
        """A Stream of those tasks, in that order; its config says so under "only"."""
        before = self.config.get("only", range(len(self)))
        only = [int(before[i]) for i in positions]
        return replace(
            self, tasks=tuple(self.tasks[i] for i in positions), config={**self.config, "only": only}
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example, as a batch gives it."""
        return self.tasks[0].train.shape

    @property
    def range(self) -> tuple[float, float] | None:
        """What every value of a batch lies in, where it is known and the same for all tasks."""
        ranges = {t.train.range for t in self.tasks}
        return ranges.pop() if len(ranges) == 1 else None

    @staticmethod
    def from_arrays(
        tasks: Sequence[Arrays],
        scenario: Scenario = "domain",
        classes: Classes = "all",
        validation: int = 0,
        seed: int = 0,
        names: Sequence[str] | None = None,
    ) -> Stream:
        """A stream of anybody's tensors or NumPy arrays, which it reads where they lie if it can.

        Args:
            tasks: for each task (x_train, y_train, x_test, y_test). x [N, ...] floating point, kept
                in torch's default dtype, or uint8, kept as it is and read as x / 255; y [N] integers.
            scenario: what is known of the task at test. The network has max label + 1 outputs.
            classes: in scenario class, the outputs in play: those "seen" so far, or "all".
            validation: examples taken off each task's training set at random.
            seed: of that choice.
            names: of the tasks; "task 1", "task 2", ... where left out.

        Raises:
            ValueError: as for Stream, or for arrays of another kind, or with x and y of two lengths.

        >>> import numpy as np
        >>> x, y = np.eye(4), np.arange(4) % 2
        >>> Stream.from_arrays([(x, y, x, y), (-x, y, -x, y)])
        <Stream arrays: 2 tasks, scenario domain, 2 classes, examples [4]>
        """
        sets = [examples_of(arrays, t) for t, arrays in enumerate(tasks)]
        return _of_own("arrays", sets, scenario, classes, validation, seed, names)

    @staticmethod
    def from_datasets(
        tasks: Sequence[tuple[SizedDataset, SizedDataset]],
        scenario: Scenario = "domain",
        classes: Classes = "all",
        validation: int = 0,
        seed: int = 0,
        names: Sequence[str] | None = None,
        workers: int = 0,
    ) -> Stream:
        """The same of map-style torch Datasets: for each task (train, test), items (x, label).

        Each dataset is read once, here, into tensors that stay in memory; a random transform is
        thereby drawn once. x must come as a tensor or a NumPy array. With `workers` so many processes
        read ahead, as those of a torch DataLoader do.

        Raises:
            ValueError: as for `from_arrays`, or an item is not a pair of such x and an integer.
        """
        if workers < 0:
            raise ValueError(f"workers must be >= 0, got {workers}")
        sets = [
            examples_of(
                (*read_dataset(train, t, "train", workers), *read_dataset(test, t, "test", workers)), t
            )
            for t, (train, test) in enumerate(tasks)
        ]
        return _of_own("datasets", sets, scenario, classes, validation, seed, names)


def _of_own(
    name: str,
    sets: list[tuple[Tensor, Tensor, Tensor, Tensor]],
    scenario: Scenario,
    classes: Classes,
    validation: int,
    seed: int,
    names: Sequence[str] | None,
) -> Stream:
    names = [f"task {t + 1}" for t in range(len(sets))] if names is None else [str(n) for n in names]
    if len(names) != len(sets):
        raise ValueError(f"{len(names)} names for {len(sets)} tasks; give one each")
    tasks = tasks_of(sets, names, validation, seed)
    outputs = 1 + max((c for t in tasks for c in t.classes), default=0)
    config = {
        "name": name,
        "tasks": len(tasks),
        "scenario": scenario,
        "classes": classes,
        "validation": validation,
        "seed": seed,
        "names": names,
    }
    return Stream(name, tasks, scenario, outputs, classes, config)
