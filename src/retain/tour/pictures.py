"""Each picture of the lecture as panels, one set for every position of its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from retain.lecture import Lecture, Moved, Path, Surface
from retain.result import Result
from retain.tour.arrows import from_above, in_plane, in_space
from retain.tour.contact import contact, matrix
from retain.tour.draw import Frame, Lined, Panel, dot, heat, label, sheet, stroke
from retain.tour.words import WORDS, figure, percent

Words = Mapping[str, str]
Legend = tuple[tuple[str, Lined], ...]

METHODS: dict[str, Lined] = {"sgd": ("orange", "2 3"), "l2": ("purple", "7 4"), "ewc": ("blue", "")}
NOISE: dict[str, Lined] = {"noisy": ("orange", "5 4"), "clean": ("blue", "")}


@dataclass(frozen=True)
class Variant:
    """What is shown at one position of the controls."""

    key: str  # the controls' positions, with dashes between
    panels: tuple[Panel, ...]
    facts: dict[str, Any] = field(default_factory=dict)  # what the words under it are made of


@dataclass(frozen=True)
class Picture:
    """All positions of one picture; where it has no control, one."""

    name: str
    variants: tuple[Variant, ...]
    first: str = ""  # the key of what is shown first
    legend: Legend = ()

    @property
    def shown(self) -> Variant:
        """What is shown first."""
        return next(v for v in self.variants if v.key == self.first)

    def svg(self) -> str:
        """What is shown first, as an SVG file of its own."""
        return sheet(self.shown.panels, self.legend)

    _repr_svg_ = svg  # a notebook shows it so


def pictures(lecture: Lecture, language: str = "en") -> dict[str, Picture]:
    """All of them, by name, in the lecture's order; `language` is en or zh."""
    words = WORDS[language]
    made = (
        _orders(lecture, words), _surface(lecture, words), _parameters(lecture, words), _three(lecture, words),
        _plane(lecture, words), _space(lecture, words), _dreams(lecture, words), _matrices(lecture, words),
    )  # fmt: skip
    return {p.name: p for p in made}


def _curve(runs: Sequence[tuple[Result, Lined]], task: int, words: Words, name: str, low: float) -> Panel:
    """Accuracy on one task while all are learned, one line a run."""
    first = runs[0][0]
    frame = Frame((0, first.boundaries[-1]), (low, 1.0))
    frame.axes(words["on"].format(name), words["steps"], words["accuracy"], percent=True)
    for end in first.boundaries[:-1]:
        frame.add(stroke([frame.at(end, low), frame.at(end, 1)], "soft", "1 3", 1))
    for r, lined in runs:
        frame.line(r.curve.step, r.curve.task[task], lined, 2.2)
    ends = ", ".join(f"{r.method['name']} {percent(r.accuracy[-1][task])}" for r, _ in runs)
    said = words["curve_said"].format(task=name, tasks=", ".join(first.tasks), ends=ends)
    return frame.panel(said)


def _orders(lecture: Lecture, words: Words) -> Picture:
    """Two orders of the noisy and the clean digits."""
    variants = []
    for key, r in enumerate((lecture.orders.noisy_first, lecture.orders.clean_first)):
        panels = tuple(
            _curve([(r, NOISE[kind])], r.tasks.index(kind), words, words[kind], 0.0) for kind in NOISE
        )
        variants.append(Variant(str(key), panels, {"run": r}))
    return Picture("orders", tuple(variants), "0", tuple((words[k], v) for k, v in NOISE.items()))


def _three(lecture: Lecture, words: Words) -> Picture:
    """SGD, L2 and EWC over A, B, C, with every strength of both guards."""
    found, variants = lecture.three, []
    for (i, a), (j, b) in product(enumerate(found.ewc.runs), enumerate(found.l2.runs)):
        runs = list(zip((found.sgd, b, a), METHODS.values(), strict=True))
        panels = tuple(_curve(runs, t, words, name, 0.0) for t, name in enumerate(found.sgd.tasks))
        facts = {"ewc": a, "l2": b, "lam": found.ewc.lams[i], "l2_lam": found.l2.lams[j]}
        variants.append(Variant(f"{i}-{j}", panels, facts))
    s = lecture.setting
    first = f"{s.lams.index(s.lam)}-{s.l2_lams.index(s.l2_lam)}"
    return Picture("three", tuple(variants), first, tuple((words[k], v) for k, v in METHODS.items()))


def _surface(lecture: Lecture, words: Words) -> Picture:
    """Both losses over the plane, with the path of SGD and that of EWC for every strength."""
    s = lecture.surface
    plain = s.paths[0]
    variants = []
    for i, lam in enumerate(lecture.setting.lams):
        path = next(p for p in s.paths if p.lam == lam)
        panels = tuple(_map(s, task, plain, path, words) for task in (0, 1))
        variants.append(Variant(str(i), panels, {"lam": lam, "path": path, "plain": plain}))
    first = str(lecture.setting.lams.index(lecture.setting.lam))
    legend = tuple((words[k], METHODS[k]) for k in ("sgd", "ewc"))
    return Picture("surface", tuple(variants), first, legend)


