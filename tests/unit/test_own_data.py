"""What a stream refuses, and anybody's own arrays and datasets."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from retain.examples import Examples, Union
from retain.streams import Stream, build
from retain.types import HIDDEN, Task

Four = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]  # x, y, test x, test y


def contents(stream: Stream) -> tuple[list[str], list[tuple[bytes, list[int]]]]:
    """All that a stream gives, as bytes."""
    parts = [p for t in stream for p in (t.train, t.test, t.validation) if p is not None]
    read = [part.batch(torch.arange(len(part))) for part in parts]
    return [t.name for t in stream], [(x.numpy().tobytes(), y.tolist()) for x, y in read]


def rows(examples: Examples | Union | None) -> set[int]:
    assert isinstance(examples, Examples) and examples.rows is not None
    return set(examples.rows.tolist())


# --- refusals -----------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "permutted"}, "did you mean 'permuted'"),
    ({"name": "permuted", "taks": 3}, "did you mean 'tasks'.*it has data, folder, tasks"),
    ({"name": "permuted", "noise": 0.1}, "no option 'noise'"),
    ({"tasks": 3}, "no stream is called None"),
    ({"name": "arrays"}, "Stream.from_arrays"),
    ({"name": "permuted", "tasks": 0}, "tasks must be an integer of at least 1, got 0"),
    ({"name": "permuted", "tasks": "ten"}, "tasks must be an integer"),
    ({"name": "permuted", "tasks": True}, "tasks must be an integer"),
    ({"name": "permuted", "samples": 0}, "samples must be"),
    ({"name": "permuted", "samples": 60_001}, "task 1: samples must be at most 60000"),
    ({"name": "permuted", "samples": 59_001, "validation": 1000}, "samples must be at most 59000"),
    ({"name": "permuted", "test_samples": 10_001}, "test_samples must be at most 10000"),
    ({"name": "permuted", "validation": 60_000}, "validation must be from 0 to 59999"),
    ({"name": "permuted", "validation": -1}, "validation must be"),
    ({"name": "permuted", "seed": 1.5}, "seed must be"),
    ({"name": "permuted", "first": "second"}, "permuted or plain"),
    ({"name": "permuted", "data": "cifar"}, "data must be one of"),
    ({"name": "permuted", "tasks": 2, "only": [0, 2]}, "only must be a list of tasks from 0 to 1"),
    ({"name": "permuted", "tasks": 2, "only": []}, "no task"),
    ({"name": "permuted", "tasks": 2, "only": 1}, "only must be a list"),
    ({"name": "permuted", "pad": "no"}, "pad must be true or false"),
    ({"name": "permuted", "normalise": 1}, "normalise must be true or false"),
    ({"name": "rotated", "max_angle": "right"}, "max_angle"),
    ({"name": "noisy-clean", "noise": "much"}, "noise must be in"),
    ({"name": "rotated", "max_angle": 0}, "max_angle"),
    ({"name": "rotated", "max_angle": float("nan")}, "max_angle"),
    ({"name": "noisy-clean", "noise": 1.1}, "noise must be in"),
    ({"name": "noisy-clean", "noise": float("nan")}, "noise must be in"),
    ({"name": "split", "per_task": 3}, "divide"),
    ({"name": "split", "per_task": 11}, "divide"),
    ({"name": "split", "tasks": 6}, r"at most 10 / 2 = 5, got 6"),
    ({"name": "split", "class_order": "1,1"}, "different classes"),
    ({"name": "split", "class_order": "9,10"}, "different classes"),
    ({"name": "split", "class_order": "up"}, "class_order must be ascending, random"),
    ({"name": "split", "class_order": ""}, "class_order must be"),
    ({"name": "split", "scenario": "online"}, "scenario must be one of"),
    ({"name": "split", "scenario": "class", "classes": "none"}, "classes one of"),
]


@pytest.mark.parametrize("config, message", REFUSED)
def test_a_wrong_option_is_refused_with_the_rule(config, message):
    with pytest.raises(ValueError, match=message):
        build(config)


# --- anybody's data -----------------------------------------------------------------------------


def arrays(
    seed: int = 0, n: int = 6, m: int = 4, shape: tuple[int, ...] = (3,), labels: tuple[int, ...] = (0, 1)
) -> Four:
    rng = np.random.default_rng(seed)
    y, yt = (np.array([labels[i % len(labels)] for i in range(k)]) for k in (n, m))
    return rng.normal(size=(n, *shape)), y, rng.normal(size=(m, *shape)), yt


def test_arrays_keep_their_values():
    a, b = arrays(0), arrays(1, labels=(2, 0))
    x, y, xt, yt = map(torch.tensor, b)
    stream = Stream.from_arrays([a, (x, y, xt, yt)], names=["one", "two"])
    assert len(stream) == 2 and stream.num_classes == 3 and stream.shape == (3,) and stream.range is None
    for task, own in zip(stream, (a, b), strict=True):
        assert task.test is not None
        x, y, xt, yt = map(torch.tensor, own)
        got = task.train.batch(torch.arange(6)), task.test.batch(torch.arange(4))
        assert got[0][0].dtype == torch.float32
        assert torch.equal(got[0][0], x.float()) and got[0][1].tolist() == y.tolist()
        assert torch.equal(got[1][0], xt.float()) and got[1][1].tolist() == yt.tolist()
    assert [t.name for t in stream] == ["one", "two"] and [t.classes for t in stream] == [(0, 1), (0, 2)]
    assert (stream.scenario, stream.classes) == ("domain", "all")
    assert json.loads(json.dumps(stream[1:].config))["only"] == [1]


def test_uint8_is_kept_and_read_in_0_1():
    x, y = np.arange(256, dtype=np.uint8).reshape(32, 8), np.arange(32) % 4
    stream = Stream.from_arrays([(x, y, x, y)], scenario="class", classes="seen")
    train = stream[0].train
    assert isinstance(train, Examples) and train.x.dtype == torch.uint8 and stream.range == (0.0, 1.0)
    assert torch.equal(stream[0].train.batch(torch.arange(32))[0], torch.tensor(x) / 255)
    assert (stream.scenario, stream.classes, stream.num_classes) == ("class", "seen", 4)


def test_arrays_of_odd_layouts_are_read_and_not_written():
    x, y, xt, yt = arrays()
    frozen = x.copy()
    frozen.flags.writeable = False
    plain = contents(Stream.from_arrays([(x, y, xt, yt)]))
    for other in (
        frozen,
        x[::-1][::-1],
        np.asfortranarray(x),
        x.astype(">f8"),
        torch.tensor(x, requires_grad=True),
    ):
        assert contents(Stream.from_arrays([(other, y.astype(">i2"), xt, yt.astype(np.uint8))])) == plain


def test_validation_of_own_arrays_is_disjoint_and_seeded():
    x, y = np.arange(40.0).reshape(20, 2), np.zeros(20, dtype=int)
    stream = Stream.from_arrays([(x, y, x, y), (x, y, x, y)], validation=5, seed=1)
    for task in stream:
        assert task.validation is not None and len(task.validation) == 5 and len(task.train) == 15
        assert rows(task.train) | rows(task.validation) == set(range(20))
    again = Stream.from_arrays([(x, y, x, y), (x, y, x, y)], validation=5, seed=1)
    assert contents(again) == contents(stream)
    assert rows(stream[0].validation) != rows(stream[1].validation)


def dataset(x: NDArray[Any], y: NDArray[Any]) -> TensorDataset:
    return TensorDataset(torch.tensor(x).float(), torch.tensor(y))


def pairs(x: NDArray[Any], y: NDArray[Any]) -> list[tuple[NDArray[Any], int]]:
    return [(row, int(label)) for row, label in zip(x, y, strict=True)]


def test_from_datasets_equals_from_arrays():
    a, b = arrays(0), arrays(1)
    sets = [(dataset(x, y), dataset(xt, yt)) for x, y, xt, yt in (a, b)]
    assert contents(Stream.from_datasets(sets, validation=2)) == contents(
        Stream.from_arrays([a, b], validation=2)
    )
    x, y, xt, yt = a
    plain = pairs(x, y), pairs(xt, yt)  # any sequence of pairs
    assert contents(Stream.from_datasets([plain])) == contents(Stream.from_arrays([a]))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # of a machine with fewer cores
def test_workers_read_the_same_in_the_same_order():
    x = np.random.default_rng(0).random((2000, 3))  # more items than a process may hold files open
    set_ = TensorDataset(torch.from_numpy(x), torch.arange(2000) % 7)
    assert contents(Stream.from_datasets([(set_, set_)], workers=2)) == contents(
        Stream.from_datasets([(set_, set_)])
    )
    with pytest.raises(ValueError, match=r"task 1: train: item 1 is a Tensor"):
        Stream.from_datasets([([(x[0], 1), torch.ones(2)], set_)], workers=1)
    with pytest.raises(ValueError, match="workers must be >= 0, got -1"):
        Stream.from_datasets([(set_, set_)], workers=-1)


@pytest.mark.parametrize(
    "item, message",
    [
        ((object(), 1), "train: x of item 1 .*ToTensor"),
        ((torch.zeros(4), 1), r"item 1 is torch.float32 \[4\]"),
        ((torch.zeros(3), 0.5), "label of item 1 is 0.5"),
        ((torch.zeros(3), torch.tensor([1, 2])), "label of item 1"),
        (torch.zeros(3), "must be a pair"),
    ],
)
def test_items_that_are_not_pairs_are_refused(item, message):
    good = [(torch.zeros(3), 0), (torch.ones(3), 1)]
    with pytest.raises(ValueError, match="task 2.*" + message):
        Stream.from_datasets([(good, good), ([good[0], item], good)])
    with pytest.raises(ValueError, match="task 1: test: no samples"):
        Stream.from_datasets([(good, [])])


def test_large_finite_numbers_are_fine():
    x, y = np.full((4, 8), 3e38), np.arange(4) % 2  # their sum is not finite in float32
    train = Stream.from_arrays([(x, y, x, y)])[0].train
    assert isinstance(train, Examples) and train.x.isfinite().all()


def change(a: Four, where: int, value: Callable[[NDArray[Any]], Any]) -> Any:
    parts = list(a)
    parts[where] = value(parts[where])
    return tuple(parts)


def poison(number: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def f(x: NDArray[Any]) -> NDArray[Any]:
        x = x.copy()
        x.flat[x.size // 2] = number
        return x

    return f


WRONG: dict[str, tuple[tuple[int, ...], Callable[[NDArray[Any]], Any], str]] = {
    "nan": ((0, 2), poison(np.nan), "NaN or infinity"),
    "infinity": ((0, 2), poison(-np.inf), "NaN or infinity"),
    "too large for float32": ((0, 2), poison(1e300), "NaN or infinity .in torch.float32"),
    "int64 x": ((0, 2), lambda x: x.astype(int), "floating point, or uint8"),
    "bool x": ((0, 2), lambda x: x > 0, "floating point, or uint8"),
    "complex x": ((0, 2), lambda x: x + 1j, "complex128"),
    "object x": ((0, 2), lambda x: x.astype(object), "dtype object"),
    "a list": ((0, 1, 2, 3), lambda x: x.tolist(), "got list"),
    "one-dimensional x": ((0, 2), lambda x: x[:, 0, 0], r"must be \[N, ...\]"),
    "another shape": ((0, 2), lambda x: x[..., :1], "all must be alike"),
    "another dtype": ((0, 2), lambda x: x.astype(np.uint8), "all must be alike"),
    "one row less": ((0, 1, 2, 3), lambda x: x[1:], "each x needs a label"),
    "float labels": ((1, 3), lambda y: y.astype(float), "labels must be integers"),
    "bool labels": ((1, 3), lambda y: y > 0, "labels must be integers"),
    "one-hot labels": ((1, 3), lambda y: np.eye(2, dtype=int)[y], "labels must be integers"),
    "negative label": ((1, 3), poison(-1), "label -1 is outside 0 to 1"),
}


@settings(max_examples=120, deadline=None)
@given(what=st.sampled_from(sorted(WRONG)), task=st.integers(0, 2), n=st.integers(2, 9), data=st.data())
def test_wrong_arrays_are_refused_by_task(what, task, n, data):
    places, value, message = WRONG[what]
    place = data.draw(st.sampled_from(places))
    tasks = [arrays(k, n=n, m=n, shape=(2, 2)) for k in range(3)]
    tasks[task] = change(tasks[task], place, value)
    # the first training set sets the shape and the dtype, so that the others are then the odd ones
    odd = what in ("another shape", "another dtype") and (task, place) == (0, 0)
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(ValueError, match=f"task {1 if odd else task + 1}.*{message}"),
    ):
        Stream.from_arrays(tasks)


def test_no_task_no_samples_wrong_names():
    good = arrays()
    x, y, xt, yt = good
    none = x[:0], y[:0], xt[:0], yt[:0]
    short: Any = good[:3]
    with pytest.raises(ValueError, match="no task"):
        Stream.from_arrays([])
    with pytest.raises(ValueError, match=r"task 2 \('b'\), train: no samples"):
        Stream.from_arrays([good, none], names=["a", "b"])
    with pytest.raises(ValueError, match=r"task 2.*test: no samples"):
        Stream.from_arrays([good, (x, y, xt[:0], yt[:0])])
    with pytest.raises(ValueError, match="1 names for 2 tasks"):
        Stream.from_arrays([good, good], names=["a"])
    with pytest.raises(ValueError, match="task 1: 3 arrays"):
        Stream.from_arrays([short])
    for validation in (-1, 6, 7):
        with pytest.raises(ValueError, match=r"task 1: validation must be from 0 to .*but one"):
            Stream.from_arrays([good], validation=validation)
    with pytest.raises(ValueError, match="no task"):
        Stream.from_arrays([good])[1:]


def one(
    index: int = 0, labels: tuple[int, ...] = (0, 1), classes: tuple[int, ...] = (0, 1), **how: Any
) -> Task:
    e = Examples(torch.zeros(len(labels), 3), torch.tensor(labels))
    return Task(
        **{"index": index, "name": "t", "train": e, "test": e, "validation": None, "classes": classes, **how}
    )


@pytest.mark.parametrize(
    "task, message",
    [
        (one(labels=(0, 2)), "label 2 is outside 0 to 1"),
        (one(labels=(0, 1), classes=(0,)), "label 1 is not among"),
        (one(classes=(1, 0)), "ascending"),
        (one(test=None), "no test set"),
        (one(index=HIDDEN), "hidden"),
        (one(train=Examples(torch.zeros(2, 3), torch.zeros(2))), "must be int64"),
        (
            one(train=Examples(torch.zeros(2, 3), torch.tensor([0, 1]), rows=torch.tensor([0, 2]))),
            "rows outside",
        ),
        (one(train=Union((Examples(torch.zeros(2, 3), torch.tensor([0, 5])),))), "label 5 is outside"),
        (one(train=Union(())), "no samples"),
        (one(validation=Examples(torch.zeros(2, 4), torch.tensor([0, 1]))), r"validation: .*\[4\]"),
        (one(test=Examples(torch.zeros(2, 3).double(), torch.tensor([0, 1]))), "float64"),
    ],
)
def test_a_task_that_is_not_fit_is_refused(task, message):
    where = "'t'" if task.index == HIDDEN else r"1 \('t'\)"
    with pytest.raises(ValueError, match=f"task {where}.*{message}"):
        Stream("mine", (task,), "domain", 2)


def test_a_stream_that_is_not_fit_is_refused():
    fit: dict[str, Any] = {"name": "mine", "tasks": (one(),), "scenario": "domain", "num_classes": 2}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"scenario": "online"}, "scenario must be one of"),
        ({"classes": "some"}, "classes one of"),
        ({"config": {"f": print}}, "JSON"),
        ({"tasks": (one(), one())}, "same index"),
        ({"tasks": ()}, "no task"),
    ]
    for how, message in wrong:
        with pytest.raises(ValueError, match=message):
            Stream(**{**fit, **how})
    a, b = one().train, one().train
    assert isinstance(a, Examples) and isinstance(b, Examples)
    assert len(Stream("mine", (one(), one(1, train=Union((a, b)))), "domain", 2)) == 2
