"""Checkpoints: what was saved comes back bit for bit; what is damaged or strange is refused; no code runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as to_bytes
from tests.laws.toy import differing
from torch import Tensor

from retain import checkpoint
from retain.checkpoint import FORMAT, BadCheckpoint
from retain.curvature import Quadratic

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
dtypes = st.sampled_from([torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool, torch.bfloat16])
tensors = st.builds(lambda shape, d: torch.ones(shape).to(d), st.lists(st.integers(0, 3), max_size=3), dtypes)
trees = st.recursive(
    plain | tensors,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.builds(Quadratic, inner, inner, st.floats(0, 1))
    ),
    max_leaves=12,
)


@given(trees)
def test_what_was_saved_comes_back(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    path = tmp_path_factory.mktemp("c") / "c.safetensors"
    checkpoint.save(path, tree)
    assert differing(checkpoint.load(path), tree) == []


def test_views_special_numbers_and_order_come_back(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    tree = {
        "z": base.T, "a": base[1:, ::2], "same": base, "again": base, "scalar": torch.tensor(3),
        "nan": torch.tensor([math.nan, math.inf, -0.0]), "inf": math.inf, "big": 2**200, "none": None,
    }  # fmt: skip
    checkpoint.save(tmp_path / "c", tree)
    found = checkpoint.load(tmp_path / "c")
    assert list(found) == list(tree) and differing(found, tree) == []
    assert math.copysign(1, float(found["nan"][2])) == -1
    found["same"].zero_()
    assert float(found["again"].sum()) > 0 and float(base.sum()) > 0


def test_a_tensor_that_needs_gradients_is_saved_without_its_graph(tmp_path: Path) -> None:
    w = torch.ones(2, requires_grad=True)
    checkpoint.save(tmp_path / "c", {"w": w * 2})
    assert not checkpoint.load(tmp_path / "c")["w"].requires_grad


@pytest.mark.parametrize("strange", [{1: 2}, {"a": object()}, [{3, 4}], {"f": len}, {"b": b"bytes"}])
def test_what_cannot_be_stored_is_refused_and_the_old_file_stays(tmp_path: Path, strange: Any) -> None:
    checkpoint.save(tmp_path / "c", {"old": 1})
    with pytest.raises(TypeError, match="state"):
        checkpoint.save(tmp_path / "c", strange)
    assert checkpoint.load(tmp_path / "c") == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


@given(st.data())
def test_a_damaged_file_is_called_so(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("c") / "c"
    checkpoint.save(path, {"w": torch.arange(5.0), "n": [1, (2, 3)]})
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little") + 8
    if data.draw(st.booleans()):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(BadCheckpoint, match="c"):
            checkpoint.load(path)
        return
    at = data.draw(st.integers(0, header - 1))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :])
    try:
        checkpoint.load(path)  # a flipped bit may still make sense
    except BadCheckpoint as e:
        assert str(path) in str(e) or "at hand" in str(e)


def write(path: Path, structure: Any, form: str = FORMAT) -> None:
    path.write_bytes(to_bytes({}, {"format": form, "structure": json.dumps(structure)}))


def test_another_format_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "c", 1, "retain-checkpoint-0")
    with pytest.raises(BadCheckpoint, match="retain-checkpoint-0"):
        checkpoint.load(tmp_path / "c")
    (tmp_path / "plain").write_bytes(to_bytes({"w": torch.zeros(2)}))
    with pytest.raises(BadCheckpoint, match="not a"):
        checkpoint.load(tmp_path / "plain")
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match="no checkpoint at"):
            checkpoint.load(missing)


class Loud(NamedTuple):
    """A kind that is at hand."""

    a: int


class Sly(tuple[Any, ...]):
    """A tuple with a constructor of its own: nothing that a file may call."""

    def __new__(cls, *args: Any) -> Sly:
        raise AssertionError("a file made this run")


@pytest.mark.parametrize(
    "kind",
    [
        "os:system", "subprocess:Popen", "builtins:eval", "builtins:tuple", "no.such.module:Kind", "x", "",
        f"{__name__}:Sly", f"{__name__}:Nothing", "torch:Size", "retain.curvature.quadratic:torch",
    ],
)  # fmt: skip
def test_nothing_but_a_named_tuple_at_hand_is_made(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "c", {"tuple": ["true"], "of": kind})
    with pytest.raises(BadCheckpoint):
        checkpoint.load(tmp_path / "c")


def test_a_named_tuple_comes_back_as_itself_or_not_at_all(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", (Loud(3), (4,)))
    found = checkpoint.load(tmp_path / "c")
    assert found == (Loud(3), (4,)) and type(found[0]) is Loud and type(found[1]) is tuple
    write(tmp_path / "c", {"tuple": [1, 2], "of": f"{__name__}:Loud"})
    with pytest.raises(BadCheckpoint, match="damaged"):
        checkpoint.load(tmp_path / "c")


@pytest.mark.parametrize(
    "structure", [{}, {"tuple": 3, "of": None}, {"tensor": "7"}, {"dict": [1]}, {"list": None}]
)
def test_a_structure_that_makes_no_sense_is_refused(tmp_path: Path, structure: Any) -> None:
    write(tmp_path / "c", structure)
    with pytest.raises(BadCheckpoint):
        checkpoint.load(tmp_path / "c")


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    text = '{"list": [' * 100_000 + "]}" * 100_000
    (tmp_path / "c").write_bytes(to_bytes({}, {"format": FORMAT, "structure": text}))
    with pytest.raises(BadCheckpoint, match="damaged"):
        checkpoint.load(tmp_path / "c")
    deep: Any = torch.zeros(1)
    for _ in range(200):
        deep = [deep]
    checkpoint.save(tmp_path / "c", deep)
    found = checkpoint.load(tmp_path / "c")
    while not isinstance(found, Tensor):
        (found,) = found
