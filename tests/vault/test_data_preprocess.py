"""What is learned of the first data, and what becomes of later data that differ."""

from __future__ import annotations

import io
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from retain.vault.data import Preprocessing, Raw, preprocess, read
from retain.vault.data.images import decoded, resized
from retain.vault.errors import BadData, Damaged

FIRST = """city,age,income,label
Bern,31,1000,a
Basel,,3000,b
Bern,45,2000,a
,27,,b
"""


def table(path: Path, text: str, **asked: Any) -> Raw:
    path.write_text(text)
    return read(path, **asked)


@pytest.fixture
def first(tmp_path: Path) -> Preprocessing:
    return Preprocessing.fit(table(tmp_path / "first.csv", FIRST))


def applied(p: Preprocessing, path: Path, text: str) -> tuple[list[list[float]], list[str]]:
    x, notes = p.apply(table(path, text, labelled=None))
    assert x.dtype == torch.float32 and x.shape[1:] == p.shape
    return x.tolist(), notes


# --- tables ------------------------------------------------------------------------------------------


def test_a_table_is_read_as_it_says(tmp_path: Path, first: Preprocessing) -> None:
    ages, incomes = [31.0, 45.0, 27.0], [1000.0, 3000.0, 2000.0]
    rows, notes = applied(first, tmp_path / "t.csv", FIRST)

    def scaled(values: list[float], value: float | None) -> list[float]:
        given = statistics.median(values) if value is None else value
        z = (given - statistics.mean(values)) / statistics.pstdev(values)
        return [float(torch.tensor(z)), float(value is None)]

    words = {"Basel": [1, 0, 0, 0], "Bern": [0, 1, 0, 0], None: [0, 0, 0, 1]}
    expected = [  # age, city, income: by name
        [*scaled(ages, 31), *words["Bern"], *scaled(incomes, 1000)],
        [*scaled(ages, None), *words["Basel"], *scaled(incomes, 3000)],
        [*scaled(ages, 45), *words["Bern"], *scaled(incomes, 2000)],
        [*scaled(ages, 27), *words[None], *scaled(incomes, None)],
    ]
    assert rows == expected
    assert notes == [
        "column 'age': 1 of 4 values missing; 31.0, the first data's median, stands in",
        "column 'income': 1 of 4 values missing; 2000.0, the first data's median, stands in",
    ]


def test_later_columns_may_come_in_any_order_and_others_with_them(
    tmp_path: Path, first: Preprocessing
) -> None:
    plain_rows, _ = applied(first, tmp_path / "a.csv", "city,age,income\nBern,31,1000\n")
    rows, notes = applied(first, tmp_path / "b.csv", "income,new,age,label,city\n1000,7,31,a,Bern\n")
    assert rows == plain_rows
    assert notes == ["columns that the first data had not are left out: 'new'"]


def test_words_that_were_not_there_before_are_another_word(tmp_path: Path, first: Preprocessing) -> None:
    rows, notes = applied(first, tmp_path / "a.csv", "city,age,income\nThun,31,9\nWil,31,9\nThun,31,8\n")
    assert [row[2:6] for row in rows] == [[0, 0, 1, 0]] * 3
    assert notes == [
        "column 'city' has words that the first data had not, read as other: 'Thun' (2), 'Wil' (1)",
        "1 of 3 examples repeat an earlier one",
    ]
    rows, _ = applied(first, tmp_path / "a.csv", "city,age,income\n3008,31,9\n3008.0,31,9\n")  # numbers, now
    assert [row[2:6] for row in rows] == [[0, 0, 1, 0]] * 2


def test_codes_stay_as_they_were_written(tmp_path: Path) -> None:
    p = Preprocessing.fit(table(tmp_path / "a.csv", "code,label\n007,a\n7,a\n7.0,b\nx,b\n"))
    x, _ = p.apply(table(tmp_path / "b.csv", "code,label\n7.0,b\n7,a\n007,a\n"))  # only numbers this time
    assert x.argmax(1).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("city,age\nBern,31\n", r"t.csv lacks a column which the first data had, 'income': add it"),
        (
            "city,age,income\nBern,31,1\nBern,old,1\n",
            r"t.csv, row 3: column 'age' is 'old', but the first",
        ),
        ("city,age,income\nBern,31,1e38\n", None),
        ("city,age,income\nBern,31,inf\n", r"row 2: column 'income' is inf"),
    ],
)
def test_later_data_of_another_kind_are_refused(
    tmp_path: Path, first: Preprocessing, text: str, message: str | None
) -> None:
    if message is None:
        assert np.isfinite(applied(first, tmp_path / "t.csv", text)[0]).all()
        return
    with pytest.raises(BadData, match=message):
        applied(first, tmp_path / "t.csv", text)


