"""The report as a browser shows it. Needs a Chromium on the PATH; skipped where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.browser import visit
from tests.unit import report_examples as examples

from retain.report import write_report
from retain.report.curves import curve_points
from retain.report.lines import group


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    write_report([examples.confused(r) for r in examples.demo()], path)
    return path


class Visit(visit.Visit):
    """The same, once its figures are drawn; what lies in the page itself may be asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1440, scheme: str = "light") -> None:
        super().__init__(browser, path, width, scheme)
        self.page.wait_for_function("document.documentElement.dataset.drawn", timeout=30_000)

    def complete(self) -> None:
        """Wait for the figures further down."""
        self.page.wait_for_function("document.documentElement.dataset.complete", timeout=30_000)

    def may_ask_for(self, url: str) -> bool:
        return url.split(":")[0] in ("file", "data", "blob")


@pytest.mark.parametrize(
    ("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]
)
def test_every_figure_is_drawn_and_nothing_sticks_out(
    browser: Any, report: Path, width: int, scheme: str
) -> None:
    visit = Visit(browser, report, width, scheme)
    visit.complete()
    drawn = visit.sees(
        "[...document.querySelectorAll('[data-figure]')].map(n => {"
        " const s = n.querySelector('svg'), b = s?.getBoundingClientRect();"
        " const shapes = s?.querySelectorAll('path[d]').length;"
        " return [n.dataset.figure, shapes ?? 0, b?.width ?? 0, b?.height ?? 0] })"
    )
    assert len(drawn) == 38
    for kind, shapes, w, h in drawn:
        assert shapes > 11 and w > 80 and h > 80, (kind, shapes, w, h)
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


STROKES = """
() => [...document.querySelector('[data-figure=curves] svg').querySelectorAll('.mark-line path')]
  .filter(p => p.getAttribute('d')).map(p => p.getAttribute('stroke'))
"""


def strokes_become(visit: Visit, colours: set[str]) -> None:
    wanted = sorted(colours)
    visit.page.wait_for_function(f"[...new Set(({STROKES})())].sort().join() === '{','.join(wanted)}'")


def test_methods_are_ticked_on_and_off(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    everything = set(visit.sees(STROKES))
    assert len(everything) == 7
    form = visit.page.locator("form.choose").first
    form.get_by_label("ewc").uncheck()
    strokes_become(visit, everything - {"#0072B2"})
    assert "6 of 7 methods" in form.locator("output").inner_text()
    form.get_by_role("button", name="all or none").click()  # not all are ticked: all
    strokes_become(visit, everything)
    form.get_by_role("button", name="all or none").press("Enter")
    strokes_become(visit, set())
    texts = visit.page.locator("[data-figure=curves]").first.locator("text").all_text_contents()
    assert {"A", "B", "C"} <= set(texts)  # the panels stay, though there is nothing in them
    form.get_by_label("gem").press("Space")
    strokes_become(visit, {"#009E73"})
    visit.page.close()
    assert visit.complaints == []


def drawn(visit: Visit) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = visit.sees("report.rows.get('curves-1').rows.filter(r => r.y !== null)")
    return rows


def numbers(row: dict[str, Any]) -> list[float]:
    return [row[k] for k in ("y", "low", "high")]


def test_seeds_are_ticked_and_the_mean_and_its_interval_follow(browser: Any, tmp_path: Path) -> None:
    results = [examples.example(k, s) for k in ("naive", "ewc") for s in range(4)]
    write_report(results, tmp_path / "r.html")
    visit = Visit(browser, tmp_path / "r.html")
    form = visit.page.locator("form.choose")
    (g,) = group(results)
    for row, want in zip(drawn(visit), curve_points(g), strict=True):  # the page's arithmetic is Python's
        assert (row["method"], row["panel"], row["x"]) == (want["method"], want["panel"], want["x"])
        assert [row[k] for k in ("y", "low", "high")] == pytest.approx(
            [want[k] for k in ("y", "low", "high")], abs=2e-4
        )
    (fewer,) = group([r for r in results if r.seed != 3])
    form.get_by_label("3", exact=True).uncheck()
    wanted = curve_points(fewer)
    for row, want in zip(drawn(visit), wanted, strict=True):
        assert [row[k] for k in ("y", "low", "high")] == pytest.approx(
            [want[k] for k in ("y", "low", "high")], abs=2e-4
        )
    form.get_by_label("Shaded").select_option("range")
    assert all(row["low"] <= row["y"] <= row["high"] for row in drawn(visit))
    assert drawn(visit) != wanted
    form.get_by_label("Shaded").select_option("none")
    assert all(row["low"] == row["y"] == row["high"] for row in drawn(visit))
    visit.page.close()
    assert visit.complaints == []


FILLS = """
[...document.querySelectorAll('[data-spec=confusion-1-2] .mark-rect path')].map(p => p.getAttribute('fill')).join()
""".strip()


def test_the_slider_goes_through_the_moments_of_all_confusions(browser: Any, tmp_path: Path) -> None:
    results = [examples.confused(examples.example(k)) for k in ("naive", "ewc")]
    write_report(results, tmp_path / "r.html")
    visit = Visit(browser, tmp_path / "r.html")
    visit.complete()
    form, last = visit.page.locator("form[data-moments]"), visit.sees(FILLS)
    assert form.locator("output").inner_text() == "after C"
    for _ in range(3):
        form.get_by_label("Moment").press("ArrowLeft")
    assert form.locator("output").inner_text() == "untrained"
    visit.page.wait_for_function(f"{FILLS} !== '{last}'")
    table = results[1].extras["confusions"][0]
    shares = [[100 * v / sum(row) for v in row] for row in table]
    rows = visit.sees("report.rows.get('confusion-1-2').rows.map(r => r.share)")
    assert rows == pytest.approx([v for row in shares for v in row], abs=0.06)
    visit.page.close()
    assert visit.complaints == []


def test_figures_are_saved_as_svg_png_and_csv(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    visit.complete()
    for kind, start in (("svg", b"<svg"), ("png", b"\x89PNG"), ("csv", b"method,kind,seed,x,y")):
        place = visit.page.locator(".drawn", has=visit.page.locator("[data-spec=plane-1]"))
        if place.locator("details[open]").count() == 0:
            place.locator("summary").click()
        with visit.page.expect_download() as download:
            place.get_by_role("button", name=kind.upper()).click()
        assert download.value.suggested_filename == f"plane-permuted.{kind}"
        assert Path(download.value.path()).read_bytes().startswith(start)
    visit.page.close()
    assert visit.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_axe_finds_nothing_serious(browser: Any, report: Path, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    visit = Visit(browser, report, width, scheme)
    visit.complete()
    found = axe.Axe().run(visit.page).response["violations"]
    grave = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
    assert grave == []
    visit.page.close()


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
        visit.complete()
        assert visit.sees(
            "[...document.querySelectorAll('[data-figure]')].every(n => n.querySelector('svg'))"
        )
        visit.page.close()
        assert visit.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_it_is_black_on_white_and_whole(browser: Any, report: Path, scheme: str) -> None:
    visit = Visit(browser, report, scheme=scheme)
    visit.complete()
    assert 4 <= visit.printed() <= 30
    assert visit.page.locator("form.choose").first.is_hidden()
    assert visit.page.locator("details.save").first.is_hidden()
    drawn = visit.sees(
        "[...document.querySelectorAll('[data-figure] svg')].map(s => s.getBoundingClientRect().width)"
    )
    assert len(drawn) == 38 and min(drawn) > 80
    assert (
        visit.sees("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    )  # the table is whole
    ink = visit.sees("getComputedStyle(document.querySelector('.plot .role-axis-label text')).fill")
    assert sum(int(v) for v in ink[4:-1].split(",")) < 380
    visit.page.close()
    assert visit.complaints == []
