"""What the numbers show, in plain sentences, and what they do not show."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from retain import statistics
from retain.report.lines import Group, Line, group
from retain.report.table import MEASURES, rows
from retain.result import Result
from retain.statistics import Difference, point

STEPS = 30  # in a task, below which the networks are hardly trained
WELL = 0.8  # learning accuracy above which a few steps were enough
HELD_BACK = 3.0  # points by which a method must learn the last task worse than naive to be named for it

PROSE = {
    "naive": "plain training",
    "l2": "L2",
    "ewc": "EWC",
    "gem": "GEM",
    "generative-replay": "generative replay",
    "joint": "joint training",
}


def sentence(results: Sequence[Result]) -> str:
    """What the numbers show: how much of the first task each method lost; one sentence a stream.

    Raises:
        ValueError: no results, or broken ones.
    """
    groups = group(results)
    return " ".join((f"On {g.label}: " if len(groups) > 1 else "") + sentence_of(g) for g in groups)


def sentence_of(g: Group) -> str:
    """The sentence about one stream."""
    kept = [line for line in g.lines if not line.joint]
    joint = [line for line in g.lines if line.joint]
    if len(g.tasks) == 1:
        known = [f"{_prose(line)} reaches {_mean(line)}" for line in g.lines]
        return f"On {g.tasks[0]}, the only task, {_join(known)}."
    upper = _join([f"{_prose(line)}, which keeps all data, reaches {_mean(line)}" for line in joint])
    if not kept:
        return f"After {g.tasks[-1]}, over all tasks, {upper}."
    end = f"over all tasks it reaches {_mean(kept[0])}" if len(kept) == 1 else _best(kept)
    return f"After {g.tasks[-1]}, {_losses(g, kept)}; {end}{', while ' + upper if joint else ''}."


def _best(lines: Sequence[Line]) -> str:
    """Which comes best over all tasks, and whether that can be said at all."""
    found = differences(lines)
    best = max(lines, key=lambda line: float(np.mean(list(_accs(line).values()))))
    text = f"over all tasks {_prose(best)} comes first with {_mean(best)}"
    tested = [d for d in found if d.p is not None]
    if not tested:
        return text + " (one seed: chance is not ruled out)"
    unsure = [d.b for d in tested if d.unsure and d.a == _prose(best)]
    others = [d.b if d.a == _prose(best) else d.a for d in tested if not d.told_apart]
    close = [m for m in others if m not in unsure]
    if others and max(d.interval.n for d in tested) < statistics.ENOUGH:
        return f"{text} (two seeds are too few to prove that it is above {_few(others, ' or ')})"
    if unsure:
        text += f", above {_few(unsure, ' and ')} but not surely"
    if close:
        text += f", {'and' if unsure else 'but'} cannot be told apart from {_few(close, ' or ')}"
    if others:
        return f"{text} ({_seeds(tested)})"
    nearest = min(tested, key=lambda d: d.interval.mean)
    by = f"{point(100 * nearest.interval.mean)} points, {statistics.span(nearest.interval)}"
    return f"over all tasks {_prose(best)} comes best with {_mean(best)} (above {nearest.b} by {by})"


def _few(names: Sequence[str], last: str) -> str:
    return _join(names, last) if len(names) <= 3 else f"{len(names)} others"


def _seeds(found: Sequence[Difference]) -> str:
    counts = sorted({d.interval.n for d in found})
    return f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"


def _accs(line: Line) -> dict[int, float]:
    return {r.seed: r.acc for r in line.runs}


def differences(lines: Sequence[Line]) -> list[Difference]:
    """Of the ACC of the best line and every other, on equal seeds; joint training, the upper bound, stays out.

    The one family of comparisons of a page: whatever is said there of two methods is corrected for these.
    """
    kept = {_prose(line): _accs(line) for line in lines if not line.joint}
    return statistics.compare(kept, "best")


def compared(g: Group) -> list[str]:
    """Each comparison of `differences` that could be tested, as a sentence: the best and every other method."""
    return [statistics.sentence(d) for d in differences(g.lines) if d.p is not None]


def between_folders(g: Group) -> list[str]:
    """Of each method in the first folder and in another, which is above: seed by seed, a family of its own.

    Empty where one folder is shown.
    """
    if not g.folders:
        return []
    first, *others = g.folders
    pairs = [
        statistics.difference(_prose(a), _prose(b), _accs(a), _accs(b))
        for a in g.lines
        for b in g.lines
        if a.folder == first
        and b.folder in others
        and _plain(a) == _plain(b)
        and set(_accs(a)) & set(_accs(b))
    ]
    return [statistics.sentence(d) for d in statistics.corrected(pairs)]


def _plain(line: Line) -> str:
    """Its label without its folder's name."""
    return line.label.removesuffix(f" · {line.folder}")


