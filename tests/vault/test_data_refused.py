"""What is refused, with the file, the row or the column named, and the fix."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from retain.vault.data import read
from retain.vault.errors import BadData

CSV: list[tuple[bytes, str]] = [
    (b"", "t.csv is empty"),
    (b"a,b,label\n", "holds no example"),
    (b"a,b,label\n1,2,x\n1,2\n", "row 3 has 2 cells, but the header has 3"),
    (b"a,b,label\n1,2,x\n\n1,2,x,4\n", "row 4 has 4 cells"),  # the blank line is row 3
    (b"a,a,label\n1,2,x\n", "two columns called 'a'"),
    (b",a,label\n0,2,x\n", "column 1 has no name.*index=False"),
    (b"1,2,3\n4,5,6\n", "row 1 must name the columns"),
    (b"a,b\n1,2\n", "no column called label or class or target or y.*'a', 'b'"),
    (b"a,y,label\n1,2,x\n", "may have its labels in 'label', 'y'"),
    (b"label\nx\ny\n", "no column besides its labels"),
    (b"a,label\n1,x\n2,NA\n", "row 3 has no label in 'label'"),
    (b"a,label\n1,x\n2,caf\xe9\n", r"row 3 is not UTF-8 text: b'caf\\xe9'"),
    (b"a,label\n1,x\n\xff,y\n", "row 3 is not UTF-8"),
    ("a,label\n1,x\n".encode("utf-16"), "row 1 is not UTF-8"),
    (b"a,label\n1,x\0\n", "row 2 is not UTF-8"),
    (b'a,label\n1,x\n"2,y\n3,z\n', "row 3 .*is not CSV"),
    (b'a,label\n1,x\n"2"3,y\n', "row 3 .*is not CSV"),
    (b"a,label\n" + b"1" * 140_000 + b",x\n", "row 2 .*field larger"),
    (b"a,label\n1,x\ninf,y\n", "row 3: column 'a' is inf"),
    (b"a,label\n1,x\n1e39,y\n", "row 3: column 'a' is 1e"),
    (b"b" * 201 + b",label\n1,x\n", "name of column 1 is longer than 200"),
    (b"a,label\n1,0.5\n2,1\n", "row 2: the label in 'label' is '0.5'.*regression"),
    (b"a,label\n1," + b"x" * 201 + b"\n", "1 to 200 printable"),
    (b'a,label\n1,"x\ny"\n', "printable"),
]


@pytest.mark.parametrize(("content", "message"), CSV)
def test_a_bad_csv_is_refused_with_its_row(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(BadData, match=message):
        read(tmp_path / "t.csv")


def test_a_line_without_an_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("wb") as f:
        f.write(b"a,label\n")
        f.truncate(50 * 2**20)  # a hole, which is NULs
    with pytest.raises(BadData, match="a line of more than"):
        read(tmp_path / "t.csv")


@pytest.mark.parametrize("text", ["a\tb,c\tlabel", "a;b,c;label", "a|b,c|label", "\ufeffa,'b,c',label"])
def test_the_separator_is_found_and_a_bom_is_no_part_of_a_name(tmp_path: Path, text: str) -> None:
    separator = next(c for c in "\t;|," if c in text)
    quoted = text.replace("'b,c'", '"b,c"')
    (tmp_path / "t.csv").write_text(f"{quoted}\r\n1{separator}2{separator}x\r\n", encoding="utf-8")
    x = read(tmp_path / "t.csv").x
    assert isinstance(x, dict) and list(x) == ["a", "b,c"]


NUMBERS: list[tuple[Any, Any, str]] = [
    (np.zeros(3), [0, 1, 2], r"shape \[3\]"),
    (np.zeros((0, 3)), [], "no example"),
    (np.zeros((2, 0)), [0, 1], "no example"),
    (np.zeros((3, 2)), [0, 1], "3 rows of x but 2 of y"),
    (np.zeros((2, 2)), np.zeros((2, 2)), "a class is one"),
    (np.zeros((2, 2)), [0, float("nan")], r"x\[1\] has no label"),
    (np.zeros((2, 2)), ["a", None], r"x\[1\] has no label"),
    (np.zeros((2, 2)), [0, 1.5], r"x\[1\]: the label in 'y' is '1.5'"),
    (np.zeros((2, 2)), None, "has no labels"),
    (np.zeros((2, 2)), [object(), object()], "a label is a str or a number"),
    (np.zeros((2, 2), complex), [0, 1], "complex"),
    (np.zeros((2, 2), "U3"), [0, 1], "real numbers"),
    ([[1.0], [1.0, 2.0]], [0, 1], "no array"),
    (np.zeros((2, 2)), np.array([0x110000, 97], "<u4").view("<U1"), "0x110000, which there is not"),
    (np.array([[0.0], [np.inf]]), [0, 1], r"x\[1\]: column 'x0' is inf"),
    (np.array([[[0.0]], [[np.nan]]]), [0, 1], r"x\[1\] holds NaN"),
    (np.array([[[0.0]], [[1e300]]]), [0, 1], r"x\[1\] holds NaN or an infinite"),
    (np.zeros((2, 5, 5, 5), np.uint8), [0, 1], r"uint8 \[2, 5, 5, 5\]; images are"),
    (np.zeros((1, 10_001)), [0], r"give it as \[N, 1, 10001\]"),
    (torch.zeros(2, 2).to_sparse(), [0, 1], "dense"),
]


@pytest.mark.parametrize(("x", "y", "message"), NUMBERS)
def test_bad_arrays_are_refused_with_the_row(x: Any, y: Any, message: str) -> None:
    with pytest.raises(BadData, match=message):
        read((x, y))


def test_numbers_to_predict_must_be_numbers() -> None:
    with pytest.raises(BadData, match=r"x\[1\]: 'y' is inf"):
        read((np.zeros((2, 2)), [0, np.inf]), target="regression")
    with pytest.raises(BadData, match=r"x\[0\]: 'y' is 0.5; it must be 0 or 1"):
        read((np.zeros((2, 2)), [[0.5], [1.0]]), target="multilabel")
    with pytest.raises(BadData, match=r"'y' is 'a', which is no number"):
        read((np.zeros((2, 2)), ["a", "b"]), target="regression")


def test_bad_sources_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for source, message in [
        (tmp_path / "a.txt", "is none of what is read: give a folder of images.*csv"),
        (tmp_path / "none", "is not there"),
        (tmp_path / "none.csv", "No such file"),
        (tmp_path / "empty", "holds no image"),
        (tmp_path / "pipe.csv", "is not a file"),
        (tmp_path / "a\0.csv", "cannot be read"),
        (tmp_path / ("a" * 300), "File name too long"),
        ((1, 2, 3), r"the pair \(x, y\)"),
        (7, "got int"),
        ([], "got 0 of them"),
    ]:
        with pytest.raises(BadData, match=message):
            read(source)


def test_bad_items_of_a_dataset_are_refused() -> None:

    cases: list[tuple[list[Any], str]] = [
        ([(torch.zeros(2), 0), (torch.zeros(3), 0)], r"item 1 of Bag is torch.float32 \[3\]"),
        ([(torch.zeros(2), 0), 5], "item 1 is a int; it must be a pair"),
        ([{"image": 1}], "save_to_disk"),
        ([(torch.tensor(1.0), 0)], "a single number"),
        ([(Image.new("I;16", (2, 2)), 0)], "x of item 0 cannot be read: its pixels are I;16"),
        ([(torch.zeros(2), None)], "has no labels"),
        ([], "holds no example"),
    ]
    for items, message in cases:
        with pytest.raises(BadData, match=message):
            read(Bag(items))


class Bag:
    """The least that a dataset is."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.items[i]
