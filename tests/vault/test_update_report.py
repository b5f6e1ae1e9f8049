"""What is said of an update, as a page and in a terminal: the numbers are the record's, and nothing hostile gets in."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from tests.vault import record_examples as examples

from retain.vault import Damaged
from retain.vault.records import brief
from retain.vault.report import difference, difference_text, figures, html, text

Record = dict[str, Any]
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<!-- {{ 7*7 }} --> &amp; '",
    "</style><h1>",
    "\u202etac\x00\x1b[31m\ud800",
    "חתול قطة 猫 é",
    "x" * 10_000,
)


class Page(HTMLParser):
    """Every element with its attributes, all text, and the tables cell by cell."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.tables: list[list[list[str]]] = []
        self.of_tag: dict[str, str] = {}
        self.open = ""
        self.feed(page)
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open = tag if tag in ("style", "title", "h1") else self.open
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.open = "cell"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "style", "title", "h1"):
            self.open = ""

    def handle_data(self, data: str) -> None:
        self.of_tag[self.open] = self.of_tag.get(self.open, "") + data
        if self.open == "cell":
            self.tables[-1][-1][-1] += data
        if self.open != "style":
            self.words += data

    def table(self, first: str) -> list[list[str]]:
        """The rows of the table whose first column has this title."""
        return next(t[1:] for t in self.tables if t[0][0] == first)


def page_of(records: list[Record], i: int = -1) -> Page:
    return Page(html(records[i], examples.history_of(records)[: len(records) + i if i < 0 else i]))


def shown(value: float | None, measure: str) -> str:
    """Written anew, so that the report's own way of writing is tested."""
    if value is None:
        return "–"
    return f"{round(value * 100, 1):.1f} %" if measure == "accuracy" else f"{value:.4g}"


@pytest.mark.parametrize("name", examples.VAULTS)
def test_every_number_in_the_tables_is_the_records(name: str) -> None:
    records = examples.VAULTS[name]()
    for i, r in enumerate(records):
        page, m = page_of(records, i), r["matrix"]
        measure = m["measure"]
        if r["gate"]["tests"]:
            for row, t in zip(page.table("set"), r["gate"]["tests"], strict=True):
                percents = ["–" if t[k] is None else f"{100 * t[k]:.1f}" for k in ("bound", "margin")]
                assert row[:7] == [
                    t["name"], t["what"], str(t["n"]), shown(t["served"], measure), shown(t["candidate"], measure),
                    str(t["losses"]), str(t["gains"]),
                ]  # fmt: skip
                assert row[7:9] == percents and float(row[9]) == pytest.approx(t["p"], rel=0.05)
                assert row[10:] == ["yes" if t["gated"] else "no", "yes" if t["passed"] else "NO"]
        matrix = page.table("after")
        assert len(matrix) == i + 1
        for row, u in zip(matrix, records, strict=False):
            known = dict(zip(u["matrix"]["guards"], u["matrix"]["candidate"], strict=True))
            cells = [v for v in row[2:] if v]
            assert cells == [shown(v, measure) for v in known.values()]
            assert ("refused" in row[0]) == (not u["promoted"])
        for row, u in zip(page.table("update"), records, strict=False):
            values = u["matrix"]["candidate"]
            worst = min(values) if measure == "accuracy" else max(values)
            wanted = [values[-1], sum(values) / len(values), worst]
            assert row[3:6] == [shown(v, measure) for v in wanted]
            assert row[6:] == [
                str(u["data"]["examples"]),
                f"{u['cost']['seconds']:.1f}",
                f"{u['cost']['bytes'] / 1e6:.2f}",
            ]
        if r["per_class"]:
            by_name = {c["class"]: c for c in r["per_class"]}
            rows = page.table("class")
            assert sorted(row[0] for row in rows) == sorted(by_name)
            for row in rows:
                c = by_name[row[0]]
                assert row[1:4] == [
                    str(c["n"]),
                    shown(c["served"], "accuracy"),
                    shown(c["candidate"], "accuracy"),
                ]
            changes = [float(row[4].replace("−", "-")) for row in rows if row[4] != "–"]
            assert changes == sorted(changes)


def test_examples_that_turned_wrong_are_listed() -> None:
    records = examples.class_vault()
    page, changed = page_of(records, 3), records[3]["changed"]
    assert changed["right_to_wrong"] > 100 == len(changed["examples"])
    rows = page.table("guard")
    assert rows == [[e["guard"], str(e["row"]), e["label"], e["was"], e["now"]] for e in changed["examples"]]
    assert f"Right before, wrong now: {changed['right_to_wrong']}" in page.words
    assert f"{changed['wrong_to_right']} examples went the other way round" in page.words


