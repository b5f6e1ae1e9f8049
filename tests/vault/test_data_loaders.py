"""One set of data, in whatever it may be kept: the same examples come out of all of them, and the same weights."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from retain.vault import contents, init
from retain.vault.data import Labels, Preprocessing, Raw, read
from retain.vault.errors import BadData

CLASSES = ["ant", "bee", "cat"]


def pictures(n: int = 12, channels: int = 1) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Images uint8 [n, H, W] or [n, H, W, C] of three classes, sorted by class."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (n, 7, 5) if channels == 1 else (n, 7, 5, channels), dtype=np.uint8)
    return x, sorted(CLASSES[i % 3] for i in range(n))


def numbers(n: int = 30, d: int = 12) -> tuple[np.ndarray[Any, Any], list[str]]:
    """A table float64 [n, d] with some missing values and a constant column, and classes."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-3, 4, d)
    x[:, 4] = 0.1
    x[rng.random((n, d)) < 0.1] = np.nan
    return x, [CLASSES[i % 3] for i in range(n)]


class Items(Dataset[Any]):
    """A map-style dataset that does not stop by itself."""

    def __init__(self, xs: list[Any], ys: list[Any]) -> None:
        self.xs, self.ys = xs, ys

    def __len__(self) -> int:
        return len(self.xs)

    def __getitem__(self, i: int) -> Any:
        return self.xs[i % len(self.xs)], self.ys[i % len(self.xs)]


class Coming(IterableDataset[Any]):
    """The same without a length."""

    def __init__(self, pairs: list[Any]) -> None:
        self.pairs = pairs

    def __iter__(self) -> Any:
        return iter(self.pairs)


def folder_of(x: np.ndarray[Any, Any], y: list[str], root: Path) -> Path:
    for i, (image, name) in enumerate(zip(x, y, strict=True)):
        (root / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / name / f"{i}.png")
    return root


def hugging_face(data: dict[str, list[Any]], features: dict[str, Any], root: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict(data, features=datasets.Features(features))
    made.save_to_disk(str(root), num_shards=2)
    return root


def learned(raw: Raw) -> tuple[Tensor, Tensor, tuple[str, ...], list[str]]:
    """What an update would make of it."""
    assert isinstance(raw.targets, list)
    labels = Labels((), raw.integers).extended(raw.targets, raw.integers)
    x, notes = Preprocessing.fit(raw).apply(raw)
    return x, labels.encode(raw.targets), labels.names, notes


def same(a: Raw, b: Raw) -> None:
    (xa, ya, na, _), (xb, yb, nb, _) = learned(a), learned(b)
    assert a.kind == b.kind and na == nb and xa.dtype == xb.dtype
    assert torch.equal(xa, xb) and torch.equal(ya, yb)


def taught(source: Any, path: Path) -> bytes:
    """The bits of a network that has learned these data, with its optimiser and memory."""
    vault = init(path, "mlp:8", epochs=2, batch_size=4, guard=3, memory_bytes="10KB", outputs=4)
    vault.learn(source, "first")
    return vault.store.file(1, contents.STATE)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_the_same_through_every_loader(tmp_path: Path, channels: int) -> None:
    datasets = pytest.importorskip("datasets")
    x, y = pictures(channels=channels)
    base = read(folder_of(x, y, tmp_path / "folder"))
    assert base.kind == "images" and isinstance(base.x, Tensor) and base.x.dtype == torch.uint8
    kept = x[:, None] if channels == 1 else x[..., :3].transpose(0, 3, 1, 2)  # no transparency
    assert np.array_equal(base.x.numpy(), kept)
    assert base.targets == y
    last = x if channels == 1 else np.moveaxis(x, 3, 1)
    np.savez(tmp_path / "last.npz", x=x, y=np.array(y))
    np.savez_compressed(tmp_path / "first.npz", images=last, labels=np.array(y))
    drawn = [Image.fromarray(image) for image in x]
    features = {"picture": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "bee", "ant"])}
    data: dict[str, list[Any]] = {"picture": drawn, "label": [["cat", "bee", "ant"].index(v) for v in y]}
    wanted = taught(tmp_path / "folder", tmp_path / "vault")
    for i, source in enumerate(
        (
            tmp_path / "last.npz",
            str(tmp_path / "first.npz"),
            (x, y),
            (torch.tensor(last), np.array(y)),
            Items(list(x), y),
            Items(drawn, y),
            Coming(list(zip(drawn, y, strict=True))),
            hugging_face(data, features, tmp_path / "hf"),
        )
    ):
        same(base, read(source))
        assert taught(source, tmp_path / f"vault-{i}") == wanted, source


