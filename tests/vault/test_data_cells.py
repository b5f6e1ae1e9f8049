"""Cells of a table and the names of classes: laws."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.vault.data import Labels, read
from retain.vault.data.cells import Growing, number_in, plain
from retain.vault.data.targets import class_name
from retain.vault.errors import BadData, Damaged

# --- labels ------------------------------------------------------------------------------------------


def test_new_classes_come_after_the_known_ones_in_their_order() -> None:
    first = Labels((), True).extended(["10", "9", "9"], True)
    assert first == Labels(("9", "10"), True)
    then = first.extended(["2", "10", "11", "1"], True)
    assert then.names == ("9", "10", "1", "2", "11") and then.integers
    assert then.extended(["9"], True) == then  # one that comes back
    words = then.extended(["b", "a", "2"], False)
    assert words.names[5:] == ("a", "b") and not words.integers
    assert not words.extended(["3"], True).integers
    assert words.encode(["a", "9", "9"]).tolist() == [5, 0, 0]
    with pytest.raises(BadData, match="no class is called 'zebra'; known are '9', '10'"):
        words.encode(["zebra"])
    assert Labels.from_json(json.loads(json.dumps(words.to_json()))) == words


@pytest.mark.parametrize(
    "d",
    [
        None,
        [],
        {"schema": 1, "names": ["a", "a"], "integers": False},
        {"schema": 1, "names": ["a"], "integers": True},
        {"schema": 1, "names": ["3.0"], "integers": True},
        {"schema": 1, "names": [3], "integers": True},
        {"schema": 1, "names": [""], "integers": False},
        {"schema": 1, "names": ["a"], "integers": 0},
        {"schema": 2, "names": ["a"], "integers": False},
    ],
)
def test_labels_that_are_anything_else_are_damaged(d: object) -> None:
    with pytest.raises(Damaged):
        Labels.from_json(d)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("3", "3"),
        ("3.0", "3"),
        ("+3", "3"),
        ("-3.", "-3"),
        ("-0", "0"),
        ("03", "03"),
        ("3e0", "3e0"),
        ("e\u0301", "é"),
    ],
)
def test_a_class_has_one_name_however_it_is_written(text: str, name: str) -> None:
    assert class_name(text) == name and class_name(name) == name


# --- laws of cells -----------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.one_of(st.text(max_size=8), st.floats(allow_infinity=False).map(repr), st.integers().map(str))
    )
)
def test_a_column_keeps_every_cell_as_it_was_written(cells: list[str]) -> None:
    grown = Growing()
    for cell in cells:
        grown.add(cell)
    column = grown.column()
    stripped = [c.strip() for c in cells]
    missing = [c.casefold() in {"", "na", "nan", "null", "?"} for c in stripped]
    assert column.names() == [None if m else c for m, c in zip(missing, stripped, strict=True)]
    numeric = all(m or number_in(c) is not None for m, c in zip(missing, stripped, strict=True))
    assert (column.numbers is not None) == numeric
    if column.numbers is not None:
        assert [v for v in column.numbers.tolist() if v == v] == [
            float(c) for m, c in zip(missing, stripped, strict=True) if not m
        ]


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False))
def test_a_number_is_written_so_that_it_is_read_back(number: float) -> None:
    assert number_in(plain(number)) == number


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=1, max_size=5))
def test_what_the_csv_module_writes_is_what_is_read(rows: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        rows = [(a, b) for a, b in rows if "\0" not in a + b]
        with path.open("w", newline="", encoding="utf-8") as f:
            csv.writer(f).writerows([("a", "b", "label"), *((a, b, "x") for a, b in rows), ("1", "1", "x")])
        raw = read(path)
    assert isinstance(raw.x, dict) and len(raw) == len(rows) + 1
    for name, cells in zip("ab", zip(*rows, ("1", "1"), strict=True), strict=True):
        kept = [None if c.strip().casefold() in {"", "na", "nan", "null", "?"} else c.strip() for c in cells]
        assert raw.x[name].names() == kept