def test_a_value_too_far_out_to_be_computed_with_is_refused(tmp_path: Path) -> None:
    p = Preprocessing.fit(table(tmp_path / "a.csv", "a,label\n1e-30,x\n2e-30,y\n"))
    with pytest.raises(BadData, match=r"row 2: column 'a' is 1e\+20, too far from"):
        p.apply(table(tmp_path / "b.csv", "a,label\n1e20,x\n"))


def test_a_column_that_says_nothing_of_a_row_is_refused(tmp_path: Path) -> None:
    rows = "\n".join(f"{i},c{i % 21},n{i},x" for i in range(60))
    text = f"a,b,name,label\n{rows}\n"
    with pytest.raises(BadData, match=r"'name' has 60 different words in 60 rows.*--ignore name"):
        Preprocessing.fit(table(tmp_path / "a.csv", text))
    assert Preprocessing.fit(table(tmp_path / "a.csv", text, ignore=("name",))).shape == (2 + 23,)
    with pytest.raises(BadData, match=r"'b' has 1 different words in 1 rows.*of 200 characters"):
        Preprocessing.fit(table(tmp_path / "a.csv", f"b,label\n{'word ' * 50},x\n"))
    with pytest.raises(BadData, match=r"'a' is empty.*--ignore a"):
        Preprocessing.fit(table(tmp_path / "a.csv", "a,b,label\n,1,x\nNA,2,y\n"))


def test_a_constant_column_is_zero_and_stays_sensible(tmp_path: Path) -> None:
    p = Preprocessing.fit(table(tmp_path / "a.csv", "a,label\n" + "0.1,x\n" * 7))
    x, notes = p.apply(table(tmp_path / "b.csv", "a,label\n0.1,x\n1.1,y\n"))
    assert x[:, 0].tolist() == [0, 1] and notes == []


def test_copies_are_counted(tmp_path: Path, first: Preprocessing) -> None:
    _, notes = applied(
        first, tmp_path / "a.csv", "city,age,income\n" + "Bern,31,1000\n" * 3 + "Bern,32,1000\n"
    )
    assert notes == ["2 of 4 examples repeat an earlier one"]


def test_the_order_of_rows_and_columns_does_not_matter() -> None:
    x = np.random.default_rng(0).standard_normal((50, 3)) * [1e-9, 1, 1e9]
    order = np.random.default_rng(1).permutation(50)
    a, b = (Preprocessing.fit(read((v, None), labelled=False)) for v in (x, x[order]))
    assert a == b


def test_a_table_that_would_become_too_wide_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = table(tmp_path / "a.csv", FIRST)
    monkeypatch.setattr(preprocess, "MOST_WIDE", 7)
    with pytest.raises(BadData, match="together 8, at most 7"):
        Preprocessing.fit(raw)


def test_columns_that_could_be_labels_stay_where_labels_are_not_looked_at(tmp_path: Path) -> None:
    x = table(tmp_path / "a.csv", "y,label\n1,2\n", labelled=False).x
    assert isinstance(x, dict) and list(x) == ["y", "label"]
    x = table(tmp_path / "a.csv", "y,label\n1,2\n", labelled=False, label="label").x
    assert isinstance(x, dict) and list(x) == ["y"]
    with pytest.raises(BadData, match="no column besides its labels"):
        read(([[1.0], [2.0]], [0, 1]), ignore=("x0",))


# --- images ------------------------------------------------------------------------------------------


def images(path: Path, *kinds: tuple[str, int, int]) -> Raw:
    for i, (mode, width, height) in enumerate(kinds):
        (path / "cat").mkdir(parents=True, exist_ok=True)
        data = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(data).convert(mode).save(path / "cat" / f"{i}.png")
    return read(path)


def test_images_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    raw = images(tmp_path, ("L", 8, 6), ("L", 8, 6), ("L", 5, 6))
    with pytest.raises(
        BadData, match=r"cat/2.png has 5 x 6 pixels, but cat/0.png 8 x 6: give the size .*--size"
    ):
        Preprocessing.fit(raw)
    p = Preprocessing.fit(raw, size=4)
    x, notes = p.apply(raw)
    assert x.shape == (3, *p.shape) == (3, 1, 4, 4) and notes == [
        "3 of 3 images were resized to 4 x 4 pixels"
    ]
    read_small, none = p.apply(read(tmp_path, size=4))  # made small while they are read: the same
    assert torch.equal(x, read_small) and none == []
    with pytest.raises(BadData, match="size must be"):
        Preprocessing.fit(raw, size=0)


