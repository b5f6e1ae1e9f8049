"""Records of events in words: numbers as people read them, an update for a terminal, the whole history."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from retain.vault.report.check import Record, checked, measure_of

LONGEST = 80  # characters of a name
SENTENCE = 600  # characters of a sentence, such as the reason
GUARDS = 20  # guards in a terminal's table: of more, those nearest to their margin
WORST = 5  # classes and tests that are named, those that lost most
NOTES = 10  # notes and findings that are given in a terminal
MAKES = ("learn", "forget")  # events that make a version


def short(text: object, most: int = LONGEST) -> str:
    """A user's words as one line of at most `most` characters that any terminal can show.

    Control characters and those that turn the direction of writing become U+FFFD.

    >>> short("cat" + chr(0x202E) + "s"), short("a" * 99, 5), short(" ")
    ('cat�s', 'aaaa…', '?')
    """
    shown = str(text)[: most + 1].strip()
    shown = "".join(c if c.isprintable() else "\ufffd" for c in shown) or "?"
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def number(value: float | None, measure: str) -> str:
    """An accuracy in percent, or a mean loss.

    >>> number(0.9312, "accuracy"), number(0.25, "loss"), number(None, "loss")
    ('93.1 %', '0.25', '–')
    """
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if measure == "accuracy" else f"{value:.4g}"


def points(value: float | None) -> str:
    """A share in hundredths: points of accuracy, or percent of a mean loss.

    >>> points(0.0366), points(None)
    ('3.7', '–')
    """
    return "–" if value is None else f"{100 * value:.1f}"


def unit(measure: str) -> str:
    """What margins are counted in."""
    return "points" if measure == "accuracy" else "% of its mean loss"


def lost(test: Record, measure: str) -> float | None:
    """What the candidate lost in one test, in its margin's units, negative for a gain; None: nothing to divide by.

    Accuracy: the difference of the shares. Loss: its rise, as a share of the served version's mean loss.

    >>> round(lost({"what": "guard", "served": 0.5, "candidate": 0.6}, "loss"), 3)
    0.2
    """
    if test["what"] == "to new classes":
        return float(test["losses"] / test["n"])
    if measure == "accuracy":
        return float(test["served"] - test["candidate"])
    return float(test["candidate"] / test["served"] - 1) if test["served"] > 0 else None


def slack(test: Record, measure: str) -> float:
    """How far a test is from failing: its margin less what may have been lost. Below zero it fails, or nearly."""
    if test["margin"] is None:
        return math.inf
    at_most = lost(test, measure) if test["bound"] is None else test["bound"]
    return -math.inf if at_most is None else float(test["margin"] - at_most)


def nearest(tests: Sequence[Record], measure: str, most: int) -> list[Record]:
    """At most so many tests, in their order: those that failed, then those nearest to failing."""
    ranked = sorted(range(len(tests)), key=lambda i: (tests[i]["passed"], slack(tests[i], measure)))
    return [tests[i] for i in sorted(ranked[:most])]


def decision(record: Record) -> str:
    """What became of it, in one sentence, with the version that is served."""
    version, reason = record["version"], short(record["reason"], SENTENCE)
    if record["event"] != "learn":
        return reason
    if record["promoted"]:
        return f"version {version} is served: {reason}"
    parent = record["parent"]
    served = "nothing is served yet" if parent is None else f"version {parent} is served"
    return f"version {version} stays a candidate, {served}: {reason.removeprefix('refused: ')}"


def text(record: Record) -> str:
    """What an event did, for a terminal.

    Raises:
        Damaged: it is no record; names the field.
    """
    r = checked(record)
    if r["event"] != "learn":
        removed = [f"removed: {short(w, SENTENCE)}" for w in r.get("removed", [])]
        return "\n".join([decision(r), *removed, *(f"kept: {short(w, SENTENCE)}" for w in r.get("kept", []))])
    parts = (_data(r), _drift(r), guard_lines(r), _new_classes(r), _classes(r), _changed(r), _rest(r))
    return "\n".join([decision(r), *(line for part in parts for line in part)])


def _data(r: Record) -> list[str]:
    d = r["data"]
    said = f"{d['trained_on']} to learn from and {d['guards']} to guard them"
    lines = [
        f"method: {short(r['why'], SENTENCE)}",
        f"data: {d['examples']} examples of {short(d['source'], 200)}, {said}",
    ]
    if d["new_classes"]:
        lines.append(f"new classes: {listed(d['new_classes'], 20)}")
    lines += [f"note: {short(note, SENTENCE)}" for note in d["notes"][:NOTES]]
    return lines + _more(d["notes"], "notes", NOTES)


def _drift(r: Record) -> list[str]:
    found = r["drift"]["findings"] if r["drift"]["drifted"] else []
    return [f"drift: {short(f, SENTENCE)}" for f in found[:NOTES]] + _more(found, "findings", NOTES)


def listed(names: Sequence[str], most: int) -> str:
    """Names in a sentence, at most so many, and how many more there are.

    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(short, names[:most])) + more


