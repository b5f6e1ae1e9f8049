"""Where the data come from: exact, strict about files, clear about what is missing."""

import gzip
import hashlib
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retain
from retain.streams import DataNotFound, load, permuted, sources
from retain.streams.sources import DEBIAN, EMBEDDED, MOST, Split, read_idx

# Published with the data set (and used by torchvision and others), of the decompressed files.
PUBLISHED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
PACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
HERE = {**os.environ, "PYTHONPATH": str(Path(retain.__file__).parents[1])}


def idx(*shape: int, values: bytes | None = None, magic: bytes | None = None) -> bytes:
    head = bytes([0, 0, 8, len(shape)]) if magic is None else magic
    size = 1
    for n in shape:
        head += n.to_bytes(4, "big")
        size *= n
    return head + (bytes(i % 10 for i in range(size)) if values is None else values)


def write_both(
    folder: Path, n: int = 12, suffix: str = "", stems: tuple[str, ...] = ("train", "t10k")
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pack = PACK[suffix]
    for stem in stems:
        (folder / f"{stem}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(n, 28, 28)))
        (folder / f"{stem}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(n)))
    return folder


@pytest.mark.parametrize("name", PUBLISHED_MD5)
def test_embedded_mnist_is_exact(name):
    content = lzma.decompress((EMBEDDED / f"{name}.xz").read_bytes())
    assert hashlib.md5(content).hexdigest() == PUBLISHED_MD5[name]


def test_embedded_mnist_is_small_and_carries_its_licence():
    assert sum(f.stat().st_size for f in EMBEDDED.glob("*.xz")) <= 9.5e6
    licence = (EMBEDDED / "LICENSE-DATA.md").read_text()
    assert all(w in licence for w in ("LeCun", "Cortes", "Burges", "CC BY-SA 3.0", *PUBLISHED_MD5.values()))


def test_mnist_is_what_the_files_say():
    halves: list[tuple[Split, str, int]] = [("train", "train", 60_000), ("test", "t10k", 10_000)]
    for split, stem, n in halves:
        x, y = load("mnist", split)
        assert x.shape == (n, 1, 28, 28) and x.dtype == torch.uint8
        assert y.shape == (n,) and y.dtype == torch.int64
        content = lzma.decompress((EMBEDDED / f"{stem}-images-idx3-ubyte.xz").read_bytes())
        assert x.numpy().tobytes() == content[16:]
        content = lzma.decompress((EMBEDDED / f"{stem}-labels-idx1-ubyte.xz").read_bytes())
        assert y.tolist() == list(content[8:])


def test_mnist_is_decoded_once_and_quickly():
    code = (
        "import time, retain.streams as s; t = time.process_time()\n"
        "a = s.load('mnist', 'train'), s.load('mnist', 'test'); t = time.process_time() - t\n"
        "assert s.load('mnist', 'train')[0] is a[0][0]; assert t < 2, t"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=HERE)


@pytest.mark.parametrize("inside", ["FashionMNIST/raw", "raw", "."])
@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_a_folder_in_each_layout(tmp_path, inside, suffix):
    write_both(tmp_path / inside, suffix=suffix)
    x, y = load("fashion-mnist", "test", tmp_path)
    assert x.shape == (12, 1, 28, 28) and x.dtype == torch.uint8
    assert y.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert x.flatten()[:12].tolist() == y.tolist()


def test_mnist_from_a_folder_and_never_from_elsewhere(tmp_path):
    write_both(tmp_path / "MNIST" / "raw", n=7)
    assert len(load("mnist", "train", str(tmp_path))[0]) == 7
    with pytest.raises(DataNotFound):
        load("mnist", "train", tmp_path / "nothing here")


def test_images_and_labels_come_from_one_place(tmp_path):
    write_both(tmp_path, n=5)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "train-images-idx3-ubyte").write_bytes(idx(9, 28, 28))  # its labels are missing
    assert len(load("fashion-mnist", "train", tmp_path)[0]) == 5


def test_missing_data_says_what_where_and_how(tmp_path):
    with pytest.raises(DataNotFound) as caught:
        load("fashion-mnist", "train", tmp_path)
    message = str(caught.value)
    for part in (
        "fashion-mnist",
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "dataset-fashion-mnist",
    ):
        assert part in message
    for place in (tmp_path / "FashionMNIST" / "raw", tmp_path / "raw", tmp_path):
        assert str(place) in message
    assert isinstance(caught.value, FileNotFoundError)


def test_missing_debian_package_says_where_it_looked(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "DEBIAN", tmp_path / "usr")
    with pytest.raises(DataNotFound, match=str(tmp_path / "usr")):
        sources._find("fashion-mnist", "train", None)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist():
    x, y = load("fashion-mnist", "train")
    assert x.shape == (60_000, 1, 28, 28) and y.bincount().tolist() == [6000] * 10
    x, y = load("fashion-mnist", "test")
    assert x.shape == (10_000, 1, 28, 28) and y.bincount().tolist() == [1000] * 10
    assert permuted(data="fashion-mnist", tasks=2).shape == (1, 28, 28)


@pytest.mark.parametrize("data, split", [("cifar", "train"), ("mnist", "valid"), (None, "train")])
def test_unknown_data_or_split(data, split):
    with pytest.raises(ValueError, match="data must be one of"):
        load(data, split)


def test_idx_round_trip_in_each_packing(tmp_path):
    for name, pack in (("a", bytes), ("b.gz", gzip.compress), ("c.xz", lzma.compress)):
        (tmp_path / name).write_bytes(pack(idx(3, 2, 5)))
        assert read_idx(tmp_path / name, 3).flatten().tolist() == [i % 10 for i in range(30)]


GOOD = idx(3, 2, 5)
BAD = {
    "empty": b"",
    "only a magic number": GOOD[:4],
    "half a header": GOOD[:11],
    "another magic": b"\x00\x00\x0d\x03" + GOOD[4:],
    "labels for images": idx(30),
    "truncated": GOOD[:-1],
    "too long": GOOD + b"\x00",
    "no images": idx(0, 2, 5),
    "an empty side": idx(3, 0, 5),
    "absurdly many": idx(MOST + 1, 28, 28, values=b"abc"),
    "four billion": idx(2**32 - 1, 2**32 - 1, 2**32 - 1, values=b"abc"),
    "absurd side": idx(2, 2**31, 2, values=b"abc"),
}


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
@pytest.mark.parametrize("what", BAD)
def test_a_bad_idx_file_is_refused_by_name(tmp_path, what, suffix):
    file = tmp_path / f"some-images{suffix}"
    file.write_bytes(PACK[suffix](BAD[what]))
    with pytest.raises(ValueError, match="some-images"):
        read_idx(file, 3)


@pytest.mark.parametrize("suffix, pack", [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_damaged_compressed_file_is_refused_by_name(tmp_path, suffix, pack):
    whole = pack(idx(50, 28, 28))
    for content in (
        b"not compressed at all",
        whole[: len(whole) // 2],
        whole[:20] + b"\xff\xff" + whole[22:],
    ):
        file = tmp_path / f"some-images{suffix}"
        file.write_bytes(content)
        with pytest.raises(ValueError, match="some-images"):
            read_idx(file, 3)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "any-bytes"
    file.write_bytes(b"\x00\x00\x08\x01" + content)
    n = int.from_bytes(content[:4], "big")
    if len(content) > 4 and n == len(content) - 4:
        assert read_idx(file, 1).numpy().tobytes() == content[4:]
    else:
        with pytest.raises(ValueError, match="any-bytes"):
            read_idx(file, 1)


def test_a_header_is_not_believed(tmp_path):
    file = tmp_path / "liar.gz"
    file.write_bytes(gzip.compress(idx(MOST, 1024, 1024, values=b"abc")))  # claims a terabyte
    code = (
        "import resource, sys; from pathlib import Path; from retain.streams.sources import read_idx\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_idx(Path(sys.argv[1]), 3)\n"
        "except ValueError as e: assert 'truncated' in str(e), e\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000"
    )
    subprocess.run([sys.executable, "-c", code, file], check=True, env=HERE)


@pytest.mark.parametrize(
    "images, labels, what",
    [
        (idx(3, 28, 28), idx(4), "3 images"),
        (idx(3, 27, 28), idx(3), "27, 28"),
        (idx(3, 28, 28), idx(3, values=b"\x00\x0a\x01"), "label 10"),
    ],
)
def test_files_that_do_not_fit_together(tmp_path, images, labels, what):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(images)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(ValueError, match=what):
        load("mnist", "train", tmp_path)
