"""Every link of README and docs has a target, and pages that list something list all of it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from tests.docs.blocks import PAGES, ROOT


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
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


def test_every_measure_is_defined() -> None:
    from retain import metrics

    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \|", page, re.M)
    assert named == [name for name, f in vars(metrics).items() if inspect.isfunction(f) and name[0] != "_"]
