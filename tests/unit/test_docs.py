"""Every Python block in README and docs runs, in order, a page in one namespace; every link has a target."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = [
    p for p in PAGES if p.name != "architecture.md"
]  # its one block is the shape of an interface, not code


@pytest.mark.parametrize("page", RUN, ids=lambda p: p.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
        exec(compile(block, f"{page.name}", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_have_targets(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_documented_schema_is_the_one_that_is_written() -> None:
    from retain.result import Curve, Result, Seconds

    result = Result(
        stream={"name": "s"}, method={"name": "m"}, seed=0, tasks=["A"], accuracy=[[0.1], [0.9]], curve=Curve(),
        seconds=Seconds(), state_bytes=0, examples_stored=0, config={}, versions={}, extras={"confusions": []},
    )  # fmt: skip
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/result-schema.md").read_text(encoding="utf-8"), re.M)
    assert sorted(rows) == sorted(result.to_json())


def test_what_batchnorm_does_is_said_of_every_method_once() -> None:
    from retain.methods import discover

    page = (ROOT / "docs/your-own-model.md").read_text(encoding="utf-8")
    table = page.partition("| methods | what BatchNorm")[2].partition("\n\n")[0]
    named = [name for first in re.findall(r"^\| (\w[\w, -]*) \|", table, re.M) for name in first.split(", ")]
    assert sorted(named) == sorted(discover())