def _map(s: Surface, task: int, plain: Path, path: Path, words: Words) -> Panel:
    """One task's loss over the plane, and two paths."""
    half_a, half_b = (s.a[1] - s.a[0]) / 2, (s.b[1] - s.b[0]) / 2  # a grid point is the middle of its cell
    frame = Frame(
        (s.a[0] - half_a, s.a[-1] + half_a), (s.b[0] - half_b, s.b[-1] + half_b), width=360, height=374
    )
    (x0, y0), (x1, y1) = frame.at(frame.x[0], frame.y[0]), frame.at(frame.x[1], frame.y[1])
    image = heat(s.losses[task], float(s.losses[task].min()), float(s.losses[task].max()))
    frame.add(
        f'<image x="{x0:.1f}" y="{y1:.1f}" width="{x1 - x0:.1f}" height="{y0 - y1:.1f}" '
        f'preserveAspectRatio="none" href="{image}"/>'
    )
    frame.axes(words["task_loss"].format(task + 1), words["axis_1"], words["axis_2"])
    for p, kind in ((plain, "sgd"), (path, "ewc")):
        if p is path is plain:
            continue
        part = p.at if p is plain else p.at[p.learned :]  # up to theta_b they are the same
        frame.line(part[:, 0], part[:, 1], (METHODS[kind][0], METHODS[kind][1]), 2.5)
        frame.add(dot(*frame.at(*p.at[-1]), METHODS[kind][0], 5, hollow=p.lam > 0))
    for name, point, down in zip(("θ⁰", "θᵇ", "θ*"), s.points, (19, 19, 4), strict=True):
        x, y = frame.at(*point)
        frame.add(dot(x, y, "ink", 3.5), label(x + 9, y + down, name, "ink", size=14))
    said = words["surface_said"].format(
        task=task + 1, sgd=figure(plain.losses[-1, task]), ewc=figure(path.losses[-1, task]), lam=figure(path.lam)
    )  # fmt: skip
    return frame.panel(said)


def _parameters(lecture: Lecture, words: Words) -> Picture:
    """The flat parameter and the sharp one: loss with its parabola, and accuracy."""
    two = lecture.parameters
    high = 1.05 * max(float(m.loss.max()) for m in (two.small, two.large))
    low = 0.95 * min(float(m.accuracy.min()) for m in (two.small, two.large))
    both = [
        (m, words[size].format(figure(m.fisher))) for m, size in ((two.small, "small"), (two.large, "large"))
    ]
    panels = [_moved(*one, high, words) for one in both] + [_right(*one, low, words) for one in both]
    legend = ((words["measured"], METHODS["ewc"]), (words["parabola"], METHODS["sgd"]))
    return Picture("parameters", (Variant("", tuple(panels)),), legend=legend)


def _moved(m: Moved, title: str, high: float, words: Words) -> Panel:
    frame = Frame((float(m.moves[0]), float(m.moves[-1])), (0.0, high), height=220)
    frame.axes(title, words["move"], words["loss"])
    inside = m.parabola <= high
    frame.line(m.moves[inside], m.parabola[inside], METHODS["sgd"]).line(m.moves, m.loss, METHODS["ewc"])
    middle = len(m.moves) // 2
    frame.add(dot(*frame.at(0, m.loss[middle]), "ink"))
    return frame.panel(
        words["moved_said"].format(
            b=figure(m.fisher), here=figure(m.loss[middle]), edge=figure(max(m.loss[0], m.loss[-1]))
        )
    )


def _right(m: Moved, title: str, low: float, words: Words) -> Panel:
    frame = Frame((float(m.moves[0]), float(m.moves[-1])), (low, 1.0), height=220)
    frame.axes(title, words["move"], words["correct"], percent=True)
    frame.line(m.moves, m.accuracy, METHODS["ewc"])
    middle = len(m.moves) // 2
    frame.add(dot(*frame.at(0, m.accuracy[middle]), "ink"))
    here, edge = percent(m.accuracy[middle]), percent(min(m.accuracy[0], m.accuracy[-1]))
    return frame.panel(words["accuracy_said"].format(here=here, edge=edge))


def _plane(lecture: Lecture, words: Words) -> Picture:
    """GEM with one past task, by step and margin."""
    variants = []
    for i, m in enumerate(lecture.gem.plane):
        for j, turned in enumerate(m.turned):
            panels = (in_plane(m, turned, words),)
            variants.append(Variant(f"{i}-{j}", panels, {"moment": m, "turned": turned}))
    return Picture("gem-plane", tuple(variants), "0-0")


def _space(lecture: Lecture, words: Words) -> Picture:
    """GEM with two past tasks, by step and margin."""
    variants = []
    for i, m in enumerate(lecture.gem.space):
        for j, turned in enumerate(m.turned):
            panels = (in_space(m, turned, words), from_above(m, turned, words))
            variants.append(Variant(f"{i}-{j}", panels, {"moment": m, "turned": turned}))
    return Picture("gem-space", tuple(variants), "0-0")


def _dreams(lecture: Lecture, words: Words) -> Picture:
    """What the generator draws after each task."""
    d = lecture.dreams
    panels = tuple(contact(image, name, words) for image, name in zip(d.images, d.replay.tasks, strict=True))
    return Picture("dreams", (Variant("", panels),))


def _matrices(lecture: Lecture, words: Words) -> Picture:
    """The accuracy matrices; on the page they are tables."""
    panels = tuple(matrix(c, words[name], words) for name, c in lecture.matrices.items())
    return Picture("matrices", (Variant("", panels),))


def rounded(values: Sequence[float] | np.ndarray[Any, Any], digits: int = 1) -> str:
    """Numbers with commas between.

    >>> rounded([93.14, 90.0])
    '93.1, 90.0'
    """
    return ", ".join(f"{v:.{digits}f}".replace("-", "−") for v in values)
