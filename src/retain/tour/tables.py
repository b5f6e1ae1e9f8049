"""The numbers behind each picture, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from retain.lecture import Guarded, Lecture, Moment
from retain.result import Result

Row = tuple[Any, ...]


def tables(lecture: Lecture) -> dict[str, str]:
    """CSV with a header, by the name of its picture."""
    found = {
        "orders": (("first", "step", "task", "accuracy"), _orders(lecture)),
        "surface": (("task", "a", "b", "loss"), _surface(lecture)),
        "surface-paths": (("lambda", "stop", "a", "b", "off_plane", "loss_1", "loss_2"), _paths(lecture)),
        "parameters": (
            (
                "which",
                "tensor",
                "place",
                "fisher",
                "second_difference",
                "move",
                "loss",
                "parabola",
                "accuracy",
            ),
            _parameters(lecture),
        ),
        "three": (("method", "lambda", "step", "task", "accuracy"), _three(lecture)),
        "gem-plane": (_GEM, _gem(lecture.gem.plane)),
        "gem-space": (_GEM, _gem(lecture.gem.space)),
        "dreams": (("method", "after", "task", "accuracy"), _dreams(lecture)),
        "matrices": (("method", "after", "task", "accuracy", "ACC", "BWT", "FWT"), _matrices(lecture)),
    }
    return {name: _csv(header, rows) for name, (header, rows) in found.items()}


_GEM = (
    "task",
    "step",
    "margin",
    "vector",
    "axis_1",
    "axis_2",
    "axis_3",
    "degrees_to_g",
    "degrees_to_new",
    "multiplier",
)


def _csv(header: Row, rows: Iterable[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def _curve(r: Result) -> Iterator[Row]:
    for task, values in zip(r.tasks, r.curve.task, strict=True):
        yield from ((step, task, value) for step, value in zip(r.curve.step, values, strict=True))


def _orders(lecture: Lecture) -> Iterator[Row]:
    for r in (lecture.orders.noisy_first, lecture.orders.clean_first):
        yield from ((r.tasks[0], *row) for row in _curve(r))


def _three(lecture: Lecture) -> Iterator[Row]:
    found = lecture.three
    groups = (("sgd", Guarded((0.0,), (found.sgd,))), ("l2", found.l2), ("ewc", found.ewc))
    for name, group in groups:
        for lam, r in zip(group.lams, group.runs, strict=True):
            yield from ((name, lam, *row) for row in _curve(r))


def _surface(lecture: Lecture) -> Iterator[Row]:
    s = lecture.surface
    for task, losses in enumerate(s.losses, 1):
        for b, row in zip(s.b, losses, strict=True):
            yield from ((task, a, b, loss) for a, loss in zip(s.a, row, strict=True))


def _paths(lecture: Lecture) -> Iterator[Row]:
    for p in lecture.surface.paths:
        for i, (at, off, losses) in enumerate(zip(p.at, p.off, p.losses, strict=True)):
            yield p.lam, i, *at, off, *losses


def _parameters(lecture: Lecture) -> Iterator[Row]:
    two = lecture.parameters
    for which, m in (("small", two.small), ("large", two.large)):
        for values in zip(m.moves, m.loss, m.parabola, m.accuracy, strict=True):
            yield which, m.name, m.place, m.fisher, m.second, *values


def _gem(moments: tuple[Moment, ...]) -> Iterator[Row]:
    for m in moments:
        blank = ("",) * (3 - len(m.g))
        for t in m.turned:
            yield m.task, m.step, t.margin, "g", *m.g, *blank, "", "", ""
            yield m.task, m.step, t.margin, "g'", *t.g, *blank, "", "", ""
            for k, past in enumerate(m.past):
                yield m.task, m.step, t.margin, f"g{k + 1}", *past, *blank, m.degrees[k], t.degrees[k], t.v[k]


def _matrix(tasks: Iterable[str], accuracy: Iterable[Iterable[float]]) -> Iterator[Row]:
    names = list(tasks)
    for after, row in zip(["untrained", *names], accuracy, strict=True):
        yield from ((after, task, value) for task, value in zip(names, row, strict=True))


def _dreams(lecture: Lecture) -> Iterator[Row]:
    for name, r in (("generative replay", lecture.dreams.replay), ("sgd", lecture.dreams.sgd)):
        yield from ((name, *row) for row in _matrix(r.tasks, r.accuracy))


def _matrices(lecture: Lecture) -> Iterator[Row]:
    for name, c in lecture.matrices.items():
        values = [m.value for m in c.measures]
        yield from ((name, *row, *values) for row in _matrix(c.tasks, c.accuracy))
