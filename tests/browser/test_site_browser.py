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
