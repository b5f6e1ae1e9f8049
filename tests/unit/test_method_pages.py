"""The docs have a page for each method, and each says what the code says today."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from retain.methods import discover

DOCS = Path(__file__).parents[2] / "docs"


def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_methods", DOCS / "build_methods.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MADE: dict[str, str] = builder().pages()


@pytest.mark.parametrize("name", MADE)
def test_the_committed_page_is_what_the_generator_gives(name: str) -> None:
    page = DOCS / "methods" / name
    assert page.is_file(), f"{page} is not there: python docs/build_methods.py"
    assert page.read_text(encoding="utf-8") == MADE[name], "stale: python docs/build_methods.py"


def test_no_page_is_of_a_method_that_is_gone() -> None:
    assert {p.name for p in (DOCS / "methods").iterdir()} == set(MADE)


@pytest.mark.parametrize("name", discover())
def test_a_page_has_everything(name: str) -> None:
    kind: Any = discover()[name]
    text = MADE[f"{name}.md"]
    assert kind.paper in text and kind.traits.cost in text
    assert all(f"`--{f.name.replace('_', '-')}`" in text for f in fields(kind))
    assert (kind.__doc__ or "").strip().split("\n")[0] in text
    assert f"({name}.md)" in MADE["README.md"]
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert tables
    for rows in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1, rows[0]
