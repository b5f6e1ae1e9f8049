"""What belongs together: results grouped by stream, then by method and settings, over seeds."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retain.report.check import check_all
from retain.result import Result

# Okabe & Ito 2008: told apart with every common kind of colour blindness. Grey is the yardstick.
COLOURS = {
    "naive": "#D55E00",
    "l2": "#E69F00",
    "ewc": "#0072B2",
    "gem": "#009E73",
    "generative-replay": "#CC79A7",
    "replay": "#56B4E9",
    "joint": "#8A8A8A",
}
OTHERS = ("#7F5FC7", "#A6761D", "#66A61E", "#B2182B", "#01808C", "#E377C2", "#7A7A2E", "#4D6FE0")
DASHES = ((7, 2), (2, 2), (7, 2, 2, 2), (4, 4))  # of lines that have no colour of their own in the list above
FEW = 6  # tasks that are shown by name, with a panel each
ORDER = ("naive", "l2", "ewc", "gem", "generative-replay", "replay")  # then the others, then joint

# Settings that change from seed to seed, or that do not change what is learned.
NEUTRAL = {"seed", "seeds", "out", "path", "threads", "device", "quiet", "resume", "jobs", "workers"}
NEUTRAL |= {"evaluate", "record"}  # tested more or less, the same is learned
NEUTRAL |= {"processes", "curve_every", "curve_samples", "checkpoint_every", "stream", "method", "methods"}


@dataclass(frozen=True)
class Line:
    """The runs of one method with one setting on one stream, of one folder: a line of a figure, a table's row."""

    label: str  # the name, and the settings in which it differs from others of that name
    given: str  # the name as the run has it
    name: str  # the same in one spelling
    colour: str
    runs: tuple[Result, ...]  # ascending by seed
    folder: str = ""  # which it is from, where several are shown side by side
    dash: tuple[int, ...] = ()  # of its stroke: told apart without colours too; empty: solid

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """The accuracy matrix [T + 1, T], each cell the mean over the seeds that measured it; NaN: none."""
        R = np.asarray([r.accuracy for r in self.runs], dtype=np.float64)
        seen = ~np.isnan(R)
        total, count = np.where(seen, R, 0.0).sum(0), np.where(seen.any(0), seen.sum(0), np.nan)
        return np.asarray(total / count, dtype=np.float64)

    @cached_property
    def partial(self) -> bool:
        """Whether some cell was not measured with some seed."""
        return bool(np.isnan([r.accuracy for r in self.runs]).any())

    @property
    def joint(self) -> bool:
        """Whether it keeps all data: the yardstick."""
        return self.name == "joint"

    @property
    def seeds(self) -> str:
        """For the eye: "seeds 0, 1"."""
        return ("seed " if len(self.runs) == 1 else "seeds ") + ", ".join(str(r.seed) for r in self.runs)


@dataclass(frozen=True)
class Group:
    """All that was run on one stream."""

    label: str
    about: str  # the stream's other parameters, for the eye
    tasks: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def numbered(self) -> bool:
        """Whether the tasks' numbers are shown where there is no room for their names."""
        return len(self.tasks) > FEW or max(map(len, self.tasks)) > 7

    @property
    def short(self) -> tuple[str, ...]:
        """The tasks' names, or their numbers."""
        return tuple(str(j + 1) for j in range(len(self.tasks))) if self.numbered else self.tasks

    @property
    def folders(self) -> list[str]:
        """Those whose runs it shows side by side; of one alone: none."""
        return [name for name in dict.fromkeys(line.folder for line in self.lines) if name]

    @property
    def partial(self) -> bool:
        """Whether any of its runs measured its accuracy matrix in part."""
        return any(line.partial for line in self.lines)

    @property
    def runs(self) -> list[Result]:
        """Of all its lines."""
        return [r for line in self.lines for r in line.runs]


class Found(NamedTuple):
    """A result, and the folder that it is from."""

    result: Result
    folder: str