def test_the_first_words_say_what_was_decided_and_what_is_served() -> None:
    records = examples.class_vault()
    assert [r["promoted"] for r in records] == [True, True, True, False, True]
    assert page_of(records, 0).of_tag["h1"] == "Served: version 1"
    refused = page_of(records, 3)
    assert refused.of_tag["h1"] == "Refused: version 3 is still served"
    said = "version 4 stays a candidate, version 3 is served: "
    reason = records[3]["reason"].removeprefix("refused: ")
    assert said + reason in refused.words
    assert text(records[3]).splitlines()[0] == said + reason
    forced = {**records[3], "promoted": True, "forced": True, "reason": f"served by force; {reason}"}
    assert Page(html(forced, [])).of_tag["h1"] == "Served by force: version 4"
    assert text(forced).startswith("version 4 is served: served by force")
    nothing = {**records[3], "parent": None}
    assert Page(html(nothing, [])).of_tag["h1"] == "Refused: nothing is served yet"


@pytest.mark.parametrize("name", examples.VAULTS)
def test_everything_else_that_the_record_holds_is_said(name: str) -> None:
    records = examples.VAULTS[name]()
    r, page = records[-1], page_of(records)
    d, c, cost = r["data"], r["calibration"], r["cost"]
    for words in (
        d["source"],
        d["sha256"],
        r["why"],
        *d["notes"],
        *d["new_classes"],
        *r["drift"]["findings"],
    ):
        assert words in page.words
    assert f"{d['examples']}: {d['trained_on']} to learn from, {d['guards']} to guard them" in page.words
    assert f"{cost['seconds']:.1f} s, of which {cost['training_seconds']:.1f} s training" in page.words
    for t, row in zip(
        r["drift"]["tests"], page.table("what was compared") if r["drift"]["tests"] else [], strict=True
    ):
        assert row == [t["name"], f"{t['statistic']:.3g}", f"{t['p']:.3g}"]
    if c is not None:
        assert f"temperature of {c['temperature']:.3g}" in page.words
        assert (
            f"{100 * c['ece']:.1f} % without it and {100 * c['ece_calibrated']:.1f} % with it" in page.words
        )
    if (s := r["scratch"]) is not None:
        values = s[r["matrix"]["measure"]]
        mean = shown(sum(values) / len(values), r["matrix"]["measure"])
        assert f"{s['examples']} examples of all updates, for comparison: {mean} in the mean" in page.words


@pytest.mark.parametrize("i", [1, 2, 3, 4])
def test_the_figure_fails_where_the_bar_reaches_the_margin(i: int) -> None:
    tests = [t for t in examples.class_vault()[i]["gate"]["tests"] if t["what"] == "guard"]
    found = figures.losses(tests, "accuracy")
    assert found is not None and len(found["rows"]) == len(tests)
    for row, t in zip(found["rows"], tests, strict=True):
        assert row["reach"] <= row["at"]
        assert (row["at"] < found["zero"]) == (t["candidate"] < t["served"])
        assert (row["reach"] > row["margin"]) == t["passed"]
        scale = (found["zero"] - row["margin"]) / t["margin"]  # percent of the width for each unit lost
        assert found["zero"] - row["at"] == pytest.approx(scale * (t["served"] - t["candidate"]), abs=0.05)


def test_losses_of_a_regression_are_shares_of_the_served_loss() -> None:
    t = next(t for t in examples.regression_vault()[1]["gate"]["tests"] if t["what"] == "guard")
    found = figures.losses([t], "loss")
    assert found is not None
    [row] = found["rows"]
    scale = (found["zero"] - row["margin"]) / t["margin"]
    assert found["zero"] - row["at"] == pytest.approx(scale * (t["candidate"] / t["served"] - 1), abs=0.05)
    assert figures.losses([{**t, "served": 0.0}], "loss")["rows"][0]["at"] is None  # type: ignore[index]
    assert figures.losses([], "loss") is None


def test_the_page_needs_nothing_from_outside_and_runs_nothing() -> None:
    page = page_of(examples.class_vault())
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "iframe", "link", "object", "embed", "form", "base"}
    for _, attrs in page.tags:
        assert not any(k.startswith("on") or k in ("src", "srcset", "action") for k in attrs)
        assert (attrs.get("href") or "#").startswith("#")
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and "default-src 'none'" in policy and "script" not in policy
    assert "url(" not in page.of_tag["style"] and "@import" not in page.of_tag["style"]
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attrs in page.tags:
        assert {attrs[k] for k in ("aria-labelledby",) if k in attrs} <= set(ids)
        assert (attrs.get("href") or "#gate")[1:] in ids
    assert all(a.get("scope") in ("col", "row") for t, a in page.tags if t == "th")


