"""The short subset of the published recipes lands in its bands: what `retain reproduce --short` runs.

A test is a group of rows, whose runs are shared.
"""

from __future__ import annotations

from itertools import groupby

import pytest

from retain import reproduce
from retain.reproduce import Row, recipes

SHORT = reproduce.short(recipes())
GROUPS = {key: list(rows) for key, rows in groupby(SHORT, key=lambda row: row.id.partition("/")[0])}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("group", GROUPS)
def test_what_was_published_comes_out(group: str) -> None:
    rows: list[Row] = GROUPS[group]
    results = {(run.key, seed): run.experiment(seed).run() for run, seed in reproduce.jobs(rows)}
    outcomes = [reproduce.outcome(row, results) for row in rows]
    outside = {o.row.id: (o.values, o.row.said.band) for o in outcomes if o.inside is False}
    assert not outside


def test_the_short_subset_is_of_sections_1_to_4() -> None:
    assert {row.section for row in SHORT} >= {1, 2, 3, 4}