def suspicious(g: Group) -> list[str]:
    """What looks wrong with the numbers of one stream."""
    found = statistics.doubts({_prose(line): {r.seed: r.accuracy for r in line.runs} for line in g.lines})
    return found + _hardly_trained(g)


def _hardly_trained(g: Group) -> list[str]:
    """Whether plain training took a handful of steps a task, and learned them badly."""
    line = next((line for line in g.lines if line.name == "naive"), None)
    if line is None:
        return []
    ends = [r.boundaries for r in line.runs if r.boundaries]
    most = max((b - a for at in ends for a, b in pairwise([0, *at])), default=STEPS)
    learned = [r.learning_accuracy for r in line.runs if r.learning_accuracy is not None]
    if most >= STEPS or not learned or np.mean(learned) > WELL:
        return []
    known = (
        f"learned its tasks only to {point(100 * float(np.mean(learned)))} %, in {most} steps each at most"
    )
    return [f"{_prose(line)} {known}: the networks are hardly trained; raise --epochs or --samples"]


def left_out(g: Group) -> list[str]:
    """Which measures are missing since accuracy matrices were measured in part, each in a sentence."""
    whose: dict[str, list[str]] = {}
    for line, row in zip(g.lines, rows(g), strict=True):
        measures = {"learning accuracy" if name == "learned" else name: of for name, of in MEASURES.items()}
        names = [name for name, of in measures.items() if of(row) is None and name != "intransigence"]
        if line.partial and names:
            whose.setdefault(_join(names, " or "), []).append(_prose(line))
    return [
        f"no {names} of {_join(lines)}: that takes cells of the accuracy matrix that were not measured"
        for names, lines in whose.items()
    ]


def caveats(results: Sequence[Result]) -> list[str]:
    """What the numbers do not show: what the best is not surely above by ACC, measures that cannot be given,
    and what looks suspicious.

    Raises:
        ValueError: no results, or broken ones.
    """
    groups = group(results)
    return [
        (f"On {g.label}: " if len(groups) > 1 else "") + text
        for g in groups
        for text in [
            *(statistics.sentence(d) for d in differences(g.lines) if d.p is not None and not d.told_apart),
            *left_out(g),
            *suspicious(g),
        ]
    ]


def _prose(line: Line) -> str:
    return PROSE.get(line.name, line.given) + line.label[len(line.given) :]


def _mean(line: Line) -> str:
    return f"{point(100 * float(line.matrix[-1].mean()))} %"


def _losses(g: Group, kept: Sequence[Line]) -> str:
    """For example: plain training has lost 9.1 points on A, EWC 1.2 and GEM 0.9."""
    parts: list[str] = []
    before = ""
    for line in kept:
        if np.isnan(line.matrix[1, 0]):
            known = point(100 * float(line.matrix[-1, 0]))
            parts.append(f"{_prose(line)} knows {g.tasks[0]} to {known} %{_held_back(g, line)}")
            continue
        lost = round(100 * float(line.matrix[1, 0] - line.matrix[-1, 0]), 1)
        verb = "lost" if lost >= 0 else "gained"
        points = point(abs(lost))
        if not before:
            text = f"{_prose(line)} has {verb} {points} points on {g.tasks[0]}"
        else:
            text = f"{_prose(line)} {points if verb == before else f'{verb} {points}'}"
        parts.append(text + _held_back(g, line))
        before = verb
    return _join(parts)


def _held_back(g: Group, line: Line) -> str:
    """The other way to fail: keeping the old by not learning the new."""
    naive = [other.matrix[-1, -1] for other in g.lines if other.name == "naive"]
    mine = line.matrix[-1, -1]
    if not naive or 100 * (max(naive) - mine) < HELD_BACK:
        return ""
    return f" (but learned {g.tasks[-1]} only to {point(100 * float(mine))} %)"


def _join(parts: Sequence[str], last: str = " and ") -> str:
    return ", ".join(parts[:-1]) + (last if len(parts) > 1 else "") + "".join(parts[-1:])