def guard_lines(r: Record) -> list[str]:
    """The guards, as a table of text."""
    m, measure = r["matrix"], measure_of(r)
    tests = {t["name"]: t for t in r["gate"]["tests"] if t["what"] in ("guard", "new data")}
    rows = list(zip(m["guards"], m["served"], m["candidate"], strict=True))
    if len(rows) > GUARDS:
        near = nearest([t for t in tests.values() if t["what"] == "guard"], measure, GUARDS)
        keep = {t["name"] for t in near} | {m["guards"][-1]}  # the last one is the update's own
        rows = [row for row in rows if row[0] in keep]
    known = measure == "accuracy"
    head = [
        "guard",
        "served",
        "candidate",
        *(["known before"] if known else []),
        "lost at most",
        "margin",
        "",
    ]
    cells = [head]
    for name, served, candidate in rows:
        t = tests.get(name)
        old = t is not None and t["what"] == "guard"
        mid = [number(t["candidate"], measure) if t is not None and old else "–"] if known else []
        bound, margin = (points(t["bound"]), points(t["margin"])) if t is not None else ("–", "–")
        word = "" if t is None else ("" if old else "new: ") + ("passed" if t["passed"] else "FAILED")
        cells.append(
            [short(name, 40), number(served, measure), number(candidate, measure), *mid, bound, margin, word]
        )
    what = (
        "accuracy on the guards, among all classes and those known before"
        if known
        else "mean loss on the guards"
    )
    title = f"{what}; lost at most ({100 - 100 * r['gate']['alpha']:g} %) and margin in {unit(measure)}:"
    left = len(m["guards"]) - len(rows)
    more = [f"  and {left} more guards, further from their margins"] if left else []
    return [title, *columns(cells), *more] if rows else []


