"""Files made to do harm, or broken: what they are refused with, and that nothing outside is touched."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from torch.utils.data import TensorDataset

from retain.vault.data import Preprocessing, files, images, read
from retain.vault.errors import BadData

# --- images ------------------------------------------------------------------------------------------


def picture(path: Path, mode: str = "L", size: tuple[int, int] = (4, 4), value: Any = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


def test_broken_images_are_named_up_to_five_of_them(tmp_path: Path) -> None:
    good = picture(tmp_path / "cat" / "good.png").read_bytes()
    for i in range(7):
        (tmp_path / "cat" / f"{i}.png").write_bytes(good[: len(good) - 20 - i] if i else b"no image")
    with pytest.raises(
        BadData, match=r"7 images .*cat/0.png \(it is no image of.*cat/4.png .*and 2 more"
    ) as e:
        read(tmp_path)
    assert "good" not in str(e.value) and "cat/5.png" not in str(e.value)
    (tmp_path / "cat" / "0.png").write_bytes(b"")
    with pytest.raises(BadData, match=r"cat/0.png: .*is empty"):
        read(tmp_path)


def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "big.png", "1", (8000, 8000), 0)  # 8 kB
    with pytest.raises(BadData, match=r"big.png .*more than 50,000,000|big.png .*exceeds limit"):
        read(tmp_path)


def test_images_of_16_bits_and_formats_that_run_programs_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(picture(tmp_path / "a" / "deep.png"))
    (tmp_path / "a" / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    with pytest.raises(BadData, match=r"deep.png \(its pixels are I.*eps.png \(it is no image of a kind"):
        read(tmp_path)


def test_links_out_of_the_folder_are_refused_and_links_within_it_followed(tmp_path: Path) -> None:
    secret = picture(tmp_path / "secret.png", value=9)
    root = tmp_path / "data"
    inner = picture(root / "a" / "0.png")
    (root / "a" / "1.png").symlink_to(inner)
    assert len(read(root)) == 2
    (root / "a" / "2.png").symlink_to(secret)
    with pytest.raises(BadData, match=r"2.png is a link out of"):
        read(root)
    (root / "a" / "2.png").unlink()
    (root / "b").symlink_to(tmp_path)
    with pytest.raises(BadData, match=r"b is a link out of"):
        read(root)
    (root / "b").unlink()
    (root / "a" / "2.png").symlink_to("2.png")
    with pytest.raises(BadData, match=r"2.png cannot be read: .*loop"):
        read(root)
    (root / "a" / "2.png").unlink()
    os.mkfifo(root / "a" / "3.png")
    with pytest.raises(BadData, match=r"a/3.png: .*is not a file"):
        read(root)


def test_images_in_the_wrong_place_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "0.png")
    picture(tmp_path / "a" / "deeper" / "0.png")
    with pytest.raises(BadData, match="deeper is a folder inside of a class"):
        read(tmp_path)
    (tmp_path / "a" / "deeper" / "0.png").rename(tmp_path / "0.png")
    (tmp_path / "a" / "deeper").rmdir()
    with pytest.raises(BadData, match=r"0.png lies in no class"):
        read(tmp_path)
    with pytest.raises(BadData, match="in classes and outside"):
        read(tmp_path, labelled=None)
    assert len(read(tmp_path, labelled=False)) == 2
    (tmp_path / "0.png").unlink()
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "a" / "notes.txt").write_bytes(b"x")
    assert read(tmp_path).notes == ("a: no images, so left out: 'notes.txt'", "b holds no image")
    with pytest.raises(BadData, match="gives classes"):
        read(tmp_path, target="regression")


def test_more_than_fits_into_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 3000)
    for i in range(5):
        picture(tmp_path / "many" / "a" / f"{i}.png", "RGB", (20, 20), (1, 2, 3))
    (tmp_path / "a.csv").write_text("a,label\n" + "1,x\n" * 100)
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((100, 8)), y=np.zeros(100))
    save_file({"x": np.zeros((100, 8)), "y": np.zeros(100)}, tmp_path / "a.safetensors")
    pq.write_table(pa.table({"a": [1.0] * 1000, "label": ["x"] * 1000}), tmp_path / "a.parquet")
    items = TensorDataset(torch.zeros(10, 100), torch.zeros(10))
    for source in (
        *(tmp_path / f"a.{k}" for k in ("csv", "npz", "safetensors", "parquet")),
        tmp_path / "many",
        items,
    ):
        with pytest.raises(BadData, match=r"GiB of memory.*(parts|--size)"):
            read(source)
    assert len(read(tmp_path / "many", size=10)) == 5


# --- npz, safetensors --------------------------------------------------------------------------------


def zipped(path: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as z:
        for name, data in members.items():
            z.writestr(name, data)
    return path


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


X = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy(X, b"\0" * 31), "shape is .* but it has only|bytes or more"),
        (npy(X, b"\0" * 33), "33 bytes or more"),
        (npy(X.replace("(2, 2)", "(2**40, 2)"), b"\0" * 32), "array 'x' of t.npz"),
        (npy(X.replace("(2, 2)", "(1099511627776, 2)"), b"\0" * 32), "has only"),
        (npy(X.replace("(2, 2)", "(-2, -2)"), b"\0" * 32), "says that its shape"),
        (npy(X.replace("<f8", "|O"), b"\0" * 32), "unpickled"),
        (npy(X.replace("'<f8'", "[('a', '<f8')]"), b"\0" * 32), "must hold numbers"),
        (npy("__import__('os').abort()"), "array 'x' of t.npz"),
        (npy("(" * 9000), "array 'x' of t.npz"),
        (b"\x93NUMPY\x03\x00", "npy format"),
        (b"", "array 'x' of t.npz is damaged"),
        (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "array 'x' of t.npz is damaged"),
    ],
)
def test_a_bad_array_in_an_npz_is_refused(tmp_path: Path, member: bytes, message: str) -> None:
    with pytest.raises(BadData, match=message):
        read(
            zipped(
                tmp_path / "t.npz", {"x.npy": member, "y.npy": npy(X.replace("(2, 2)", "(2,)"), b"\0" * 16)}
            )
        )


def test_an_npz_is_not_unpacked_to_disk_and_no_bomb_goes_off(tmp_path: Path) -> None:
    bomb = npy(X.replace("(2, 2)", f"({2**27}, 2)")) + b"\0" * 2**25  # says 2 GiB, has 32 MiB
    with pytest.raises(BadData, match="has only"):
        read(zipped(tmp_path / "a.npz", {"x.npy": bomb}), labelled=False)
    with pytest.raises(BadData, match="packed in an unusual way"):
        read(zipped(tmp_path / "b.npz", {"x.npy": npy(X, b"\0" * 32)}, zipfile.ZIP_LZMA), labelled=False)
    outside = tmp_path / "outside.npy"
    zipped(tmp_path / "c.npz", {"../outside.npy": b"x", str(outside): b"x", "x.npy": npy(X, b"\0" * 32)})
    assert len(read(tmp_path / "c.npz", labelled=False)) == 2 and not outside.exists()
    with pytest.raises(BadData, match=r"arrays '../outside'; it needs x and y or"):
        read(zipped(tmp_path / "d.npz", {"../outside.npy": b"x"}))
    (tmp_path / "e.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(BadData, match="no npz file"):
        read(tmp_path / "e.npz")
    np.savez(tmp_path / "f.npz", x=np.array([["a", {}]], dtype=object))
    with pytest.raises(BadData, match="unpickled"):
        read(tmp_path / "f.npz", labelled=False)


@pytest.mark.parametrize(
    "header",
    [
        {"x": {"dtype": "F64", "shape": [2, 2], "data_offsets": [0, 64]}},
        {"x": {"dtype": "F64", "shape": [2**40, 2], "data_offsets": [0, 32]}},
        {"x": {"dtype": "F64", "shape": [2, 2], "data_offsets": [-8, 24]}},
        {"x": {"dtype": "pickle", "shape": [2, 2], "data_offsets": [0, 32]}},
        {"x": 5},
        [],
    ],
)
def test_a_bad_safetensors_header_is_refused(tmp_path: Path, header: Any) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "t.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 32)
    with pytest.raises(BadData, match=r"t.safetensors is no safetensors file|has the arrays none"):
        read(tmp_path / "t.safetensors", labelled=False)


# --- Parquet, Hugging Face ---------------------------------------------------------------------------


def test_bad_columns_of_parquet_are_refused(tmp_path: Path) -> None:
    for values, message in [
        (pa.array([[1.0], [2.0]]), "'a' holds list<.*--ignore a"),
        (pa.array([0, 1], pa.timestamp("s")), r"'a' holds timestamp\["),
        (pa.array([b"x", b"y"]), "'a' holds binary"),
        (pa.array([1.0, float("inf")]), "row 2: column 'a' is inf"),
    ]:
        pq.write_table(pa.table({"a": values, "b": [1, 2], "label": ["x", "y"]}), tmp_path / "t.parquet")
        with pytest.raises(BadData, match=message):
            read(tmp_path / "t.parquet")
        assert len(read(tmp_path / "t.parquet", ignore=("a",))) == 2
    pq.write_table(
        pa.table({"a": pa.array([], pa.float64()), "label": pa.array([], pa.string())}),
        tmp_path / "t.parquet",
    )
    with pytest.raises(BadData, match="holds no example"):
        read(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(BadData, match="no Parquet file"):
        read(tmp_path / "t.parquet")


def test_a_category_of_pandas_is_a_column_of_words(tmp_path: Path) -> None:
    city, label = pa.array(["Bern", None, "Wil"]).dictionary_encode(), pa.array([1, 2, 2]).dictionary_encode()
    pq.write_table(pa.table({"city": city, "label": label}), tmp_path / "t.parquet")
    raw = read(tmp_path / "t.parquet")
    assert raw.targets == ["1", "2", "2"] and isinstance(raw.x, dict)
    assert raw.x["city"].names() == ["Bern", None, "Wil"]


def saved(root: Path, **columns: Any) -> Path:
    datasets = pytest.importorskip("datasets")
    features = columns.pop("features", None)
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(root))
    return root


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_no_file_outside_of_a_hugging_face_folder_is_opened(tmp_path: Path) -> None:
    root = saved(tmp_path / "a", a=[1.0, 2.0], label=["x", "y"])
    secret = (root / "data-00000-of-00001.arrow").rename(tmp_path / "secret.arrow")
    for name in ("../secret.arrow", str(secret), "..", "x/../../secret.arrow", "", None, 5, ["a"]):
        edit(root / "state.json", _data_files=[{"filename": name}])
        with pytest.raises(BadData, match="must lie in the folder itself"):
            read(root)
    edit(root / "state.json", _data_files=[{"filename": "link.arrow"}])
    (root / "link.arrow").symlink_to(secret)
    with pytest.raises(BadData, match="is a link out of"):
        read(root)
    both = tmp_path / "both"
    both.mkdir()
    (both / "dataset_dict.json").write_text('{"splits": ["../a"]}')
    with pytest.raises(BadData, match="does not list"):
        read(both)
    (both / "dataset_dict.json").write_text('{"splits": ["train"]}')
    (both / "train").symlink_to(root)
    with pytest.raises(BadData, match="is a link out of"):
        read(both)


def test_bad_hugging_face_folders_are_refused(tmp_path: Path) -> None:
    root = saved(tmp_path / "a", a=[1.0, 2.0], label=["x", "y"])
    for name, text, message in [
        ("state.json", "{", "no JSON of a data set"),
        ("state.json", "[" * 100_000, "no JSON of a data set"),
        ("state.json", "[]", "is not an object"),
        ("dataset_info.json", '{"features": 3}', "does not say what its columns are"),
        ("dataset_info.json", '{"features": {"b": {"_type": "Value"}}}', "lacks the columns 'b'"),
        (
            "dataset_info.json",
            '{"features": {"a": {"_type": "os.system"}, "label": {"_type": "Value"}}}',
            "'os.system'",
        ),
        (
            "dataset_info.json",
            '{"features": {"a": {"_type": "ClassLabel"}, "label": {"_type": "Value"}}}',
            "ClassLabel",
        ),
        ("data-00000-of-00001.arrow", "not Arrow at all", "no Arrow file"),
    ]:
        before = (root / name).read_bytes()
        (root / name).write_text(text)
        with pytest.raises(BadData, match=message):
            read(root)
        (root / name).write_bytes(before)
    assert len(read(root)) == 2


def test_bad_columns_of_a_hugging_face_folder_are_refused(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = saved(
        tmp_path / "b", picture=[{"path": str(picture(tmp_path / "p.png")), "bytes": None}], label=["x"]
    )
    edit(path / "dataset_info.json", features={"picture": {"_type": "Image"}, "label": {"_type": "Value"}})
    with pytest.raises(BadData, match=r"b\[0\] has no image in it, at most a path"):
        read(path)
    nested = saved(tmp_path / "c", a=[[1, 2]], label=["x"])
    with pytest.raises(BadData, match=r"'a' is .*--ignore a"):
        read(nested)
    kinds = datasets.Features(
        {"a": datasets.Value("float32"), "label": datasets.ClassLabel(names=["x", "y"])}
    )
    with pytest.raises(BadData, match=r"d\[1\] has no label"):
        read(saved(tmp_path / "d", a=[1.0, 2.0], label=[1, -1], features=kinds))


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    root = saved(tmp_path / "hf", a=[1.0], label=["x"])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        read(tmp_path / "a.parquet")
    with pytest.raises(ImportError, match="pip install pyarrow"):
        read(root)


def test_images_do_not_fit_a_table_nor_the_other_way_round() -> None:
    table, pictures = read(([[1.0], [2.0]], [0, 1])), read((np.zeros((2, 3, 3), np.uint8), [0, 1]))
    with pytest.raises(BadData, match=r"is a table, but this model takes images \[1, 3, 3\]"):
        Preprocessing.fit(pictures).apply(table)
    with pytest.raises(BadData, match="is images, but this model takes a table of 1 columns"):
        Preprocessing.fit(table).apply(pictures)
    floats = read((np.zeros((2, 1, 4)), [0, 1]))
    with pytest.raises(BadData, match=r"has examples \[1, 4\], but this model takes \[1, 5\]"):
        Preprocessing.fit(read((np.zeros((2, 1, 5)), [0, 1]))).apply(floats)
    assert images.MOST_PIXELS < 89_478_485  # Pillow's own limit comes after it
