"""The documentation's site as a browser shows it. Needs a Chromium on the PATH; skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.browser import visit
from tests.docs.site import built

KINDS = [
    "docs/index", "README", "docs/tutorial-student", "docs/methods/README", "docs/methods/ewc", "docs/streams/split",
    "docs/reference/results", "docs/architecture", "search",
]  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


class Visit(visit.Visit):
    """The same, on a site: it may ask for its own files."""

    def may_ask_for(self, url: str) -> bool:
        return url.startswith(("file:", "data:"))


def test_every_page_fits_and_complains_of_nothing(browser: Any, site: Path) -> None:
    pages = sorted(set(site.rglob("*.html")) - {site / "index.html"})  # which leads on
    assert len(pages) > 60
    one = Visit(browser, pages[0])
    for page in pages:
        one.page.goto(page.as_uri())
        for width in (1440, 390):
            one.page.set_viewport_size({"width": width, "height": 900})
            assert one.sees("document.documentElement.scrollWidth") <= width, page
        assert one.sees("[...document.images].every(i => i.complete && i.naturalWidth > 0)"), page
        assert one.sees("document.title"), page
        assert one.sees("document.documentElement.lang") == (
            "zh-CN" if page.stem.endswith(".zh") else "en"
        ), page
    one.page.close()
    assert one.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
@pytest.mark.parametrize("name", KINDS)
def test_everybody_can_use_it(browser: Any, site: Path, name: str, width: int, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing"
    )
    one = Visit(browser, site / f"{name}.html", width, scheme)
    found = (
        axe.Axe()
        .run(one.page, options={"resultTypes": ["violations"], "preload": False})
        .response["violations"]
    )
    bad = [
        (v["id"], v["impact"], [node["html"][:200] for node in v["nodes"]][:3])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    one.page.close()
    assert bad == []
    assert one.complaints == []


def test_the_search_finds_and_the_front_page_leads_on(browser: Any, site: Path) -> None:
    one = Visit(browser, site / "index.html")
    one.page.wait_for_url("**/docs/index.html")
    one.page.goto(f"{(site / 'search.html').as_uri()}?q=fisher")
    one.page.wait_for_selector("#search-results li a")
    assert "ewc" in " ".join(
        one.sees("[...document.querySelectorAll('#search-results li a')].map(a => a.getAttribute('href'))")
    )
    one.page.close()
    assert one.complaints == []


IN_SIGHT = (
    "(s => { const b = document.querySelector(s).getBoundingClientRect();"
    " return b.left < innerWidth && b.right > 0 })"
)
PAPER = "getComputedStyle(document.body).backgroundColor"


def test_every_control_of_a_page_does_what_it_is_for(browser: Any, site: Path) -> None:
    one = Visit(browser, site / "docs/methods/ewc.html", 1440)
    found = {PAPER: {one.sees(PAPER)}, "theme": {one.sees("document.body.dataset.theme")}}
    for _ in range(3):  # automatic, light, dark
        one.page.get_by_role("button", name="Toggle Light / Dark / Auto color theme").locator(
            "visible=true"
        ).click()
        found[PAPER].add(one.sees(PAPER))
        found["theme"].add(one.sees("document.body.dataset.theme"))
    assert found["theme"] == {"auto", "light", "dark"} and len(found[PAPER]) == 2
    folds = one.page.locator("label[for^=toctree-checkbox]")
    assert folds.count() >= 2
    for k in range(folds.count()):  # a part of the contents is folded or unfolded
        pages = one.page.locator(f"#toctree-checkbox-{k + 1} ~ ul li").first
        before = pages.is_visible()
        folds.nth(k).click()
        assert pages.is_visible() != before
    one.page.get_by_role("textbox", name="Search").fill("gradient episodic memory")
    one.page.keyboard.press("Enter")
    one.page.wait_for_selector("#search-results li a")
    assert "gem.html" in one.page.locator("#search-results").inner_html()
    one.page.close()
    assert [c for c in one.complaints if not c.startswith("log: Changed to ")] == []  # the theme's own words


@pytest.mark.parametrize(
    ("opens", "drawer"),
    [("__navigation", ".sidebar-drawer"), ("__toc", ".toc-drawer")],
    ids=["pages", "headings"],
)
def test_on_a_phone_the_contents_come_in_from_the_side_and_go(
    browser: Any, site: Path, opens: str, drawer: str
) -> None:
    one = Visit(browser, site / "docs/vault.html", 390)
    moved = f"{IN_SIGHT}('{drawer}') === %s"
    assert one.sees(moved % "false")
    one.page.locator(f"label[for={opens}]:not(.overlay)").locator("visible=true").first.click()
    one.page.wait_for_function(moved % "true")
    one.page.mouse.click(*((380, 450) if opens == "__navigation" else (10, 450)))  # beside it
    one.page.wait_for_function(moved % "false")
    one.page.close()
    assert one.complaints == []


@pytest.mark.parametrize("name", ["docs/methods/ewc", "docs/speed"])
def test_a_page_of_the_site_is_printed_black_on_white(browser: Any, site: Path, name: str) -> None:
    one = Visit(browser, site / f"{name}.html")
    one.page.get_by_role("button", name="Toggle Light / Dark / Auto color theme").locator(
        "visible=true"
    ).click()
    assert one.printed() >= 1
    assert one.page.locator("article h1").is_visible()
    one.page.close()
