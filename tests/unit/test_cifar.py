"""CIFAR from a folder: the binary version byte for byte, its damage named, the pickled version refused."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retain.experiment import Experiment, Settings
from retain.methods.naive import Naive
from retain.streams import DataNotFound, build, load
from retain.streams.images import mean_and_sd

NAMES = {
    "cifar10": (
        "cifar-10-batches-bin",
        [f"data_batch_{i}.bin" for i in range(1, 6)],
        ["test_batch.bin"],
        [10],
    ),
    "cifar100": ("cifar-100-binary", ["train.bin"], ["test.bin"], [20, 100]),
}
both = pytest.mark.parametrize("data", NAMES)


def records(n: int, classes: list[int], seed: int) -> np.ndarray:
    """Every class as often as any other, random pixels: [n, labels + 3072] bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)
    labels = [np.arange(n, dtype=np.uint8)[:, None] % count for count in classes]
    return np.concatenate([*labels, pixels], 1).astype(np.uint8)


def write(root: Path, data: str, inside: bool = True, n: int = 100) -> dict[str, np.ndarray]:
    """Small files of the right form; what was written, by split."""
    folder, train, test, classes = NAMES[data]
    place = root / folder if inside else root
    place.mkdir(parents=True, exist_ok=True)
    written = {}
    for split, files in (("train", train), ("test", test)):
        parts = [records(n, classes, seed=hash_of(split, i)) for i in range(len(files))]
        for name, part in zip(files, parts, strict=True):
            (place / name).write_bytes(part.tobytes())
        written[split] = np.concatenate(parts)
    return written


def hash_of(split: str, i: int) -> int:
    return i + 10 * len(split)


@both
@pytest.mark.parametrize("inside", [True, False])
def test_images_and_labels_are_the_bytes_of_the_files(tmp_path: Path, data: Any, inside: bool) -> None:
    written = write(tmp_path, data, inside)
    head = len(NAMES[data][3])
    for split in ("train", "test"):
        x, y = load(data, split, tmp_path)
        raw = written[split]
        assert x.shape == (len(raw), 3, 32, 32)
        assert x.dtype == torch.uint8 and y.dtype == torch.int64 and x.is_contiguous()
        assert y.tolist() == raw[:, head - 1].tolist()  # the fine label, where there are two
        k, channel, row, column = 17, 2, 5, 30
        assert int(x[k, channel, row, column]) == raw[k, head + channel * 1024 + row * 32 + column]
        assert x.numpy().tobytes() == raw[:, head:].tobytes()


@both
def test_missing_files_say_where_to_get_them(tmp_path: Path, data: Any) -> None:
    with pytest.raises(DataNotFound, match=r"no folder was named.*binary\.tar\.gz"):
        load(data, "train")
    with pytest.raises(DataNotFound, match="not in ") as caught:
        load(data, "train", tmp_path)
    assert NAMES[data][0] in str(caught.value) and f"cifar-{data[5:]}-binary.tar.gz" in str(caught.value)


def test_one_batch_file_that_is_missing_is_missing(tmp_path: Path) -> None:
    """It is named, and it alone; where it lies in the folder itself does not help."""
    write(tmp_path, "cifar10")
    gone = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    gone.rename(tmp_path / "data_batch_3.bin")
    with pytest.raises(ValueError, match=r"missing, where the rest of cifar10 is.*binary\.tar\.gz") as caught:
        load("cifar10", "train", tmp_path)
    assert str(caught.value).startswith(f"{gone}: ") and str(caught.value).count(".bin") == 1
    (tmp_path / "data_batch_3.bin").rename(gone)
    assert len(load("cifar10", "train", tmp_path)[0]) == 500


