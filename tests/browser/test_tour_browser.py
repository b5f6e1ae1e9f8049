"""The tour as a browser shows it: every control used. Needs a Chromium on the PATH; skipped where there is none."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.browser.visit import Visit
from tests.unit.lecture_examples import SMALL, lecture

from retain.lecture import Toy
from retain.tour import LANGUAGES, write_tour

SIZES = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("tour")
    write_tour(lecture(), out)
    return out


def left(visit: Visit) -> None:
    """Nothing happened that ought not to."""
    visit.page.close()
    assert visit.complaints == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_nothing_sticks_out_and_all_is_drawn(
    browser: Any, folder: Path, language: str, width: int, scheme: str
) -> None:
    visit = Visit(browser, folder / f"tour.{language}.html", width, scheme)
    assert visit.sees("document.documentElement.scrollWidth") <= width
    assert visit.sees("document.body.scrollWidth") <= width
    shown = visit.sees(
        "[...document.querySelectorAll('svg[role=img]')].filter(s => s.checkVisibility())"
        ".map(s => [s.getBoundingClientRect().width, s.children.length, s.getAttribute('aria-label')])"
    )
    assert len(shown) == 1 + 2 + 2 + 4 + 3 + 1 + 2 + 2  # the toy, then each picture's panels
    assert all(w > 100 and parts >= 2 and said for w, parts, said in shown)
    paper, ink = visit.sees("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    light = [sum(int(v) for v in c[4:-1].split(",")) > 380 for c in (paper, ink)]
    assert light == ([True, False] if scheme == "light" else [False, True])
    left(visit)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_axe_finds_nothing_serious(
    browser: Any, folder: Path, language: str, width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    visit = Visit(browser, folder / f"tour.{language}.html", width, scheme)
    visit.page.locator("button[data-measure=BWT]").last.click()  # lit cells must be legible, too
    found = axe.Axe().run(visit.page).response["violations"]
    bad = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
    assert bad == []
    left(visit)


# The key of the drawing that a figure shows, how many it shows, and what is said of its controls.
STATE = """
name => { const f = document.querySelector(`[data-picture="${name}"]`);
  const shown = [...f.querySelectorAll('[data-variant]')].filter(v => v.checkVisibility());
  return { keys: shown.map(v => v.dataset.variant), words: shown[0].querySelector('.facts').innerText,
    said: [...f.querySelectorAll('output')].map(o => o.innerText),
    spoken: [...f.querySelectorAll('input[type=range]')].map(i => i.getAttribute('aria-valuetext')) } }