def test_images_of_several_sizes_in_a_dataset_are_those_of_the_folder(tmp_path: Path) -> None:
    folder = images(tmp_path, ("RGB", 8, 6), ("L", 5, 6))
    items = [(Image.open(tmp_path / "cat" / f"{i}.png"), "cat") for i in range(2)]
    dataset = read(ItemsOf(items))
    assert dataset.targets == folder.targets and dataset.where(1) == "item 1"
    p = Preprocessing.fit(folder, size=5)
    assert p == Preprocessing.fit(dataset, size=5)
    assert torch.equal(p.apply(folder)[0], p.apply(dataset)[0])


class ItemsOf:
    """The least that a dataset is."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


def test_a_later_size_is_refused_unless_a_size_was_given(tmp_path: Path) -> None:
    p = Preprocessing.fit(images(tmp_path / "a", ("RGB", 4, 4)))
    with pytest.raises(
        BadData, match=r"cat/0.png has 6 x 4 pixels, but this model takes 4 x 4: resize it, or"
    ):
        p.apply(images(tmp_path / "b", ("RGB", 6, 4)))


def test_the_first_images_decide_between_grey_and_colour(tmp_path: Path) -> None:
    grey, colour = images(tmp_path / "a", ("L", 4, 4)), images(tmp_path / "b", ("RGB", 4, 4))
    x, notes = Preprocessing.fit(grey).apply(colour)
    pillow = np.asarray(Image.open(tmp_path / "b" / "cat" / "0.png").convert("L"))
    assert np.array_equal(x[0, 0].numpy(), pillow)
    assert notes == ["1 of 1 images are RGB, made grey as the model takes them"]
    x, notes = Preprocessing.fit(colour).apply(grey)
    assert isinstance(grey.x, Tensor) and torch.equal(x, grey.x.repeat(1, 3, 1, 1))
    assert notes == ["1 of 1 images are grey, made RGB as the model takes them"]
    mixed = images(
        tmp_path / "c", ("L", 4, 4), ("RGB", 4, 4), ("RGBA", 4, 4), ("P", 4, 4), ("1", 4, 4), ("LA", 4, 4)
    )
    x, notes = Preprocessing.fit(mixed).apply(mixed)
    assert x.shape == (6, 3, 4, 4) and notes == ["3 of 6 images are grey, made RGB as the model takes them"]


def test_a_photograph_is_turned_upright() -> None:
    data = np.zeros((4, 6, 3), np.uint8)
    data[0] = 255
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(data).save(out, "PNG", exif=exif)
    x = decoded(out.getvalue())
    assert x.shape == (3, 6, 4) and bool((x[:, :, -1] == 255).all()) and int(x.sum()) == 255 * 3 * 6


def test_resizing_averages_what_it_leaves_out() -> None:
    x = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    x[..., ::2] = 200  # stripes, of which plain sampling would see one kind
    small = resized(x, 8)[0, 0, 1:-1, 1:-1]
    assert small.float().sub(100).abs().max() <= 2


# --- what is kept ------------------------------------------------------------------------------------


def test_what_is_kept_comes_back_from_json_the_same(tmp_path: Path, first: Preprocessing) -> None:
    arrays = Preprocessing.fit(read((np.zeros((2, 1, 5)), [0, 1])))
    for p in (first, arrays, Preprocessing.fit(images(tmp_path, ("RGB", 4, 4)), size=7)):
        assert Preprocessing.from_json(json.loads(json.dumps(p.to_json(), allow_nan=False))) == p


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"kind": "pickle"},
        {"shape": [9]},
        {"shape": []},
        {"shape": [True]},
        {"size": 3},
        {"columns": []},
        {"columns": None},
        {"more": 1},
    ],
)
def test_anything_else_is_damaged(first: Preprocessing, change: dict[str, Any]) -> None:
    with pytest.raises(Damaged):
        Preprocessing.from_json(first.to_json() | change)


def test_a_column_that_is_anything_else_is_damaged(first: Preprocessing) -> None:
    d = first.to_json()
    age, city, _ = d["columns"]
    for odd in (
        {**age, "sd": 0.0},
        {**age, "sd": float("nan")},
        {**age, "mean": 10**400},
        {**age, "kind": "x"},
        {**city, "words": ["b", "a"]},
    ):
        with pytest.raises(Damaged):
            Preprocessing.from_json({**d, "columns": [odd, *d["columns"][1:]]})
    with pytest.raises(Damaged, match="contradicts itself"):
        Preprocessing.from_json({**d, "columns": [age, city, age]})
