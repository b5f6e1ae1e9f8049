"""PackNet: earlier tasks' outputs unchanged, no weight twice owned, pruning by size."""

from __future__ import annotations

import pytest
import torch
from tests.laws.toy import learner, stream
from tests.reference.earlier import OPTIMS, learn, outputs
from torch import Tensor

from retain import Optim
from retain.methods.packnet import PackNet


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("optim", OPTIMS, ids=["sgd", "momentum and decay", "adam"])
def test_earlier_tasks_outputs_stay_as_they_were(model: str, optim: Optim) -> None:
    one = learner(PackNet(prune=0.5), model, optim=optim, scenario="task")
    expected: dict[int, Tensor] = {}
    for task in stream("task"):
        learn(one, task)
        for t, old in expected.items():
            torch.testing.assert_close(outputs(one, stream("task")[t]), old, rtol=0, atol=1e-6)
        one.end_task()
        expected[task.index] = outputs(one, task)
    for t, old in expected.items():
        torch.testing.assert_close(outputs(one, stream("task")[t]), old, rtol=0, atol=1e-6)


def test_the_smallest_free_weights_are_pruned_and_stay_free() -> None:
    one = learner(PackNet(prune=0.75, retrain_epochs=0), "mlp", scenario="task")
    key, free = "1.weight", 16 * 64
    for n, task in enumerate(stream("task"), 1):
        learn(one, task)
        w, was_free = one.params[key].detach().clone(), torch.ones(16, 64, dtype=torch.bool)
        if n > 1:
            was_free = one.state.owner[key] == 0
        one.end_task()
        owner = one.state.owner[key]
        assert owner.dtype == torch.int16 and int(owner.max()) == n
        pruned, kept = was_free & (owner == 0), owner == n
        free = int(0.75 * free)
        assert int(pruned.sum()) == free and bool((one.params[key][pruned] == 0).all())
        assert w[pruned].abs().max() <= w[kept].abs().min()
        assert bool(was_free[kept].all()), "a weight has one owner"


def test_retraining_moves_the_tasks_own_weights_alone() -> None:
    one = learner(PackNet(prune=0.5, retrain_epochs=2), "mlp", scenario="task")
    learn(one, stream("task")[0])
    one.end_task()
    learn(one, stream("task")[1])
    before = one.params["1.weight"].detach().clone()
    one.end_task()
    owner, after = one.state.owner["1.weight"], one.params["1.weight"].detach()
    assert torch.equal(after[owner == 1], before[owner == 1])
    assert not torch.equal(after[owner == 2], before[owner == 2])
    assert bool((after[owner == 0] == 0).all())


def test_several_tasks_at_once_can_be_predicted_but_not_learned() -> None:
    one = learner(PackNet(), "mlp", scenario="task")
    for task in stream("task"):
        learn(one, task)
        one.end_task()
    parts = [stream("task")[t].train.batch(torch.arange(3))[0] for t in (2, 0, 1)]
    x, t = torch.cat(parts), torch.tensor([2] * 3 + [0] * 3 + [1] * 3)
    mixed = torch.tensor([0, 3, 6, 1, 4, 7, 2, 5, 8])
    with torch.no_grad():
        found = one.method.predict(one._bound, one.params, one.state, x[mixed], t[mixed])
        for k in range(3):
            mine = t[mixed] == k
            alone = one.method.predict(one._bound, one.params, one.state, x[mixed][mine], t[mixed][mine])
            torch.testing.assert_close(found[mine], alone)
    with pytest.raises(ValueError, match="one at a time"):
        one.observe(x, torch.zeros(9, dtype=torch.int64), t)
