"""The report of an update: one HTML file with everything inside and no script. Its words are in `update.html.j2`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from retain.vault.errors import VaultError
from retain.vault.report import figures, words
from retain.vault.report.check import Record, learned, measure_of, updates

STYLE = resources.files("retain.report").joinpath("style.css")
OWN = resources.files("retain.vault.report").joinpath("update.css")
TEMPLATE = resources.files("retain.vault.report").joinpath("update.html.j2")
FEW = 30  # tests and updates up to which their table is open
TESTS = 300  # tests in the table: of more, those that failed and those nearest to failing
CLASSES = 100  # classes in a table: of more, those that lost most
NAMED = 50  # names in a sentence
PAIRS = 5  # confusions that are named


@cache
def _template() -> Template:
    env = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters |= {
        "number": words.number, "points": words.points, "short": words.short, "listed": words.listed,
        "percent": words.error,
    }  # fmt: skip
    return env.from_string(TEMPLATE.read_text(encoding="utf-8"))


def html(record: Record, history: Sequence[Record]) -> str:
    """The page: it needs no network and runs no script.

    Args:
        record: the update's whole record, or the short one of the history.
        history: events of the vault, oldest first; those from this update on are not shown.

    Raises:
        Damaged: a record is none; names the field.
        VaultError: the record is of no update, or an earlier one's numbers are of another kind.
    """
    r = learned(record)
    measure = measure_of(r)
    before = [u for u in updates(history) if u["version"] < r["version"]]
    if odd := [u["version"] for u in before if measure_of(u) != measure]:
        raise VaultError(
            f"version {odd[0]} was not measured by its {measure}, as version {r['version']} was: "
            "give the history of one vault"
        )
    tests = r["gate"]["tests"]
    deciding = [t for t in tests if t["gated"]]
    return _template().render(
        style=Markup(STYLE.read_text(encoding="utf-8") + OWN.read_text(encoding="utf-8")),  # ours
        r=r, measure=measure, unit=words.unit(measure), decision=words.decision(r),
        figures=[(title, f) for title, what in FIGURES if (f := figures.losses(_of(deciding, what), measure))],
        new=next(iter(_of(tests, "new data")), None), way=figures.way,
        tests=words.nearest(tests, measure, TESTS), failed=sum(not t["passed"] for t in deciding),
        deciding=len(deciding), matrix=figures.matrix([*before, r]),
        updates=[figures.summary(u) for u in (*before, r)],
        classes=words.by_change(r["per_class"])[:CLASSES], change=words.change,
        confused=_confused(r), cut=r.get("cut", {}), scratch=None if r["scratch"] is None else words.scratch_words(r),
        counts=sorted(r["data"]["classes"].items(), key=lambda c: -c[1])[:NAMED], named=NAMED, few=FEW,
    )  # fmt: skip


FIGURES = (
    ("Guards", "guard"),
    ("Classes with enough guards", "class"),
    ("Lost to new classes", "to new classes"),
)


def _of(tests: Sequence[Record], what: str) -> list[Record]:
    return [t for t in tests if t["what"] == what]


def _confused(r: Record) -> list[tuple[str, str, int]]:
    """Label, new answer and how often, among the listed examples that were right and are now wrong."""
    if r["changed"] is None:
        return []
    pairs = Counter((e["label"], e["now"]) for e in r["changed"]["examples"])
    return [(*pair, n) for pair, n in pairs.most_common(PAIRS)]