"""


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_slider_goes_through_every_drawing_by_keyboard(
    browser: Any, folder: Path, language: str
) -> None:
    visit = Visit(browser, folder / f"tour.{language}.html")
    seen = 0
    for name in visit.sees("[...document.querySelectorAll('[data-picture]')].map(f => f.dataset.picture)"):
        figure = visit.page.locator(f"[data-picture='{name}']")
        for slider in figure.locator("input[type=range]").all():
            which = int(slider.evaluate("s => [...s.closest('figure').querySelectorAll('input')].indexOf(s)"))
            values = json.loads(slider.get_attribute("data-values") or "")
            slider.focus()
            slider.press("Home")
            words = []
            for position, value in enumerate(values):
                state = visit.page.evaluate(STATE, name)
                assert len(state["keys"]) == 1 and state["keys"][0].split("-")[which] == str(position)
                assert state["said"][which] == state["spoken"][which] == value
                words.append(state["words"])
                slider.press("ArrowRight")
                seen += 1
            assert len(set(words)) == len(values) or name.startswith("gem")  # a turn may need no margin
    assert seen == 2 + 2 + 2 + 6 + 2 + 6 + 2
    for radio in visit.page.locator("[data-picture=orders] input").all():
        radio.check()
        assert visit.page.evaluate(STATE, "orders")["keys"] == [radio.get_attribute("value")]
    left(visit)


def test_pointing_at_a_measure_lights_its_cells_and_a_press_keeps_them(browser: Any, folder: Path) -> None:
    visit = Visit(browser, folder / "tour.en.html")
    lit = (
        "name => [...document.querySelectorAll(`[data-matrix=${name}] tbody tr`)].flatMap((r, i) =>"
        " [...r.querySelectorAll('td')].flatMap((c, j) => c.classList.contains('plus') ? [[i, j, 1]] :"
        " c.classList.contains('minus') ? [[i, j, -1]] : []))"
    )
    for name, c in lecture().matrices.items():
        figure = visit.page.locator(f"[data-matrix={name}]")
        for m in c.measures:
            expected = sorted([i, j, 1 if w > 0 else -1] for (i, j), w in m.weights.items())
            button = figure.locator(f"button[data-measure={m.name}]")
            button.hover()
            assert visit.page.evaluate(lit, name) == expected
            visit.page.mouse.move(0, 0)
            assert visit.page.evaluate(lit, name) == []
            button.focus()
            assert visit.page.evaluate(lit, name) == expected
            assert figure.locator(f"[data-says={m.name}]").is_visible()
            button.press("Enter")
            button.blur()
            assert visit.page.evaluate(lit, name) == expected
            assert button.get_attribute("aria-pressed") == "true"
            button.press("Space")
            button.blur()
            assert visit.page.evaluate(lit, name) == [] and figure.locator(".facts:visible").count() == 0
    left(visit)


@pytest.mark.parametrize("lam", [0.0, 0.7, 30.0, 1e4])
@pytest.mark.parametrize("guard", [None, (1.0, 1.0)])
def test_the_toy_in_the_page_computes_what_its_twin_does(
    browser: Any, folder: Path, lam: float, guard: tuple[float, float] | None
) -> None:
    visit, twin = Visit(browser, folder / "tour.en.html"), Toy()
    t = visit.sees("JSON.parse(document.getElementById('toy-data').textContent)")
    path = visit.page.evaluate("([t, lam, guard]) => toy.path(t, lam, guard ?? undefined)", [t, lam, guard])
    np.testing.assert_allclose(path, twin.path(lam, guard), atol=1e-12)
    for task in (0, 1):
        found = visit.page.evaluate("([t, task, at]) => toy.loss(t, task, at)", [t, task, path[-1]])
        assert found == pytest.approx(twin.loss(task, path[-1]), abs=1e-12)
    left(visit)


def test_the_toy_follows_its_controls(browser: Any, folder: Path) -> None:
    visit, toy = Visit(browser, folder / "tour.en.html"), Toy()
    end = "JSON.parse(document.getElementById('toy').dataset.guarded)"
    assert visit.sees(end) == pytest.approx(toy.path(10**0.5)[-1])
    visit.page.locator("#toy input[value=l2]").check()
    assert visit.sees(end) == pytest.approx(toy.path(10**0.5, (1.0, 1.0))[-1])
    visit.page.locator("#toy input[value=ewc]").check()
    visit.page.locator("#toy-lam").press("Home")
    assert visit.sees(end) == pytest.approx(toy.path(0.0)[-1])
    assert visit.page.locator("output[for=toy-lam]").inner_text() == "0"
    visit.page.locator("#toy-lam").press("End")
    assert visit.sees(end) == pytest.approx(toy.path(100.0)[-1])
    visit.page.locator("#toy-b1").press("End")
    sharp = Toy(curvature=((2.0, toy.curvature[0][1]), toy.curvature[1]))
    assert visit.sees(end) == pytest.approx(sharp.path(100.0)[-1])
    visit.page.locator("#toy-step").press("ArrowLeft")
    assert visit.sees(end) == pytest.approx(sharp.path(100.0)[-2])
    visit.page.locator("#toy-step").press("Home")
    assert visit.sees(end) == pytest.approx(toy.start)
    assert "(−2.6, −0.6)" in visit.page.locator("#toy-said").inner_text()
    left(visit)


def test_the_languages_lead_to_each_other_and_headings_are_in_order(browser: Any, folder: Path) -> None:
    for language, other in (("en", "zh"), ("zh", "en")):
        visit = Visit(browser, folder / f"tour.{language}.html")
        assert visit.page.locator("header a[hreflang]").get_attribute("href") == f"tour.{other}.html"
        levels = visit.sees("[...document.querySelectorAll('h1,h2,h3')].map(h => Number(h.tagName[1]))")
        assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(levels))
        assert visit.sees(
            "[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.getAttribute('href')))"
        )
        left(visit)
    alone = folder / "alone"
    write_tour(lecture(), alone, ("zh",))
    visit = Visit(browser, alone / "tour.zh.html")
    assert visit.page.locator("a[hreflang]").count() == 0
    left(visit)


def test_it_prints_and_without_javascript_the_first_drawings_stand(browser: Any, folder: Path) -> None:
    visit = Visit(browser, folder / "tour.en.html", scheme="dark")
    assert 4 <= visit.printed() <= 14
    left(visit)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "tour.en.html").as_uri())
    shown = page.locator("[data-variant]:visible")
    keys = [shown.nth(i).get_attribute("data-variant") for i in range(shown.count())]
    i, j = SMALL.lams.index(SMALL.lam), SMALL.l2_lams.index(SMALL.l2_lam)
    assert keys == ["0", str(i), "", f"{i}-{j}", "0-0", "0-0", ""]
    context.close()