def columns(cells: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text whose columns stand below each other: the first and last to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    last = len(widths) - 1

    def place(i: int, cell: str) -> str:
        return cell.ljust(widths[i]) if i in (0, last) else cell.rjust(widths[i])

    return ["  " + "  ".join(place(i, c) for i, c in enumerate(row)).rstrip() for row in cells]


def _new_classes(r: Record) -> list[str]:
    """What the guards lost to new classes, and the classes that failed their test: those nearest to failing."""
    measure, tests = measure_of(r), r["gate"]["tests"]
    moved = [t for t in tests if t["what"] == "to new classes" and (t["losses"] or not t["passed"])]
    failed = [t for t in tests if t["what"] == "class" and t["gated"] and not t["passed"]]
    lines = []
    for t in nearest(failed, measure, WORST):
        way = f"{number(t['served'], measure)} -> {number(t['candidate'], measure)}"
        lines.append(f"class {short(t['name'])}: {way}, margin {points(t['margin'])} {unit(measure)} FAILED")
    lines += _more(failed, "classes FAILED")
    for t in nearest(moved, measure, WORST):
        size = f"{t['losses']} of {t['n']} that were right ({points(lost(t, measure))} points"
        end = "" if t["passed"] else " FAILED"
        lines.append(f"to new classes: {short(t['name'])} loses {size}, margin {points(t['margin'])}){end}")
    return lines + _more(moved, "guards lose some to new classes")


def _more(found: Sequence[Any], what: str, most: int = WORST) -> list[str]:
    """How many were not named."""
    return [f"and {len(found) - most} more {what}"] if len(found) > most else []


def _classes(r: Record) -> list[str]:
    worst = [c for c in by_change(r["per_class"]) if change(c) < 0][:WORST]
    if not worst:
        return []
    said = ", ".join(f"{short(c['class'])} {100 * change(c):+.1f} ({number(c['served'], 'accuracy')} -> "
                     f"{number(c['candidate'], 'accuracy')})" for c in worst)  # fmt: skip
    return [f"classes that lost most: {said}"]


def change(of_class: Record) -> float:
    """By how much a class's accuracy rose; 0 where nothing was served before."""
    return 0.0 if of_class["served"] is None else float(of_class["candidate"] - of_class["served"])


def by_change(classes: Iterable[Record]) -> list[Record]:
    """Those that lost most first."""
    return sorted(classes, key=change)


def _changed(r: Record) -> list[str]:
    c = r["changed"]
    if c is None or r["parent"] is None or not c["right_to_wrong"] + c["wrong_to_right"]:
        return []
    return [
        f"predictions on the guards: {c['right_to_wrong']} right -> wrong, {c['wrong_to_right']} wrong -> right"
    ]


def _rest(r: Record) -> list[str]:
    """Retraining from scratch, calibration and cost."""
    lines, scratch, c, cost = [], r["scratch"], r["calibration"], r["cost"]
    if scratch is not None:
        lines.append(
            f"trained from scratch on {scratch['examples']} examples of all updates: {scratch_words(r)}"
        )
    if c is not None:
        errors = f"{error(c['ece'])} -> {error(c['ece_calibrated'])}"
        lines.append(f"calibration: temperature {c['temperature']:.3g}, error {errors}")
    seconds = f"{cost['seconds']:.1f} s, {cost['training_seconds']:.1f} s of them training in {cost['epochs']} passes"
    stored = f"{cost['examples_stored']} examples kept by the method"
    return [*lines, f"cost: {seconds}; {cost['bytes'] / 1e6:.2f} MB; {stored}"]


def error(share: float) -> str:
    """A calibration error.

    >>> error(0.0512)
    '5.1 %'
    """
    return f"{100 * share:.1f} %"


def scratch_words(r: Record) -> str:
    """The mean over the guards of a network trained from scratch, beside the candidate's."""
    measure = measure_of(r)
    own = dict(zip(r["matrix"]["guards"], r["matrix"]["candidate"], strict=True))
    pairs = [
        (v, own[n])
        for n, v in zip(r["scratch"]["guards"], r["scratch"][measure], strict=True)
        if v is not None and own.get(n) is not None
    ]
    if not pairs:
        return "not measured on any guard of this update"
    a, b = (sum(v[i] for v in pairs) / len(pairs) for i in (0, 1))
    return f"{number(a, measure)} in the mean over the guards, the candidate {number(b, measure)}"


def history_table(events: Sequence[Any], served: int | None) -> Table:
    """Every event, a row each.

    Args:
        events: oldest first.
        served: the version that is served now, which is marked; None: none is.

    Raises:
        Damaged: one of them is no record; names the field.
    """
    out = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("version", "event", "when (UTC)", "what"):
        out.add_column(name, no_wrap=name != "what")
    for e in map(checked, events):
        learn = e["event"] == "learn"
        kind = short(e["event"], 12) if not learn else _became(e)
        reason = short(e["reason"], SENTENCE)
        mark = " *" if e["version"] == served and e["event"] in MAKES else ""
        version = "–" if e["version"] is None else f"{e['version']}{mark}"
        what = f"{short(e['name'])}: {reason}" if learn else reason
        out.add_row(version, kind, short(e["time"][:16].replace("T", " ")), Text(what))
    return out


def _became(e: Record) -> str:
    return "forced" if e["forced"] else "served" if e["promoted"] else "refused"
