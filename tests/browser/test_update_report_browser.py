"""The report of an update as a browser shows it. Needs a Chromium on the PATH; skipped where there is none."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.browser.visit import Visit
from tests.vault import record_examples as examples

from retain.vault.report import html

SIZES = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]
PAGES = ("refused", "served", "first", "regression", "many")
HOSTILE = "</style><script>alert(1)</script><img src=x onerror=alert(2)> \u202e" + "x" * 10_000


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each kind of page."""
    folder: Path = tmp_path_factory.mktemp("reports")
    records, losses, many = examples.class_vault(), examples.regression_vault(), examples.many(40)
    made = {
        "refused": (records[3], records[:3]),
        "served": (records[4], records[:4]),
        "first": (records[0], []),
        "regression": (losses[1], losses[:1]),
        "many": (many[-1], many[:-1]),
    }
    for name, (record, history) in made.items():
        (folder / f"{name}.html").write_text(html(record, history), encoding="utf-8")
    return folder


# Every text with the paper behind it: the least contrast, by WCAG 2.1's formula; colours as the screen has them.
CONTRAST = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = (c, under) => { canvas.fillStyle = under; canvas.fillRect(0, 0, 1, 1); canvas.fillStyle = c;
    canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3) };
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b };
  const paper = n => { let above = [];
    for (; n; n = n.parentElement) above.push(getComputedStyle(n).backgroundColor);
    return above.reverse().reduce((under, c) => `rgb(${rgb(c, under)})`, '#fff') };
  let least = [99, ''];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const n = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !n.checkVisibility()) continue;
    const under = paper(n), style = getComputedStyle(n), ink = n.closest('svg') ? style.fill : style.color;
    const [a, b] = [light(rgb(ink, under)), light(rgb(under, '#fff'))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < least[0]) least = [ratio, walk.currentNode.data.trim()];
  }
  return least;
}
"""


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_nothing_sticks_out_is_fetched_or_is_hard_to_read(
    browser: Any, pages: Path, width: int, scheme: str
) -> None:
    for name in PAGES:
        visit = Visit(browser, pages / f"{name}.html", width, scheme)
        assert visit.sees("document.documentElement.scrollWidth") <= width, name
        assert visit.sees("document.body.scrollWidth") <= width, name
        least, words = visit.sees(CONTRAST)
        assert least >= 4.5, (name, least, words)
        paper, ink = visit.sees("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
        light = [sum(int(v) for v in c[4:-1].split(",")) > 380 for c in (paper, ink)]
        assert light == ([True, False] if scheme == "light" else [False, True])
        visit.page.close()
        assert visit.complaints == [], name


@pytest.mark.parametrize("width", [1440, 390])
def test_marks_of_the_gate_stand_where_they_belong(browser: Any, pages: Path, width: int) -> None:
    visit = Visit(browser, pages / "refused.html", width)
    rows = visit.sees(
        "[...document.querySelectorAll('.losses li:not(.axis)')].map(li => {"
        " const x = s => { const b = li.querySelector(s)?.getBoundingClientRect(); return b && [b.left, b.right] };"
        " return {failed: li.classList.contains('failed'), row: x('svg'), zero: x('.zero'), margin: x('.margin'),"
        "   reach: x('.reach'), mark: x('.dot, .cross'), said: li.innerText} })"
    )
    tests = [t for t in examples.class_vault()[3]["gate"]["tests"] if t["gated"] and t["margin"]]
    order = {"guard": 0, "class": 1, "to new classes": 2}
    tests.sort(key=lambda t: order[t["what"]])
    assert len(rows) == len(tests)
    for row, t in zip(rows, tests, strict=True):
        middle = sum(row["mark"]) / 2
        assert (
            row["row"][0] <= row["reach"][0] < middle < row["zero"][0] < row["row"][1]
        )  # all lost something
        assert (row["reach"][0] <= row["margin"][1]) == row["failed"] == (not t["passed"])
        assert row["said"].rstrip().endswith("passed" if t["passed"] else "failed")
    visit.page.close()
    assert visit.complaints == []


def test_the_keyboard_reaches_what_scrolls_and_what_opens(browser: Any, pages: Path) -> None:
    visit = Visit(browser, pages / "refused.html", 390)
    reached = []
    for _ in range(30):
        visit.page.keyboard.press("Tab")
        reached.append(
            visit.sees("document.activeElement.getAttribute('aria-label') || document.activeElement.tagName")
        )
    assert {
        "Every test of the gate in numbers",
        "Matrix: a row an update, a column a guard",
        "SUMMARY",
    } <= set(reached)
    visit.page.locator("summary").focus()
    visit.page.keyboard.press("Enter")
    assert visit.page.locator("details table").is_visible()
    assert visit.sees("document.documentElement.scrollWidth") <= 390
    visit.page.close()
    assert visit.complaints == []


def test_a_screen_reader_finds_headings_tables_and_names(browser: Any, pages: Path) -> None:
    visit = Visit(browser, pages / "many.html")
    levels = visit.sees("[...document.querySelectorAll('h1,h2,h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert visit.sees(
        "[...document.querySelectorAll('svg[role=img]')].every(s => s.getAttribute('aria-label'))"
    )
    assert visit.sees(
        "[...document.querySelectorAll('svg:not([role=img])')].every(s => s.closest('[aria-hidden]'))"
    )
    assert visit.sees(
        "[...document.querySelectorAll('table')].every(t => t.closest('[role=region][aria-label]'))"
    )
    visit.page.close()


def test_hostile_names_do_nothing(browser: Any, tmp_path: Path) -> None:
    records = examples.class_vault()[2:4]
    for r in records:
        r["name"] = r["reason"] = r["why"] = r["data"]["source"] = HOSTILE
        r["data"]["notes"] = r["data"]["new_classes"] = r["matrix"]["guards"] = [HOSTILE] * len(
            r["matrix"]["guards"]
        )
        for part in (*r["gate"]["tests"], *r["drift"]["tests"]):
            part["name"] = HOSTILE
        for c in r["per_class"]:
            c["class"] = HOSTILE
    (tmp_path / "evil.html").write_text(html(records[1], records[:1]), encoding="utf-8")
    for width in (390, 1440):
        visit = Visit(browser, tmp_path / "evil.html", width)
        assert "<script>alert(1)</script>" in visit.sees("document.body.innerText")
        assert visit.sees("document.querySelectorAll('script, img').length") == 0
        assert visit.sees("document.documentElement.scrollWidth") <= width
        visit.page.close()
        assert visit.complaints == []


def test_it_prints(browser: Any, pages: Path) -> None:
    visit = Visit(browser, pages / "served.html", scheme="dark")
    assert 2 <= visit.printed() <= 12
    visit.page.close()
    assert visit.complaints == []
