"""The loop: its record, its order, its checkpoints' refusals, and what is left in the folder."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.laws.toy import ORDER, N, images, learner, stream, without_seconds

from retain import EWC, Interrupted, Joint, Naive, Order, Progress, Replay, batches, checkpoint, run
from retain.examples import Examples
from retain.record import Clock, Evaluator
from retain.result import Result
from retain.sitting import CHECKPOINT

STEPS = ORDER.steps(N)


@given(st.integers(1, 50), st.integers(1, 12), st.integers(1, 3), st.booleans(), st.data())
def test_every_epoch_goes_once_through_all_and_starts_anywhere(
    n: int, size: int, epochs: int, drop: bool, data: st.DataObject
) -> None:
    order = Order(epochs=epochs, batch_size=size, drop_last=drop)
    if drop and n < size:
        with pytest.raises(ValueError, match="fill no batch"):
            order.steps(n)
        return
    steps = [i.tolist() for i in order.indices(n, 3, 1)]
    assert len(steps) == order.steps(n)
    used = n - n % size if drop else n
    for e in range(epochs):
        part = [i for s in steps[e * order.per_epoch(n) : (e + 1) * order.per_epoch(n)] for i in s]
        assert len(part) == len(set(part)) == used and set(part) <= set(range(n))
    start = data.draw(st.integers(0, len(steps)))
    assert [i.tolist() for i in order.indices(n, 3, 1, start)] == steps[start:]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 30), st.data())
def test_iterations_begin_anew_as_often_as_needed(n: int, size: int, steps: int, data: st.DataObject) -> None:
    order = Order(iterations=steps, batch_size=size)
    found = [i.tolist() for i in order.indices(n, 0, 0)]
    assert len(found) == steps == order.steps(n)
    counts = Counter(i for part in found for i in part)
    assert max(counts.values()) - min(counts.get(i, 0) for i in range(n)) <= 1
    start = data.draw(st.integers(0, steps))
    assert [i.tolist() for i in order.indices(n, 0, 0, start)] == found[start:]


def test_the_order_is_a_function_of_seed_task_and_epoch() -> None:
    def order(seed: int, task: int) -> list[int]:
        return torch.cat(list(Order(epochs=2).indices(30, seed, task))).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(s, t)) for s in range(3) for t in range(3)}) == 9
    assert order(0, 0)[:30] != order(0, 0)[30:]


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"iterations": 0}, {"batch_size": 0}, {"epochs": 2, "iterations": 5}]
)
def test_orders_outside_their_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Order(**wrong)  # type: ignore[arg-type]


def test_batches_are_what_run_goes_through() -> None:
    data = Examples(*images([0, 1], 20, 0))
    found = [(x, y) for x, y in batches(data, Order(batch_size=8), 1, 2)]
    for (x, y), index in zip(found, Order(batch_size=8).indices(20, 1, 2), strict=True):
        assert torch.equal(x, data.batch(index)[0]) and torch.equal(y, data.batch(index)[1])


def test_what_a_run_records() -> None:
    told: list[Progress] = []
    one = learner(Naive())
    result = run(stream("domain"), one, ORDER, curve_every=2, curve_samples=15, progress=told.append)
    assert len(result.accuracy) == 4 and result.boundaries == [STEPS, 2 * STEPS, 3 * STEPS]
    within = [t * STEPS + s for t in range(3) for s in (2, 4)]
    assert result.curve.step == sorted([0, *within, *result.boundaries])
    assert [len(row) for row in result.curve.task] == [len(result.curve.step)] * 3
    assert [(p.task, p.step) for p in told] == [(t, s + 1) for t in range(3) for s in range(STEPS)]
    assert {(p.tasks, p.steps) for p in told} == {(3, STEPS)}
    assert all(a.seconds <= b.seconds for a, b in pairwise(told))
    last = [one.accuracy(t.test, t) for t in stream("domain")]  # type: ignore[arg-type]
    assert result.accuracy[-1] == last and result.seed == 0 and result.tasks == ["task 1", "task 2", "task 3"]


def test_the_untrained_row_is_of_the_network_before_anything() -> None:
    fresh = learner(Naive())
    fresh.start(stream("domain")[0].train)
    row = Evaluator(stream("domain"), 10).row(fresh)
    assert run(stream("domain"), learner(EWC()), ORDER).accuracy[0] == row


def test_the_curve_is_measured_on_a_fixed_sample_and_ends_agree_with_the_matrix_on_all() -> None:
    result = run(stream("domain"), learner(Naive()), ORDER, curve_every=0, curve_samples=10**6)
    assert result.curve.step == [0, STEPS, 2 * STEPS, 3 * STEPS]
    assert [list(row) for row in zip(*result.curve.task, strict=True)] == result.accuracy
    a, b = (Evaluator(stream("domain"), 15).samples for _ in range(2))
    assert all(torch.equal(p.x, q.x) and len(p) == 15 for p, q in zip(a, b, strict=True))


def test_evaluation_does_not_change_what_is_learned() -> None:
    ends = [run(stream("domain"), learner(Replay(), "cnn"), ORDER, curve_every=e).accuracy for e in (0, 1)]
    assert ends[0] == ends[1]


def test_what_is_left_in_the_folder(tmp_path: Path) -> None:
    result = run(stream("class"), learner(EWC()), ORDER, out=tmp_path / "deep" / "down", config={"mine": 1})
    folder = tmp_path / "deep" / "down"
    assert sorted(p.name for p in folder.iterdir()) == [CHECKPOINT, "result.json"]
    assert Result.load(folder / "result.json") == result and result.config == {"mine": 1}
    text = json.loads((folder / "result.json").read_text())
    assert set(text["versions"]) >= {"retain", "torch", "python"} and text["method"]["name"] == "ewc"
    assert text["state_bytes"] > 0 and text["examples_stored"] == 0


def test_nothing_is_written_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(stream("domain"), learner(EWC()), ORDER)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Interrupted):
        run(stream("domain"), learner(EWC()), ORDER, stop=lambda: True)
    with pytest.raises(ValueError, match="out="):
        run(stream("domain"), learner(EWC()), ORDER, resume=True)


def test_resume_in_an_empty_folder_begins(tmp_path: Path) -> None:
    fresh = run(stream("domain"), learner(EWC()), ORDER)
    assert without_seconds(run(stream("domain"), learner(EWC()), ORDER, out=tmp_path, resume=True)) == (
        without_seconds(fresh)
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"method": EWC(lam=3)}, "method"),
        ({"order": Order(batch_size=20)}, "batch_size"),
        ({"seed": 1}, "seed"),
        ({"stream": "class"}, "stream"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    with pytest.raises(Interrupted, match="task 1, step 1"):
        run(stream("domain"), learner(EWC()), ORDER, out=tmp_path, stop=lambda: True)
    before = (tmp_path / CHECKPOINT).read_bytes()
    other = learner(change.get("method", EWC()), seed=change.get("seed", 0))
    with pytest.raises(ValueError, match=rf"of another run: .*{named}"):
        run(
            stream(change.get("stream", "domain")),
            other,
            change.get("order", ORDER),
            out=tmp_path,
            resume=True,
        )
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_damaged_checkpoint_is_refused_not_begun_anew(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"half a file")
    with pytest.raises(checkpoint.BadCheckpoint, match="damaged"):
        run(stream("domain"), learner(EWC()), ORDER, out=tmp_path, resume=True)


def test_joint_goes_through_all_data_so_far_from_the_first_weights() -> None:
    sizes: list[int] = []
    one = learner(Joint())
    whole = one.observe

    def spy(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(x))
        return whole(x, *rest)

    one.observe = spy  # type: ignore[method-assign,assignment]
    result = run(stream("domain"), one, ORDER, curve_every=0)
    assert sum(sizes) == N * (1 + 2 + 3) and result.boundaries == [5, 15, 30]
    alone = learner(Naive())
    assert run(stream("domain")[:1], alone, ORDER).accuracy[-1][0] == result.accuracy[1][0]


def test_seconds_are_told_apart_and_add_up() -> None:
    seconds = run(stream("domain"), learner(EWC()), ORDER, curve_every=1).seconds
    parts = (seconds.train, seconds.consolidate, seconds.evaluate)
    assert min(parts) > 0 and sum(parts) <= seconds.total * 1.001
    clock = Clock()
    with clock.on("train"), clock.on("evaluate"):
        sum(range(200_000))
    assert clock.spent["evaluate"] > 5 * clock.spent["train"] > 0


def test_what_a_checkpoint_amid_a_task_holds_counts_the_time_up_to_it(monkeypatch) -> None:
    """Not less than none: a save within the first steps once told of negative seconds."""
    now = iter([10.0, 14.0, 15.0, 20.0])
    clock = Clock(since=0.0)
    monkeypatch.setattr("retain.record.time.perf_counter", lambda: next(now))
    with clock.on("train"), clock.on("save"):
        assert clock.spent == {"train": 4.0, "consolidate": 0.0, "evaluate": 0.0}
    assert clock.spent["train"] == 4.0 + 5.0


def test_a_stream_of_one_task_and_a_slice_that_begins_later() -> None:
    result = run(stream("domain")[:1], learner(EWC()), ORDER)
    assert result.bwt is None and len(result.accuracy) == 2
    later = run(stream("task")[1:], learner(EWC()), ORDER)
    assert later.tasks == ["task 2", "task 3"]


def test_confusions_are_counted_where_they_are_asked_for(tmp_path: Path) -> None:
    plain = run(stream("class"), learner(EWC()), ORDER, out=tmp_path / "plain")
    result = run(stream("class"), learner(EWC()), ORDER, record="confusions", out=tmp_path / "asked")
    tables = result.extras["confusions"]
    assert len(tables) == 4 and all(len(t) == 4 and len(t[0]) == 4 for t in tables)
    tests = [len(t.test) for t in stream("class") if t.test is not None]
    labels = torch.cat([t.test.y for t in stream("class") if t.test is not None])
    for table, row in zip(tables, result.accuracy, strict=True):
        assert [sum(counts) for counts in table] == labels.bincount(minlength=4).tolist()
        right = sum(table[c][c] for c in range(4))
        assert right == round(sum(n * a for n, a in zip(tests, row, strict=True)))
    assert result.accuracy == plain.accuracy and result.curve == plain.curve  # the same is learned
    assert plain.extras == {} and "extras" not in (tmp_path / "plain" / "result.json").read_text()
    assert "record" not in plain.config and result.config["record"] == "confusions"
    assert Result.load(tmp_path / "asked" / "result.json") == result


def test_confusions_are_whole_after_a_stop_and_the_checkpoint_of_a_run_without_is_refused(
    tmp_path: Path,
) -> None:
    whole = run(stream("class"), learner(EWC()), ORDER, record="confusions")
    seen = iter(range(10**6))
    with pytest.raises(Interrupted):
        run(
            stream("class"),
            learner(EWC()),
            ORDER,
            record="confusions",
            out=tmp_path,
            stop=lambda: next(seen) == 8,
        )
    again = run(stream("class"), learner(EWC()), ORDER, record="confusions", out=tmp_path, resume=True)
    assert again.extras == whole.extras
    with pytest.raises(ValueError, match="another run: record"):
        run(stream("class"), learner(EWC()), ORDER, out=tmp_path, resume=True)