def group(results: Sequence[Result], folders: Sequence[str] = ()) -> list[Group]:
    """Streams in the order of their first result; lines from naive over the methods to joint.

    Args:
        results: of at least one run.
        folders: the name of the folder that each is from, where several are shown side by side: what they
            have in common are then lines of their own.

    Raises:
        ValueError: no results, a broken one, or two different ones of the same setting and seed.
    """
    check_all(results)
    colours = _colours([parameters(r.method)["name"] for r in results])
    streams: dict[str, list[Found]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for r, folder in zip(results, folders or [""] * len(results), strict=True):
        setting = {"name": clean(r.stream.get("name", "stream")), **flat(r.stream)}
        key = _key({**setting, "name": r.stream.get("name"), "tasks": len(r.tasks)})
        settings.setdefault(key, setting)
        streams.setdefault(key, []).append(Found(r, folder))
    labels = distinct(list(settings.values()))
    return [_group(label, m, colours) for label, m in zip(labels, streams.values(), strict=True)]


def _group(stream: str, found: list[Found], colours: Mapping[str, str]) -> Group:
    runs: dict[tuple[str, str], dict[int, Result]] = {}  # by setting and folder, and by seed
    first: dict[str, dict[str, Any]] = {}
    for r, folder in found:
        setting = {**flat(r.config), **parameters(r.method)}
        key = _key(setting)
        first.setdefault(key, setting)
        other = runs.setdefault((key, folder), {}).setdefault(r.seed, r)
        if not np.array_equal(other.accuracy, r.accuracy, equal_nan=True):
            raise ValueError(
                f"two different results of {first[key]['name']}, seed {r.seed}, on {stream}, of the same "
                "settings: keep one of them"
            )
    labels = dict(zip(first, distinct(list(first.values())), strict=True))
    lines = []
    for (key, folder), by_seed in runs.items():
        given = first[key]["name"]
        label = f"{labels[key]} · {folder}" if folder else labels[key]
        members = tuple(by_seed[s] for s in sorted(by_seed))
        lines.append(Line(label, given, canonical(given), colours[canonical(given)], members, folder))
    lines = _shade(sorted(lines, key=lambda line: _rank(line.name)))
    results = [f.result for f in found]
    return Group(stream, _about(results[0].stream), _tasks(results), tuple(lines))


def folder_names(folders: Sequence[Path]) -> list[str]:
    """A short name for each: the last parts of its path, as many as tell them apart.

    >>> folder_names([Path("out/a"), Path("out/b")]), folder_names([Path("x/out"), Path("y/out")])
    (['a', 'b'], ['x/out', 'y/out'])

    Raises:
        ValueError: one is given twice.
    """
    whole = [path.resolve() for path in folders]
    if len(set(whole)) < len(whole):
        raise ValueError(f"a folder is named twice: {', '.join(map(str, folders))}")
    parts = 1
    while len({path.parts[-parts:] for path in whole}) < len(whole):
        parts += 1
    return [clean("/".join(path.parts[-parts:])) for path in whole]


def row_names(tasks: Sequence[str]) -> list[str]:
    """What the rows of an accuracy matrix over these tasks are called."""
    return ["untrained", *(f"after {t}" for t in tasks)]


def canonical(name: str) -> str:
    """One spelling: "Generative_Replay" is "generative-replay"."""
    return clean(name).lower().replace("_", "-").replace(" ", "-")


def slug(text: str) -> str:
    """A part of a file's name: of letters, digits and dashes.

    >>> slug("Split MNIST / class")
    'split-mnist-class'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]


def names(groups: Sequence[Group]) -> list[str]:
    """A file name for each stream, each another."""
    out: list[str] = []
    for g in groups:
        name = slug(g.label) or "stream"
        out.append(name if name not in out else f"{name}-{len(out) + 1}")
    return out


def clean(text: object) -> str:
    """A name of the user's, for terminals too: control characters become U+FFFD, and its length is bounded.

    >>> clean("A" + chr(27) + "[31m")
    'A�[31m'
    """
    shown = "".join(c if c.isprintable() else "\ufffd" for c in str(text).strip()) or "?"
    return shown if len(shown) <= 80 else shown[:79] + "…"


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, names joined by dots; without what differs from seed to seed.

    >>> flat({"name": "ewc", "fisher": {"labels": "exact"}, "seed": 3})
    {'fisher.labels': 'exact'}
    """
    out: dict[str, Any] = {}
    for key, value in config.items():
        if key in NEUTRAL or (key == "name" and not prefix):
            continue
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def parameters(method: Mapping[str, Any]) -> dict[str, Any]:
    """A method's name and settings on one level; a chain is named after its links.

    >>> parameters({"name": "chain", "methods": [{"name": "replay", "n": 5}, {"name": "ewc", "lam": 1.0}]})
    {'name': 'replay + ewc', 'replay.n': 5, 'ewc.lam': 1.0}
    """
    links = method.get("methods")
    if not isinstance(links, list) or not all(isinstance(m, Mapping) and "name" in m for m in links):
        return {"name": clean(method["name"]), **flat(method)}
    named = [parameters(m) for m in links]
    settings = {f"{m['name']}.{k}": v for m in named for k, v in m.items() if k != "name"}
    return {"name": " + ".join(m["name"] for m in named), **settings}


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def distinct(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """A label for each: its name, and what differs from others of that name.

    >>> distinct([{"name": "ewc", "lam": 10.0, "b": 1}, {"name": "ewc", "lam": 2.5, "b": 1}, {"name": "gem"}])
    ['ewc lam=10', 'ewc lam=2.5', 'gem']
    """
    labels: list[str] = []
    for mine in settings:
        same = [s for s in settings if canonical(s["name"]) == canonical(mine["name"])]
        names = dict.fromkeys(k for s in same for k in s if k != "name")
        differ = [k for k in names if len({_key({"v": s.get(k)}) for s in same}) > 1]
        parts = [f"{clean(k)}={value(mine[k])}" for k in differ if k in mine]
        label = clean(" ".join([mine["name"], *parts]))
        while label in labels:
            label += "′"  # cut to a bearable length, two may look alike
        labels.append(label)
    return labels


def value(v: object) -> str:
    """A setting for the eye.

    >>> value(10.0), value(True), value([256, 256])
    ('10', 'yes', '256,256')
    """
    if isinstance(v, bool):
        return "yes" if v else "no"
    if isinstance(v, float):
        return f"{v:g}"
    if isinstance(v, list) and all(isinstance(x, int | float | str) for x in v):
        return clean(",".join(value(x) for x in v))
    return clean(v if isinstance(v, str) else json.dumps(v, default=str))


def _about(stream: Mapping[str, Any]) -> str:
    return " · ".join(
        f"{clean(k)} {value(v)}" for k, v in flat(stream).items() if v not in (None, False) and k != "tasks"
    )


def _tasks(results: Sequence[Result]) -> tuple[str, ...]:
    """The tasks' names where all runs agree (digits may be dealt anew for each seed), each once."""
    names = [clean(t) for t in results[0].tasks]
    if any(r.tasks != results[0].tasks for r in results):
        return tuple(f"task {j + 1}" for j in range(len(names)))
    return tuple(t if names.count(t) == 1 else f"{j + 1}: {t}" for j, t in enumerate(names))


def _rank(name: str) -> int:
    return len(ORDER) + 1 if name == "joint" else ORDER.index(name) if name in ORDER else len(ORDER)


def _colours(names: Sequence[str]) -> dict[str, str]:
    """A fixed colour for each name; two strangers that would share one get neighbours."""
    out: dict[str, str] = {}
    for name in sorted({canonical(n) for n in names}):
        start = zlib.crc32(name.encode()) % len(OTHERS)
        turns = [OTHERS[(start + k) % len(OTHERS)] for k in range(len(OTHERS))]
        free = [c for c in turns if c not in out.values()] or turns
        out[name] = COLOURS.get(name, free[0])
    return out


def _shade(lines: list[Line]) -> list[Line]:
    """Lines of the same method keep its hue and differ in lightness; those not of the list are dashed."""
    out: list[Line] = []
    others = cycle(DASHES)
    for line in lines:
        same = [other for other in lines if other.name == line.name]
        lighter = same.index(line) / max(len(same), 2) * 0.75
        rgb = [int(line.colour[i : i + 2], 16) for i in (1, 3, 5)]
        mixed = "#" + "".join(f"{round(c + (255 - c) * lighter):02X}" for c in rgb)
        own = line.name in COLOURS and not lighter
        dash = (5, 3) if line.joint else () if own else next(others)
        out.append(replace(line, colour=mixed, dash=dash))
    return out
