"""Streams without boundaries: methods untold, tasks that mix at their edges, tasks that come round again."""

from collections import Counter
from typing import Any

import pytest
import torch

from retain.experiment import Experiment, Settings
from retain.methods.ewc import EWC
from retain.methods.naive import Naive
from retain.methods.replay import Replay
from retain.streams import Stream, build
from retain.types import Task

PERMUTED: dict[str, Any] = {"name": "permuted", "tasks": 4, "samples": 100, "test_samples": 50, "seed": 3}
SPLIT: dict[str, Any] = {"name": "split", "samples": 100, "test_samples": 50, "seed": 3, "scenario": "class"}
ROTATED: dict[str, Any] = {**PERMUTED, "name": "rotated"}
each = pytest.mark.parametrize("config", [PERMUTED, ROTATED, SPLIT], ids=lambda c: str(c["name"]))


def rows(part: Any) -> list[int]:
    """Which stored rows a piece of a training set is made of."""
    return list(range(len(part))) if part.rows is None else part.rows.tolist()


def pieces(task: Task) -> list[tuple[Any, list[int]]]:
    return [(piece.arrange, rows(piece)) for piece in task.train.parts]


def everything(stream: Stream) -> Counter[bytes]:
    """Each training example as it is read, with its label."""
    found: Counter[bytes] = Counter()
    for task in stream:
        x, y = task.train.batch(torch.arange(len(task.train)))
        found.update(a.numpy().tobytes() + bytes([int(b)]) for a, b in zip(x, y, strict=True))
    return found


# --- scenario and boundaries ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["permuted", "rotated"])
def test_a_stream_of_equal_labels_is_domain_or_task(name: str) -> None:
    small = {**PERMUTED, "name": name}
    assert build(small).scenario == "domain"
    known = build({**small, "scenario": "task"})
    assert known.scenario == "task" and all(t.classes == tuple(range(10)) for t in known)
    assert everything(known) == everything(build(small))
    with pytest.raises(ValueError, match=f"scenario of {name} must be domain or task"):
        build({**small, "scenario": "class"})


@each
def test_boundaries_are_told_unless_switched_off(config: dict[str, Any]) -> None:
    assert build(config).boundaries
    untold = build({**config, "boundaries": False})
    assert not untold.boundaries and not untold[1:].boundaries
    assert everything(untold) == everything(build(config))
    assert build(untold.config).boundaries is False


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"scenario": "task", "boundaries": False},
            "without boundaries the task is hidden.*--scenario class",
        ),
        ({"boundaries": 0}, "boundaries must be true or false"),
        ({"scenario": "task", "blur": 0.2}, "blur mixes tasks.*--scenario class"),
        ({"blur": 1.0}, "blur must be a share from 0 to below 1"),
        ({"blur": -0.1}, "blur must be a share"),
        ({"blur": float("nan")}, "blur must be a share"),
        ({"blur": True}, "blur must be a share"),
        ({"repeats": 0}, "repeats must be an integer of at least 1"),
        ({"repeats": 1.5}, "repeats must be an integer"),
        ({"repeats": 101}, "repeats must be at most 100, the examples of task 'A', got 101"),
    ],
)
def test_what_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        build({**PERMUTED, **options})


def test_only_methods_that_need_no_boundary_run_untold() -> None:
    settings = Settings(tasks=2, samples=60, test_samples=40, hidden=(8,), batch_size=10, boundaries=False)
    for method in (Naive(), Replay(memory=20)):
        result = Experiment("permuted", method, settings).run()
        assert len(result.accuracy) == 3 and result.boundaries == [6, 12]
    with pytest.raises(ValueError, match="EWC must be told where tasks begin and end"):
        Experiment("permuted", EWC(), settings).run()


def test_plain_training_does_not_care_whether_it_is_told() -> None:
    def run(boundaries: bool) -> list[list[float]]:
        small = Settings(
            tasks=2, samples=60, test_samples=40, hidden=(8,), batch_size=10, boundaries=boundaries
        )
        return Experiment("permuted", Naive(), small).run().accuracy

    assert run(True) == run(False)


# --- blur -----------------------------------------------------------------------------------------