def evil(name: str) -> list[Record]:
    """A vault whose every name, note and sentence is this."""

    def turned(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            keys = {k: f"{name}{i}" for i, k in enumerate(value)} if key in ("classes", "method") else {}
            return {keys.get(k, k): turned(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [turned(v, key) for v in value]
        return value if not isinstance(value, str) or key in ("event", "what", "measure") else name + value

    records: list[Record] = turned(examples.class_vault())
    return records


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_change_no_element_of_the_page(name: str) -> None:
    plain, records = evil("a"), evil(name)
    page = html(records[-1], records[:-1])
    assert len(page.encode()) < 200_000
    found, wanted = Page(page), Page(html(plain[-1], plain[:-1]))
    assert [(t, sorted(a)) for t, a in found.tags] == [(t, sorted(a)) for t, a in wanted.tags]
    assert not any(c in page for c in "\u202e\x00\x1b\ud800")
    if len(name) < 80 and name.isprintable():
        assert sum(name in cell for row in found.table("set") for cell in row) == len(
            records[-1]["gate"]["tests"]
        )
    said = text(records[-1]) + difference_text(difference(records[0], records[-1]))
    assert len(said) < 20_000 and all(c.isprintable() or c == "\n" for c in said)


def test_two_hundred_updates_fit_a_page_and_a_screen() -> None:
    records = examples.many(200, "update of " + "long name " * 6)
    page = html(records[-1], [brief(r) for r in records[:-1]])
    assert len(page.encode()) < 1_000_000
    found = Page(page)
    assert len(found.table("after")) == figures.CELLS and len(found.table("update")) == 200
    assert "Map of all 200 updates by 200 guards" in str(found.tags)
    assert len(text(records[-1]).splitlines()) < 60


def test_of_many_tests_those_that_failed_are_shown() -> None:
    r = examples.many(60, classes=100)[-1]
    failed = [t for t in r["gate"]["tests"] if t["what"] == "class"][1234::1000]
    for t in failed:
        t |= {"passed": False, "gated": True}
    page = html(r, [])
    found = Page(page)
    assert [row[0] for row in found.table("set") if row[-1] == "NO"] == [t["name"] for t in failed]
    assert len(failed) == 5 and len(page.encode()) < 1_000_000
    assert f"{len(r['gate']['tests']) - 300} more tests" in found.words


def test_the_map_has_each_cell_once() -> None:
    records = examples.many(20)
    records[7]["promoted"] = False
    found = figures.matrix(records)["map"]
    cells: set[tuple[int, int]] = set()
    for path in found["paths"]:
        for x, y, run in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", path):
            here = {(int(y), int(x) + k) for k in range(int(run))}
            assert not cells & here
            cells |= here
    assert cells == {(i, j) for i in range(20) for j in range(i + 1)}
    assert re.findall(r"M-1.6 (\d+)", found["refused"]) == ["7"]


def test_shades_are_of_what_is_best() -> None:
    accuracy = figures.matrix(examples.class_vault())
    loss = figures.matrix(examples.regression_vault())
    for m, better in ((accuracy, 1), (loss, -1)):
        cells = [cell for row in m["table"] for cell in row["cells"] if cell[0] is not None]
        by_value = sorted(cells, key=lambda c: better * c[0])
        shades = [shade for _, shade in by_value]
        assert shades == sorted(shades) and shades[-1] - shades[0] > 5 and 0 <= shades[0] <= shades[-1] <= 100
    assert accuracy["ends"][0] < accuracy["ends"][1] and loss["ends"][0] > loss["ends"][1]


def test_records_are_not_changed_and_a_page_is_always_the_same() -> None:
    records = examples.class_vault()
    before = copy.deepcopy(records)
    one, two = (html(records[4], records) for _ in range(2))
    assert one == two == html(records[4], records[:4])  # later events and its own are not shown
    assert records == before


def test_an_earlier_update_is_checked_as_far_as_it_is_shown() -> None:
    records = examples.class_vault()
    whole = html(records[4], records[:4])
    records[1]["gate"] = "gone"
    assert html(records[4], records[:4]) == whole
    records[1]["matrix"]["candidate"][0] = "90 %"
    with pytest.raises(
        Damaged, match=r"version 2 is damaged: matrix\.candidate\[0\] must be a finite number"
    ):
        html(records[4], records[:4])


def test_a_short_record_says_what_it_lacks() -> None:
    r = examples.many(3, classes=200)[-1]
    kept = brief(r)
    assert kept["cut"]["tests"] > 0
    assert f"tests ({kept['cut']['tests']})" in Page(html(kept, [])).words
