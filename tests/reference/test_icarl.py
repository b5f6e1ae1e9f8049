"""iCaRL: its loss term by term, its rule example by example, and the exemplars in every batch."""

from __future__ import annotations

import math

import pytest
import torch
from tests.laws.toy import CLASSES, learner, stream
from torch import Tensor

from retain import Learner, Order, batches, run
from retain.memory import herd
from retain.methods.icarl import ICaRL
from retain.types import HIDDEN, Batch


def amid(task: int, classes: str = "all", method: ICaRL | None = None) -> Learner:
    """A learner after the first steps of this task of the class stream."""
    one = learner(method or ICaRL(memory=20), scenario="class", classes=classes)
    for i in range(task + 1):
        t = stream("class")[i]
        one.begin_task(t)
        for x, y in list(batches(t.train, Order(batch_size=12)))[: 2 if i == task else None]:
            one.observe(x, y)
        if i < task:
            one.end_task()
    return one


def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v))


@pytest.mark.parametrize("classes", ["all", "seen"])
@pytest.mark.parametrize(("task", "T"), [(0, 1.0), (1, 1.0), (2, 1.0), (2, 2.0)])
def test_the_loss_is_algorithm_3s_term_by_term(task: int, classes: str, T: float) -> None:
    one = amid(task, classes, ICaRL(memory=20, temperature=T))
    method, problem = one.method, one._bound
    assert isinstance(method, ICaRL)
    x, y = stream("class")[task].train.batch(torch.arange(12))
    batch, _ = method.batch(problem, one.params, one.state, Batch(x, y, torch.full_like(y, HIDDEN)), one.rng)
    assert (len(batch.y) > 12) == (task > 0)
    old = [[], [0, 1], [0, 1, 2]][task]
    with torch.no_grad():
        g = problem.logits(one.params, batch.x, batch.task).tolist()
        q = problem.logits(one.state.previous, batch.x, batch.task).tolist() if task else g
    in_play = range(CLASSES) if classes == "all" else range(task + 2)
    total = 0.0
    for i, label in enumerate(batch.y.tolist()):
        for c in in_play:
            target = sigmoid(q[i][c] / T) if c in old else float(c == label)
            total -= target * math.log(sigmoid(g[i][c])) + (1 - target) * math.log(1 - sigmoid(g[i][c]))
    found = method.objective(problem, one.params, one.state, batch, one.rng)
    assert float(found.detach()) == pytest.approx(total / len(batch.y), rel=1e-4)


def test_it_predicts_the_nearest_mean_of_exemplars() -> None:
    one = learner(ICaRL(memory=20), scenario="class")
    run(stream("class")[:2], one, Order(batch_size=12))
    held = one.state.memory.all()
    unit = torch.nn.functional.normalize

    def f(x: Tensor) -> Tensor:
        return unit(one._bound.features(one.params, x), dim=1)

    x, _ = stream("class")[0].train.batch(torch.arange(20))
    means = [unit(f(held.x[held.y == c]).mean(0), dim=0) for c in range(3)]
    expected = torch.stack([-((f(x) - mu) ** 2).sum(1) for mu in means], 1)
    scores = one.method.predict(one._bound, one.params, one.state, x, torch.full((20,), HIDDEN))
    torch.testing.assert_close(scores[:, :3], expected, rtol=1e-5, atol=1e-5)
    assert bool((scores[:, 3] < scores[:, :3].amin(1)).all()) and bool(scores.isfinite().all())


def test_exemplars_are_herded_from_the_task_by_the_network_as_it_ended() -> None:
    one = learner(ICaRL(memory=8), scenario="class")
    task = stream("class")[0]
    run(stream("class")[:1], one, Order(batch_size=12))
    for c in (0, 1):
        x, _ = task.train.batch((task.train.labels() == c).nonzero()[:, 0])
        chosen = herd(one._bound.features(one.params, x), 4)
        assert torch.equal(one.state.memory.x[one.state.memory.y == c], x[chosen])


def test_trap_10_it_trains_on_its_exemplars_in_their_share_of_the_union() -> None:
    one = amid(1, method=ICaRL(memory=20))
    x, y = stream("class")[1].train.batch(torch.arange(12))
    batch, _ = one.method.batch(  # type: ignore[attr-defined]
        one._bound, one.params, one.state, Batch(x, y, torch.full_like(y, HIDDEN)), one.rng
    )
    assert len(batch.y) == 12 + round(12 * 20 / 60)
    held = one.state.memory.x.flatten(1)
    assert all(bool((held == row).all(1).any()) for row in batch.x[12:].flatten(1))
    assert batch.y[12:].max() < 2


def test_room_of_its_own_for_each_class_or_one_budget() -> None:
    for method, sizes in ((ICaRL(memory=7, per_class=True), [7] * 4), (ICaRL(memory=20), [5] * 4)):
        one = learner(method, scenario="class")
        result = run(stream("class"), one, Order(batch_size=12))
        assert list(one.state.memory.sizes) == sizes and result.examples_stored == sum(sizes)
        assert method.needs.growth == ("with classes" if method.per_class else "constant")


def test_it_holds_the_past_where_plain_training_does_not() -> None:
    one = learner(ICaRL(memory=20), scenario="class")
    result = run(stream("class"), one, Order(epochs=15, batch_size=12))
    assert min(result.accuracy[-1]) > 0.8


def test_no_exemplar_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ICaRL\.memory"):
        ICaRL(memory=0)
