"""The site builds without a warning, has every page and every public name, and asks for nothing outside it."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest
from tests.docs.blocks import PAGES, ROOT
from tests.docs.site import STRICT, build, built

import retain


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


def test_the_makefile_builds_as_the_tests_do() -> None:
    assert f"-m sphinx {' '.join(STRICT)} -c docs" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_page_is_in_it(site: Path, page: Path) -> None:
    assert (site / page.relative_to(ROOT)).with_suffix(".html").is_file()


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    known = {line.split(" ")[0].rpartition(".")[2] for line in zlib.decompress(packed).decode().splitlines()}
    renamed = {"open": "open_vault"}
    assert {renamed.get(name, name) for name in retain.__all__} - known == set()


def test_it_asks_for_nothing_outside_it(site: Path) -> None:
    """Links may lead out; what a page loads may not."""
    loads = re.compile(r'<(?:script|img|source|iframe|link)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*')
    assert [m for page in site.rglob("*.html") for m in loads.findall(page.read_text(encoding="utf-8"))] == []


def test_a_broken_link_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="sphinx is not installed")
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "conf.py").write_text(
        'extensions, root_doc = ["myst_parser"], "docs/index"\nmyst_heading_anchors = 3\n'
    )
    links = ["[page](gone.md)", "[file](../src/gone.py)", "[place](other.md#gone)", "![image](img/gone.png)"]
    (docs / "index.md").write_text("\n\n".join(["# Title", *links, "```{toctree}\nother\n```\n"]))
    (docs / "other.md").write_text("# Other\n")
    ended = build(tmp_path, tmp_path / "out/site")
    assert ended.returncode != 0
    assert [f"index.md:{line}" in ended.stderr for line in (3, 5, 7, 9)] == [True] * 4, ended.stderr
