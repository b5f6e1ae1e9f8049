"""What a script writes of the docs is there, all of it, and is what the script gives today."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.unit.test_architecture import FLOOR, SRC, modules

from retain.methods import discover

DOCS = Path(__file__).parents[2] / "docs"


def made_by(script: str) -> ModuleType:
    """One of docs/build_*.py as a module; they import each other, as scripts in one folder do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        spec = importlib.util.spec_from_file_location(script, DOCS / f"{script}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, script, module)
        spec.loader.exec_module(module)
    return module


ROOMS = made_by("build_rooms")
WRITER = made_by("build_methods")
METHODS: dict[str, str] = WRITER.pages()
MADE: dict[tuple[str, str], str] = {
    **{("methods", name): text for name, text in METHODS.items()},
    **{("streams", name): text for name, text in made_by("build_streams").pages().items()},
    ("img", "rooms.svg"): ROOMS.picture(),
}


@pytest.mark.parametrize(("folder", "name"), MADE)
def test_what_is_committed_is_what_the_generator_gives(folder: str, name: str) -> None:
    page = DOCS / folder / name
    said = f"python docs/build_{'rooms' if folder == 'img' else folder}.py"
    assert page.is_file(), f"{page} is not there: {said}"
    assert page.read_text(encoding="utf-8") == MADE[folder, name], f"stale: {said}"


@pytest.mark.parametrize("folder", ["methods", "streams"])
def test_no_page_is_of_what_is_gone(folder: str) -> None:
    assert {p.name for p in (DOCS / folder).iterdir()} == {name for where, name in MADE if where == folder}


def test_the_picture_has_every_room_on_its_floor() -> None:
    drawn = {room.name: room.floor for room in ROOMS.rooms()}
    assert drawn.pop("recipes") == FLOOR["reproduce"]  # a folder of settings, without a module
    there = {name.split(".")[0] for name in modules(SRC)}
    assert drawn == {room: FLOOR[room] for room in there}


def test_a_docstring_becomes_an_equation_and_prose_that_reads_as_it_is_written() -> None:
    text = "L + lam *\n    R\n\n(Somebody 2017.) With `a_b` it\nis *one* of [x].\n\n- by\n- hand"
    assert WRITER.described(text) == [
        "```text", "L + lam *", "    R", "```", "",
        r"(Somebody 2017.) With `a_b` it is \*one\* of \[x\].", "",
        "```text", "- by", "- hand", "```", "",
    ]  # fmt: skip


@pytest.mark.parametrize("name", discover())
def test_a_page_has_everything(name: str) -> None:
    kind: Any = discover()[name]
    text = METHODS[f"{name}.md"]
    assert kind.paper in text and kind.traits.cost in text
    assert all(f"`--{f.name.replace('_', '-')}`" in text for f in fields(kind))
    assert (kind.__doc__ or "").strip().split("\n")[0] in text
    assert f"({name}.md)" in METHODS["README.md"]
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert tables
    for rows in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1, rows[0]
