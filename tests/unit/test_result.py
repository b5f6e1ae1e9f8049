"""The record of a run: there and back through JSON, and hostile files refused by name."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain import metrics
from retain.result import Curve, Result, Seconds

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.text(), JSON, max_size=3)


def example() -> Result:
    return Result(
        stream={"name": "permuted", "tasks": 2},
        method={"name": "ewc", "lam": 10.0},
        seed=3,
        tasks=["A", "B"],
        accuracy=[[0.1, 0.1], [0.9, 0.2], [0.7, 0.8]],
        curve=Curve(step=[0, 10, 20], task=[[0.1, 0.9, 0.7], [0.1, 0.2, 0.8]]),
        seconds=Seconds(1.5, 0.25, 0.5, 3.0),
        state_bytes=1234,
        examples_stored=0,
        config={"epochs": 1, "hidden": [256, 256], "clip": None},
        versions={"retain": "0.1.0", "torch": "2.13.0"},
        boundaries=[10, 20],
        diagnostics={"angles": [[0.5]]},
    )


@st.composite
def results(draw: st.DrawFn) -> Result:
    T = draw(st.integers(1, 4))
    share = st.floats(0, 1)
    row = st.lists(share, min_size=T, max_size=T)
    steps = sorted(draw(st.lists(st.integers(0, 10**6), max_size=4)))
    line = st.lists(share, min_size=len(steps), max_size=len(steps))
    seconds = st.floats(0, 1e6)
    return Result(
        stream=draw(OBJECT),
        method={**draw(OBJECT), "name": draw(st.text())},
        seed=draw(st.integers(-(2**63), 2**63)),
        tasks=draw(st.lists(st.text(), min_size=T, max_size=T)),
        accuracy=draw(st.lists(row, min_size=T + 1, max_size=T + 1)),
        curve=Curve(steps, draw(st.lists(line, min_size=T, max_size=T))),
        seconds=Seconds(*(draw(seconds) for _ in range(4))),
        state_bytes=draw(st.integers(0, 2**63)),
        examples_stored=draw(st.integers(0, 2**63)),
        config=draw(OBJECT),
        versions=draw(st.dictionaries(st.text(), st.text(), max_size=3)),
        boundaries=sorted(draw(st.lists(st.integers(0, 10**6), min_size=T, max_size=T))),
        diagnostics=draw(OBJECT),
    )


@given(results())
def test_there_and_back(r: Result) -> None:
    assert Result.from_json(json.loads(json.dumps(r.to_json(), allow_nan=False))) == r


def test_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.json"
    example().save(path)
    assert Result.load(path) == example()
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]


def test_the_published_schema() -> None:
    """docs/result-schema.md promises these names; adding one is fine, losing one is not."""
    data = example().to_json()
    promised = (
        "schema stream method seed tasks accuracy acc bwt fwt forgetting learning_accuracy curve seconds "
        "state_bytes examples_stored config versions"
    )
    assert set(promised.split()) <= set(data)
    assert data["schema"] == 1
    assert set(data["curve"]) == {"step", "task"}
    assert set(data["seconds"]) == {"train", "consolidate", "evaluate", "total"}


def test_measures_are_those_of_the_matrix_and_not_of_the_file() -> None:
    r, data = example(), example().to_json()
    assert (data["acc"], data["bwt"], data["fwt"]) == (r.acc, r.bwt, r.fwt)
    assert r.acc == metrics.acc(r.accuracy)
    assert r.forgetting == metrics.forgetting_max(r.accuracy)
    assert r.learning_accuracy == metrics.learning_accuracy(r.accuracy)
    assert r.average_incremental_accuracy == metrics.average_incremental_accuracy(r.accuracy)
    assert Result.from_json({**data, "acc": 1.0}).acc == r.acc


def test_optional_fields_may_be_absent_and_unknown_ones_are_skipped() -> None:
    data = {k: v for k, v in example().to_json().items() if k not in ("boundaries", "diagnostics")}
    r = Result.from_json({**data, "from_the_future": [1, 2]})
    assert r == replace(example(), boundaries=[], diagnostics={})


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        example().seed = 4  # type: ignore[misc]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


DERIVED = ("acc", "bwt", "fwt", "forgetting", "learning_accuracy", "average_incremental_accuracy")

HOSTILE: list[tuple[str, Any]] = [
    ("schema", 2),
    ("schema", None),
    ("schema", True),
    ("schema", 1.0),
    ("schema", nested(500)),
    ("stream", []),
    ("stream", None),
    ("method", "ewc"),
    ("method", {}),
    ("method", {"name": 3}),
    ("config", [1]),
    ("config", {"a": nested(100)}),
    ("config", {"a": nested(900)}),
    ("versions", {"torch": 2}),
    ("versions", "2.13"),
    ("diagnostics", [1]),
    ("diagnostics", None),
    ("seed", "0"),
    ("seed", 1.5),
    ("seed", True),
    ("seed", None),
    ("seed", 10**400),
    ("seed", [1]),
    ("tasks", "AB"),
    ("tasks", 2),
    ("tasks", None),
    ("tasks", ["A", 2]),
    ("tasks", ["A"]),
    ("tasks", ["A", "B", "C"]),
    ("tasks", {"A": 1, "B": 2}),
    ("accuracy", None),
    ("accuracy", 0.9),
    ("accuracy", "high"),
    ("accuracy", []),
    ("accuracy", [[]]),
    ("accuracy", {"0": [0.1]}),
    ("accuracy", [[0.1, 0.1], [0.9, 0.2]]),
    ("accuracy", [[0.1, 0.1], [0.9], [0.7, 0.8]]),
    ("accuracy", [[0.1, 0.1], [0.9, "0.2"], [0.7, 0.8]]),
    ("accuracy", [[0.1, 0.1], [0.9, 0.2], [0.7, None]]),
    ("accuracy", [[0.1, 0.1], [0.9, [0.2]], [0.7, 0.8]]),
    ("accuracy", [[0.1, 0.1], [0.9, True], [0.7, 0.8]]),
    ("accuracy", [[0.1, 0.1], [0.9, 10**400], [0.7, 0.8]]),
    ("accuracy", [[10.0, 10.0], [90.0, 20.0], [70.0, 80.0]]),
    ("accuracy", nested(200)),
    ("curve", None),
    ("curve", []),
    ("curve", "flat"),
    ("curve", {"step": [0], "task": [[0.1], [0.1]], "more": 1}),
    ("curve", {"step": 5, "task": [[0.1], [0.1]]}),
    ("curve", {"step": [0.5], "task": [[0.1], [0.1]]}),
    ("curve", {"step": [0], "task": [[0.1]]}),
    ("curve", {"step": [0], "task": [[0.1, 0.2], [0.1, 0.2]]}),
    ("curve", {"step": [0], "task": [0.1, 0.1]}),
    ("curve", {"step": [0], "task": [["a"], [0.1]]}),
    ("curve", {"step": [0], "task": [[2.0], [0.1]]}),
    ("curve", {"step": [1, 0], "task": [[0.1, 0.2], [0.1, 0.2]]}),
    ("curve", {"step": [], "task": [[0.1], [0.1]]}),
    ("seconds", None),
    ("seconds", 3.0),
    ("seconds", {"train": "1"}),
    ("seconds", {"train": -1.0}),
    ("seconds", {"train": 10**400}),
    ("seconds", {"sleep": 1.0}),
    ("state_bytes", -1),
    ("state_bytes", 1.5),
    ("state_bytes", None),
    ("examples_stored", "many"),
    ("boundaries", None),
    ("boundaries", 10),
    ("boundaries", [10.5, 20]),
    ("boundaries", ["10", "20"]),
    ("boundaries", [10]),
    ("boundaries", [20, 10]),
]


@pytest.mark.parametrize(("key", "value"), HOSTILE)
def test_a_hostile_field_is_refused_by_file_name(tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**example().to_json(), key: value}))
    with pytest.raises(ValueError, match=r"result\.json: ") as e:
        Result.load(path)
    assert len(str(e.value)) < 400 + len(str(path))


@pytest.mark.parametrize("key", sorted(set(example().to_json()) - {"boundaries", "diagnostics"}))
def test_a_missing_field_is_named(tmp_path: Path, key: str) -> None:
    path = tmp_path / "result.json"
    data = example().to_json()
    del data[key]
    path.write_text(json.dumps(data))
    if key in DERIVED:
        assert Result.load(path) == example()
    else:
        with pytest.raises(ValueError, match=rf"result\.json: .*{key}"):
            Result.load(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"3",
        b'"schema"',
        b"{",
        b"\xff\xfe\x00",
        b"\x80abc",
        b"[" * 100_000,
        b'{"schema":' * 100_000,
        b'{"schema": 1}',
        b"9" * 10_000,
        json.dumps(example().to_json()).encode()[:-40],
        json.dumps(example().to_json()).replace("0.25", "NaN").encode(),
        json.dumps(example().to_json()).replace("0.25", "Infinity").encode(),
        json.dumps(example().to_json()).replace("0.25", "1e999").encode(),
        json.dumps(example().to_json()).replace("[[0.5]]", "[[-1e999]]").encode(),
    ],
    ids=range(17),
)
def test_what_is_no_json_of_ours_is_refused_by_file_name(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"result\.json: "):
        Result.load(path)


@given(JSON)
def test_any_json_is_read_or_refused(data: Any) -> None:
    for wrapped in (data, {**example().to_json(), "curve": data}, {**example().to_json(), "config": data}):
        try:
            Result.from_json(wrapped)
        except ValueError as e:
            assert str(e)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Result.load(tmp_path / "nothing.json")


def test_nan_is_never_written(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    example().save(path)
    with pytest.raises(ValueError, match="JSON"):
        replace(example(), diagnostics={"angle": float("nan")}).save(path)
    assert Result.load(path) == example()