def test_whole_numbers_as_labels_are_the_same_through_every_loader(tmp_path: Path) -> None:
    x, _ = pictures()
    y = np.array(sorted(i % 3 + 9 for i in range(len(x))))
    base = read(folder_of(x, [str(v) for v in y], tmp_path / "folder"))
    assert base.integers and learned(base)[2] == ("9", "10", "11")  # as numbers, not as words
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.savez(tmp_path / "b.npz", x=x, y=y.astype(np.float32))
    save_file({"x": x, "y": y}, tmp_path / "c.safetensors")
    pairs = TensorDataset(torch.tensor(x), torch.tensor(y))
    for source in (
        tmp_path / "a.npz",
        tmp_path / "b.npz",
        tmp_path / "c.safetensors",
        pairs,
        (x, y.tolist()),
    ):
        same(base, read(source))


def test_a_table_is_the_same_through_every_loader(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    x, y = numbers()
    names = [f"x{k}" for k in range(x.shape[1])]
    np.savez(tmp_path / "table.npz", x=x, y=np.array(y))
    base = read(tmp_path / "table.npz")
    assert base.kind == "table" and learned(base)[0].shape == (30, 24)
    order = [5, 11, 0, *(k for k in range(12) if k not in (5, 11, 0))]  # of the columns: no matter
    with (tmp_path / "table.csv").open("w", newline="") as f:
        writer = csv.writer(f, delimiter=";")
        writer.writerow(["label", *(names[k] for k in order)])
        for row, label in zip(x, y, strict=True):
            writer.writerow([label, *("" if np.isnan(row[k]) else repr(float(row[k])) for k in order)])
    table = pa.table(
        {**{n: pa.array(c, from_pandas=True) for n, c in zip(names, x.T, strict=True)}, "label": y}
    )
    pq.write_table(table, tmp_path / "table.parquet", row_group_size=7)
    scalars = {n: [None if np.isnan(v) else float(v) for v in c] for n, c in zip(names, x.T, strict=True)}
    features = {n: datasets.Value("float64") for n in names} | {"label": datasets.Value("string")}
    saved = hugging_face({**scalars, "label": y}, features, tmp_path / "hf")
    wanted = taught(tmp_path / "table.npz", tmp_path / "vault")
    others = (tmp_path / "table.csv", tmp_path / "table.parquet", saved, (x, y), Items(list(x), y))
    for i, source in enumerate(others):
        same(base, read(source))
        assert taught(source, tmp_path / f"vault-{i}") == wanted, source


def test_words_and_large_numbers_are_the_same_in_csv_parquet_and_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    columns: dict[str, list[Any]] = {
        "city": ["Bern", None, "Basel", "NA", "Bern", "Basel"],
        "code": ["007", "7", "7", "007", "?", "7b"],
        "member": [True, False, None, True, True, False],
        "age": [31, None, 4, 18, 55, 2**53 + 1],
        "label": [2**60, 2**60 + 1, 2**60, 2**60 + 1, 2**60, 2**60],
    }
    with (tmp_path / "t.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    kinds = dict(zip(columns, ["string", "string", "bool", "int64", "int64"], strict=True))
    saved = hugging_face(columns, {n: datasets.Value(k) for n, k in kinds.items()}, tmp_path / "hf")
    base = read(tmp_path / "t.csv")
    assert len(set(base.targets or [])) == 2  # they differ, although no float64 tells them apart
    assert learned(base)[0].shape == (6, 2 + 5 + 4 + 4)
    same(base, read(tmp_path / "t.parquet"))
    same(base, read(saved))


def test_a_split_of_a_hugging_face_data_set_is_named_or_it_is_train(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    splits = {s: datasets.Dataset.from_dict({"a": [1.0, 2.0], "label": [s, s]}) for s in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "two"))
    assert read(tmp_path / "two").targets == ["train", "train"]
    assert read(tmp_path / "two", split="test").targets == ["test", "test"]
    with pytest.raises(BadData, match="splits 'train', 'test': say which"):
        read(tmp_path / "two", split="dev")
    with pytest.raises(BadData, match="has no splits"):
        read(tmp_path / "two" / "test", split="test")


@pytest.mark.parametrize("labelled", [None, False])
def test_labels_may_be_missing_where_none_are_needed(tmp_path: Path, labelled: bool | None) -> None:
    x, y = pictures()
    (tmp_path / "loose").mkdir()
    for i, image in enumerate(x):
        Image.fromarray(image).save(tmp_path / "loose" / f"{i}.png")
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3,4\n")
    np.savez(tmp_path / "a.npz", x=x)
    for source in (
        tmp_path / "loose",
        tmp_path / "a.csv",
        tmp_path / "a.npz",
        (x, None),
        Items(list(x), [None] * 12),
    ):
        assert read(source, labelled=labelled).targets is None
    seen = read(tmp_path / "loose", labelled=labelled)
    assert isinstance(seen.x, Tensor) and torch.equal(seen.x[:, 0], torch.tensor(x))  # 2.png before 10.png
    assert (read((x, y), labelled=labelled).targets is None) == (labelled is False)
    for source in (tmp_path / "a.csv", tmp_path / "a.npz", (x, None), tmp_path / "loose"):
        with pytest.raises(BadData, match=r"label|no class"):
            read(source)


def test_numbers_to_predict(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,up,down,y\n1,0,1,2.5\n3,1,1,-4\n")
    several = read(tmp_path / "a.csv", target="multilabel", label=("up", "down"), ignore=("y",))
    assert isinstance(several.targets, Tensor) and several.targets.tolist() == [[0, 1], [1, 1]]
    assert isinstance(several.x, dict) and list(several.x) == ["a"] and several.label == ("up", "down")
    one = read(tmp_path / "a.csv", target="regression")
    assert isinstance(one.targets, Tensor) and one.targets.tolist() == [[2.5], [-4.0]] and not one.integers
    both = read((torch.zeros(2, 3, 4, 4), torch.tensor([[1.0, 2.0], [3.0, 4.0]])), target="regression")
    assert both.kind == "arrays" and isinstance(both.targets, Tensor) and both.targets.shape == (2, 2)


def test_a_part_of_the_examples_keeps_their_names(tmp_path: Path) -> None:
    x, y = pictures()
    folder = read(folder_of(x, y, tmp_path / "folder"))
    some = folder.subset(torch.tensor([7, 1])).subset(torch.tensor([1]))
    assert len(some) == 1 and some.where(0) == folder.where(1) == "ant/1.png" and some.targets == ["ant"]
    table, names = numbers()
    part = read((table, names)).subset(torch.tensor([4, 2]))
    assert part.where(1) == "x[2]" and isinstance(part.x, dict)
    column = part.x["x3"].numbers
    assert column is not None and np.array_equal(column.numpy(), table[[4, 2], 3], equal_nan=True)


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    x, y = pictures()
    folder_of(x, y, tmp_path / "a")
    folder_of(x, y, tmp_path / "b")
    assert read(tmp_path / "a").sha256 == read(tmp_path / "b").sha256
    (tmp_path / "b" / "ant" / "0.png").rename(tmp_path / "b" / "bee" / "0.png")
    assert read(tmp_path / "a").sha256 != read(tmp_path / "b").sha256
    assert read((x, y)).sha256 == read((torch.tensor(x), np.array(y))).sha256 != read((x, y[::-1])).sha256
