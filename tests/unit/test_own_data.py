"""What a stream refuses, and anybody's own arrays and datasets."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from retain.examples import Examples, Union
from retain.streams import Stream, build
from retain.types import HIDDEN, Task


def contents(stream):
    """All that a stream gives, as bytes."""
    parts = [p for t in stream for p in (t.train, t.test, t.validation) if p is not None]
    read = [part.batch(torch.arange(len(part))) for part in parts]
    return [t.name for t in stream], [(x.numpy().tobytes(), y.tolist()) for x, y in read]


def rows(examples):
    return set(examples.rows.tolist())


# --- refusals -----------------------------------------------------------------------------------

REFUSED = [
    ({"name": "permutted"}, "did you mean 'permuted'"),
    ({"name": "permuted", "taks": 3}, "did you mean 'tasks'.*it has data, folder, tasks"),
    ({"name": "permuted", "noise": 0.1}, "no option 'noise'"),
    ({"tasks": 3}, "no stream is called None"),
    ({"name": "arrays"}, "Stream.from_arrays"),
    ({"name": "permuted", "tasks": 0}, "tasks must be an integer of at least 1, got 0"),
    ({"name": "permuted", "tasks": "ten"}, "tasks must be an integer"),
    ({"name": "permuted", "tasks": True}, "tasks must be an integer"),
    ({"name": "permuted", "samples": 0}, "samples must be"),
    ({"name": "permuted", "samples": 60_001}, "task 0: samples must be at most 60000"),
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


def arrays(seed=0, n=6, m=4, shape=(3,), labels=(0, 1)):
    rng = np.random.default_rng(seed)
    y = lambda k: np.array([labels[i % len(labels)] for i in range(k)])  # noqa: E731
    return rng.normal(size=(n, *shape)), y(n), rng.normal(size=(m, *shape)), y(m)


def test_arrays_keep_their_values():
    a, b = arrays(0), arrays(1, labels=(2, 0))
    stream = Stream.from_arrays([a, tuple(map(torch.tensor, b))], names=["one", "two"])
    assert len(stream) == 2 and stream.num_classes == 3 and stream.shape == (3,) and stream.range is None
    for task, (x, y, xt, yt) in zip(stream, (a, b), strict=True):
        got = task.train.batch(torch.arange(6)), task.test.batch(torch.arange(4))
        assert got[0][0].dtype == torch.float32
        assert torch.equal(got[0][0], torch.tensor(x).float()) and got[0][1].tolist() == y.tolist()
        assert torch.equal(got[1][0], torch.tensor(xt).float()) and got[1][1].tolist() == yt.tolist()
    assert [t.name for t in stream] == ["one", "two"] and [t.classes for t in stream] == [(0, 1), (0, 2)]
    assert (stream.scenario, stream.classes) == ("domain", "all")
    assert json.loads(json.dumps(stream[1:].config))["only"] == [1]


def test_uint8_is_kept_and_read_in_0_1():
    x, y = np.arange(256, dtype=np.uint8).reshape(32, 8), np.arange(32) % 4
    stream = Stream.from_arrays([(x, y, x, y)], scenario="class", classes="seen")
    assert stream[0].train.x.dtype == torch.uint8 and stream.range == (0.0, 1.0)
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
        assert len(task.validation) == 5 and len(task.train) == 15
        assert rows(task.train) | rows(task.validation) == set(range(20))
    again = Stream.from_arrays([(x, y, x, y), (x, y, x, y)], validation=5, seed=1)
    assert contents(again) == contents(stream)
    assert rows(stream[0].validation) != rows(stream[1].validation)


def test_from_datasets_equals_from_arrays():
    a, b = arrays(0), arrays(1)
    sets = [
        tuple(TensorDataset(torch.tensor(x).float(), torch.tensor(y)) for x, y in (t[:2], t[2:]))
        for t in (a, b)
    ]
    assert contents(Stream.from_datasets(sets, validation=2)) == contents(
        Stream.from_arrays([a, b], validation=2)
    )
    plain = [
        [(x, int(label)) for x, label in zip(*t, strict=True)] for t in (a[:2], a[2:])
    ]  # any sequence of pairs
    assert contents(Stream.from_datasets([tuple(plain)])) == contents(Stream.from_arrays([a]))


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
    with pytest.raises(ValueError, match="task 1.*" + message):
        Stream.from_datasets([(good, good), ([good[0], item], good)])
    with pytest.raises(ValueError, match="task 0: test: no samples"):
        Stream.from_datasets([(good, [])])


def test_large_finite_numbers_are_fine():
    x, y = np.full((4, 8), 3e38), np.arange(4) % 2  # their sum is not finite in float32
    assert Stream.from_arrays([(x, y, x, y)])[0].train.x.isfinite().all()


def change(a, where, value):
    a = list(a)
    a[where] = value(a[where])
    return tuple(a)


def poison(number):
    def f(x):
        x = x.copy()
        x.flat[x.size // 2] = number
        return x

    return f


WRONG = {
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
        pytest.raises(ValueError, match=f"task {0 if odd else task}.*{message}"),
    ):
        Stream.from_arrays(tasks)


def test_no_task_no_samples_wrong_names():
    good, none = arrays(), tuple(a[:0] for a in arrays())
    with pytest.raises(ValueError, match="no task"):
        Stream.from_arrays([])
    with pytest.raises(ValueError, match=r"task 1 \('b'\), train: no samples"):
        Stream.from_arrays([good, none], names=["a", "b"])
    with pytest.raises(ValueError, match=r"task 1.*test: no samples"):
        Stream.from_arrays([good, (*good[:2], *none[2:])])
    with pytest.raises(ValueError, match="1 names for 2 tasks"):
        Stream.from_arrays([good, good], names=["a"])
    with pytest.raises(ValueError, match="task 0: 3 arrays"):
        Stream.from_arrays([good[:3]])
    for validation in (-1, 6, 7):
        with pytest.raises(ValueError, match=r"task 0: validation must be from 0 to .*but one"):
            Stream.from_arrays([good], validation=validation)
    with pytest.raises(ValueError, match="no task"):
        Stream.from_arrays([good])[1:]


def one(index=0, labels=(0, 1), classes=(0, 1), **how):
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
    with pytest.raises(ValueError, match=f"task {task.index}.*{message}"):
        Stream("mine", (task,), "domain", 2)


def test_a_stream_that_is_not_fit_is_refused():
    for how, message in (
        ({"scenario": "online"}, "scenario must be one of"),
        ({"classes": "some"}, "classes one of"),
        ({"config": {"f": print}}, "JSON"),
        ({"tasks": (one(), one())}, "same index"),
        ({"tasks": ()}, "no task"),
    ):
        with pytest.raises(ValueError, match=message):
            Stream(**{"name": "mine", "tasks": (one(),), "scenario": "domain", "num_classes": 2, **how})
    assert len(Stream("mine", (one(), one(1, train=Union((one().train, one().train)))), "domain", 2)) == 2