@each
def test_blur_exchanges_with_neighbours_and_loses_nothing(config: dict[str, Any]) -> None:
    pure, blurry = build(config), build({**config, "blur": 0.3})
    assert everything(pure) == everything(blurry)
    last = len(pure) - 1
    for i, (a, b) in enumerate(zip(pure, blurry, strict=True)):
        assert len(a.train) == len(b.train) == 100
        sizes = [len(p) for p in b.train.parts]
        assert sizes == ([85, 15] if i in (0, last) else [70, 15, 15])
        assert set(rows(b.train.parts[0])) < set(rows(a.train))
        for piece, neighbour in zip(
            b.train.parts[1:], [j for j in (i - 1, i + 1) if 0 <= j <= last], strict=True
        ):
            assert set(rows(piece)) <= set(rows(pure[neighbour].train))
            at = piece.stored(torch.arange(3))  # and it is read in the neighbour's way
            mine: Any = pure[neighbour].train
            own_rows = rows(mine)
            where = torch.tensor([own_rows.index(r) for r in rows(piece)[:3]])
            assert torch.equal(at, mine.stored(where))
        assert (a.index, a.name) == (b.index, b.name)
        assert torch.equal(a.test.labels(), b.test.labels())  # type: ignore[union-attr]


def test_blur_names_the_classes_that_occur() -> None:
    blurry = build({**SPLIT, "blur": 0.4})
    assert [t.classes for t in blurry] == [
        tuple(range(4)), tuple(range(6)), tuple(range(2, 8)), tuple(range(4, 10)), tuple(range(6, 10)),
    ]  # fmt: skip
    assert all(set(t.train.labels().tolist()) == set(t.classes) for t in blurry)
    assert sorted(set(blurry[2].test.labels().tolist())) == [4, 5]  # type: ignore[union-attr]


def test_no_blur_is_no_change() -> None:
    for plain, same in zip(build(PERMUTED), build({**PERMUTED, "blur": 0.0, "repeats": 1}), strict=True):
        assert pieces(plain)[0][1] == pieces(same)[0][1] and len(pieces(same)) == 1
    assert len(build({**PERMUTED, "tasks": 1, "blur": 0.5})[0].train.parts) == 1  # there is no neighbour


def test_validation_is_never_trained_on_however_blurry() -> None:
    stream = build({**SPLIT, "samples": None, "blur": 0.5, "repeats": 2, "validation": 300})
    held = {r for task in stream for r in rows(task.validation)}
    assert not held & {r for task in stream for piece in task.train.parts for r in rows(piece)}


# --- repeats --------------------------------------------------------------------------------------


@each
def test_each_example_is_seen_in_one_visit(config: dict[str, Any]) -> None:
    once, thrice = build(config), build({**config, "repeats": 3})
    T = len(once)
    assert len(thrice) == 3 * T and [t.index for t in thrice] == list(range(3 * T))
    assert everything(once) == everything(thrice)
    for i, task in enumerate(thrice):
        again = once[i % T]
        assert task.name == again.name + (f" ({i // T + 1})" if i >= T else "")
        assert len(task.train) == [34, 33, 33][i // T]
        assert set(rows(task.train)) < set(rows(again.train))
        assert rows(task.test) == rows(again.test) and task.classes == again.classes
    visits = [set(rows(thrice[v * T].train)) for v in range(3)]
    assert not visits[0] & visits[1] and not visits[1] & visits[2]


def test_round_and_round_with_blurred_edges_from_its_config_again() -> None:
    stream = build({**SPLIT, "tasks": 3, "repeats": 2, "blur": 0.2, "boundaries": False})
    assert [t.name for t in stream] == ["0/1", "2/3", "4/5", "0/1 (2)", "2/3 (2)", "4/5 (2)"]
    assert stream[2].classes == (0, 1, 2, 3, 4, 5)  # after 4/5 comes 0/1 again
    assert everything(build(stream.config)) == everything(stream)
    assert everything(build(stream[1:4].config)) == everything(stream[1:4])


def test_a_run_over_visits_has_a_column_for_each() -> None:
    settings = Settings(
        tasks=2, samples=60, test_samples=40, hidden=(8,), batch_size=10, epochs=1, repeats=2, blur=0.2,
        boundaries=False, scenario="class",
    )  # fmt: skip
    e = Experiment("split", Replay(memory=20), settings)
    result = e.run()
    assert result.tasks == ["0/1", "2/3", "0/1 (2)", "2/3 (2)"]
    assert [len(row) for row in result.accuracy] == [4] * 5
    assert all(row[0] == row[2] and row[1] == row[3] for row in result.accuracy)  # the same test images
    assert Experiment.from_config(e.config()) == e


@pytest.mark.parametrize("option", [{"blur": 0.1}, {"repeats": 2}, {"boundaries": False}])
def test_a_stream_that_knows_no_such_option_says_so(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="means nothing to the stream noisy-clean"):
        Experiment("noisy-clean", Naive(), Settings(**option))