@both
@pytest.mark.parametrize("inside", [True, False])
def test_the_pickled_version_is_refused_and_never_read(tmp_path: Path, data: Any, inside: bool) -> None:
    folder, name = {
        "cifar10": ("cifar-10-batches-py", "data_batch_1"),
        "cifar100": ("cifar-100-python", "train"),
    }[data]
    place = tmp_path / folder if inside else tmp_path
    place.mkdir(exist_ok=True)
    (place / name).write_bytes(pickle.dumps({b"data": [1], b"labels": [0]}))
    with pytest.raises(
        ValueError, match=r"would have to be unpickled.*binary version, https://www\.cs\.toronto"
    ):
        load(data, "train", tmp_path)
    write(tmp_path, data)  # beside it the binary one is taken
    assert len(load(data, "train", tmp_path)[0]) in (100, 500)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "0 bytes"),
        (bytes(3072), "3,072 bytes, which is no number of records of 3,073"),
        (bytes(3 * 3073 - 1), "truncated"),
        (bytes([10]) + bytes(3072), "label 10 where there are 0 to 9"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    write(tmp_path, "cifar10")
    (tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"data_batch_2\.bin: ") as caught:
        load("cifar10", "train", tmp_path)
    assert complaint in str(caught.value)


def test_a_coarse_label_that_there_is_not(tmp_path: Path) -> None:
    write(tmp_path, "cifar100")
    (tmp_path / "cifar-100-binary" / "test.bin").write_bytes(bytes([20, 3]) + bytes(3072))
    with pytest.raises(ValueError, match="label 20 where there are 0 to 19"):
        load("cifar100", "test", tmp_path)


def test_permuting_moves_whole_pixels(tmp_path: Path) -> None:
    write(tmp_path, "cifar10")
    stream = build({"name": "permuted", "data": "cifar10", "folder": str(tmp_path), "tasks": 2})
    assert stream.shape == (3, 32, 32) and stream.num_classes == 10
    raw = load("cifar10", "train", tmp_path)[0][:4]
    moved = stream[1].train.batch(torch.arange(4))[0].mul(255).round().byte()
    assert not torch.equal(moved, raw)

    def colours(images: torch.Tensor, k: int) -> list[list[int]]:
        return sorted(images[k].flatten(1).T.tolist())

    assert all(colours(moved, k) == colours(raw, k) for k in range(4))


def test_rotating_turns_each_channel_alike(tmp_path: Path) -> None:
    write(tmp_path, "cifar10")
    stream = build({"name": "rotated", "data": "cifar10", "folder": str(tmp_path), "tasks": 1})
    train: Any = stream[0].train
    raw = load("cifar10", "train", tmp_path)[0][:3]
    turned = train.arrange(raw)
    one_by_one = torch.cat([train.arrange(raw[:, c : c + 1]) for c in range(3)], 1)
    assert torch.equal(turned, one_by_one) and turned.shape == (3, 3, 32, 32)


def test_split_has_a_hundred_classes(tmp_path: Path) -> None:
    write(tmp_path, "cifar100")
    config = {
        "name": "split",
        "data": "cifar100",
        "folder": str(tmp_path),
        "per_task": 10,
        "scenario": "class",
    }
    stream = build(config)
    assert len(stream) == 10 and stream.num_classes == 100
    assert stream[9].classes == tuple(range(90, 100)) and stream[0].train.labels().tolist() == list(range(10))
    backwards = build({**config, "class_order": ",".join(str(c) for c in range(99, -1, -1))})
    assert backwards[0].classes == tuple(range(90, 100))
    dealt = build({**config, "class_order": "random", "scenario": "domain"})
    assert dealt.num_classes == 10 and sorted(dealt[3].train.labels().tolist()) == list(range(10))
    with pytest.raises(ValueError, match="from 0 to 99"):
        build({**config, "class_order": "3,100"})
    with pytest.raises(ValueError, match="must divide the 100 classes"):
        build({**config, "per_task": 3})


def test_padding_is_refused_and_normalising_takes_all_channels(tmp_path: Path) -> None:
    write(tmp_path, "cifar10")
    config = {"name": "split", "data": "cifar10", "folder": str(tmp_path)}
    with pytest.raises(ValueError, match=r"pad makes images 32x32.*so already"):
        build({**config, "pad": True})
    x = load("cifar10", "train", tmp_path)[0].double() / 255
    assert mean_and_sd("cifar10", tmp_path, False) == pytest.approx(
        (float(x.mean()), float(x.std())), abs=1e-4
    )
    whole = build({**config, "per_task": 10, "normalise": True, "scenario": "domain"})[0].train
    read = whole.batch(torch.arange(len(whole)))[0]
    assert abs(float(read.mean())) < 1e-3 and abs(float(read.std()) - 1) < 1e-3


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_run_end_to_end(tmp_path: Path, model: Any) -> None:
    write(tmp_path, "cifar10")
    settings = Settings(
        data="cifar10", folder=str(tmp_path), tasks=2, scenario="class", hidden=(8,), model=model, lr=0.01
    )
    e = Experiment("split", Naive(), settings)
    result = e.run()
    assert len(result.accuracy) == 3 and Experiment.from_config(result.config) == e
