"""The report as a browser shows it. Needs a Chromium on the PATH; skipped where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.browser import visit
from tests.unit import report_examples as examples

from retain.report import write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(examples.demo(), path)
    return path


class Visit(visit.Visit):
    """The same, once its figures are drawn; what lies in the page itself may be asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1440, scheme: str = "light") -> None:
        super().__init__(browser, path, width, scheme)
        self.page.wait_for_function("document.documentElement.dataset.drawn", timeout=30_000)

    def may_ask_for(self, url: str) -> bool:
        return url.split(":")[0] in ("file", "data", "blob")


@pytest.mark.parametrize(
    ("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]
)
def test_every_figure_is_drawn_and_nothing_sticks_out(
    browser: Any, report: Path, width: int, scheme: str
) -> None:
    visit = Visit(browser, report, width, scheme)
    drawn = visit.sees(
        "[...document.querySelectorAll('[data-figure]')].map(n => {"
        " const s = n.querySelector('svg'), b = s?.getBoundingClientRect();"
        " const shapes = s?.querySelectorAll('path[d]').length;"
        " return [n.dataset.figure, shapes ?? 0, b?.width ?? 0, b?.height ?? 0] })"
    )
    assert len(drawn) == 15
    for kind, shapes, w, h in drawn:
        assert shapes > 12 and w > 80 and h > 80, (kind, shapes, w, h)
    assert visit.sees("document.documentElement.scrollWidth") <= width
    assert visit.sees("document.body.scrollWidth") <= width
    assert visit.sees("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    paper, ink = visit.sees("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    light = [sum(int(v) for v in c[4:-1].split(",")) > 380 for c in (paper, ink)]
    assert light == ([True, False] if scheme == "light" else [False, True])
    visit.page.close()
    assert visit.complaints == []


def test_panels_stand_side_by_side_or_one_below_the_other(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    figure = "document.querySelector('[data-figure=curves] svg').getBoundingClientRect()"
    wide = visit.sees(f"{figure}.height")
    visit.page.set_viewport_size({"width": 390, "height": 900})
    visit.page.wait_for_function(f"{figure}.height > {1.8 * wide}", timeout=10_000)
    visit.page.close()
    assert visit.complaints == []


LIT = """
() => [...document.querySelector('[data-figure=curves] svg').querySelectorAll('.mark-line path')]
  .filter(p => Number(p.getAttribute('opacity') ?? 1) > 0.5).map(p => p.getAttribute('stroke'))
"""


def test_a_click_on_a_name_singles_a_method_out_and_another_lets_go(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    colours = set(visit.sees(LIT))
    assert len(colours) == 7
    name = visit.page.locator("[data-figure=curves]").first.locator(".role-legend-label text", has_text="ewc")
    name.click()
    visit.page.wait_for_function(f"new Set(({LIT})()).size === 1")
    assert set(visit.sees(LIT)) == {"#0072B2"}
    visit.page.locator("[data-figure=curves]").first.locator(
        ".role-legend-label text", has_text="gem"
    ).click()
    visit.page.wait_for_function(f"new Set(({LIT})()).size === 2")
    name.click()
    visit.page.wait_for_function(f"new Set(({LIT})()).size === 1")
    assert set(visit.sees(LIT)) == {"#009E73"}
    visit.page.close()
    assert visit.complaints == []


def test_hovering_tells_the_numbers(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    dot = visit.page.locator("[data-figure=curves]").first.locator(".mark-symbol.role-mark path").nth(150)
    dot.scroll_into_view_if_needed()
    dot.hover(force=True)
    tip = visit.page.locator("#vg-tooltip-element.visible")
    tip.wait_for(timeout=5_000)
    words = tip.inner_text()
    assert "accuracy on" in words and "mean" in words and "%" in words
    visit.page.close()
    assert visit.complaints == []


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>'])
def test_hostile_names_do_nothing(browser: Any, tmp_path: Path, name: str) -> None:
    base = examples.example("gem", names=(name, "B" + name), stream={"name": name, name: name})
    evil = replace(base, method={"name": name, name: name}, config={name: name}, versions={name: name})
    other = replace(evil, method={"name": name, name: "<b>x</b>"})
    write_report([evil, other], tmp_path / "evil.html")
    visit = Visit(browser, tmp_path / "evil.html", width=390)
    assert name in visit.sees("document.body.innerText")
    assert visit.sees("document.images.length") == 0
    dots = visit.page.locator("[data-figure=curves] .mark-symbol.role-mark path")
    dots.nth(dots.count() - 20).hover(force=True)
    visit.page.locator("#vg-tooltip-element.visible").wait_for(timeout=5_000)
    assert (
        visit.sees("document.querySelectorAll('#vg-tooltip-element img, #vg-tooltip-element script').length")
        == 0
    )
    assert visit.sees("document.documentElement.scrollWidth") <= 390
    visit.page.close()
    assert visit.complaints == []


def test_many_tasks_fit_a_phone_and_one_task_is_drawn(browser: Any, tmp_path: Path) -> None:
    example = examples.example
    names = tuple(f"permutation {j}" for j in range(20))
    write_report([example(k, 0, names, points=10) for k in ("naive", "gem")], tmp_path / "many.html")
    write_report([example("naive", names=("A",), points=0)], tmp_path / "one.html")
    for file in ("many.html", "one.html"):
        visit = Visit(browser, tmp_path / file, width=390)
        assert visit.sees("document.documentElement.scrollWidth") <= 390
        assert visit.sees(
            "[...document.querySelectorAll('[data-figure]')].every(n => n.querySelector('svg'))"
        )
        visit.page.close()
        assert visit.complaints == []
