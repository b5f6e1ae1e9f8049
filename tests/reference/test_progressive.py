"""Progressive networks: eq. 1 written out, frozen columns, and no gradient into the past."""

from __future__ import annotations

import pytest
import torch
from tests.laws.toy import ORDER, learner, stream
from tests.reference.earlier import OPTIMS, learn, outputs
from torch import Tensor, nn

from retain import Learner, Optim, batches
from retain.methods.progressive import Progressive
from retain.types import Task


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("optim", OPTIMS, ids=["sgd", "momentum and decay", "adam"])
def test_earlier_tasks_outputs_stay_as_they_were(model: str, optim: Optim) -> None:
    one = learner(Progressive(lateral_lr=0.05), model, optim=optim, scenario="task")
    expected: dict[int, Tensor] = {}
    for task in stream("task"):
        learn(one, task)
        one.end_task()
        expected[task.index] = outputs(one, task)
        for t, old in expected.items():
            torch.testing.assert_close(outputs(one, stream("task")[t]), old, rtol=0, atol=1e-6)


def mlp3() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, 7), nn.ReLU(), nn.Linear(7, 4)
    )


def test_columns_are_eq_1_written_out() -> None:
    one = Learner(mlp3(), Progressive(lateral_lr=0.05), Optim(lr=0.1), scenario="task")
    for task in stream("task"):
        learn(one, task)
        one.end_task()
    x = stream("task")[2].train.batch(torch.arange(30))[0].flatten(1)
    taken: dict[str, list[Tensor]] = {"3": [], "5": []}
    for k, column in enumerate(one.state.columns):
        h = x
        for layer in ("1", "3", "5"):
            z = h @ column[f"{layer}.weight"].T + column[f"{layer}.bias"]
            if layer != "1":
                U = one.params[f"lateral.{k}.{layer}"].detach()
                assert U.shape == (len(z.T), k * h.shape[1]) and (k == 0 or U.abs().max() > 0)
                for j, older in enumerate(taken[layer]):
                    z = z + older @ U[:, j * h.shape[1] : (j + 1) * h.shape[1]].T
                taken[layer].append(h)
            h = torch.relu(z)
        torch.testing.assert_close(z[:, :], _column(one, k, x), rtol=1e-4, atol=1e-5)


def _column(one: Learner, k: int, x: Tensor) -> Tensor:
    with torch.no_grad():
        task = torch.full((len(x),), k)
        return one.method.predict(one._bound, one.params, one.state, x.view(-1, 1, 8, 8), task)


def test_all_columns_begin_at_the_models_first_weights() -> None:
    one = Learner(mlp3(), Progressive(), Optim(lr=0.1), scenario="task")
    start = {k: p.detach().clone() for k, p in one.model.named_parameters()}
    for task in stream("task"):
        one.begin_task(task)
        assert all(torch.equal(one.params[k], v) for k, v in start.items())
        one.observe(*task.train.batch(torch.arange(12)))
        one.end_task()


def test_what_was_learned_helps_where_the_new_column_alone_has_little() -> None:
    """The second task is the first one again, learned for two steps: the older column is read."""
    first = stream("task")[0]
    again = Task(1, "again", first.train, first.test, None, first.classes)
    scores = []
    for lateral_lr in (1e-12, 0.05):
        one = Learner(mlp3(), Progressive(lateral_lr=lateral_lr), Optim(lr=1e-3), scenario="task")
        one.begin_task(first)
        one.stepper.base[""] = [0.3]  # the first column is learned well
        for _ in range(10):
            for x, y in batches(first.train, ORDER):
                one.observe(x, y)
        one.end_task()
        one.begin_task(again)
        losses = [float(one.observe(x, y)) for x, y in batches(again.train, ORDER)]
        scores.append(losses[-1])
    assert scores[1] < scores[0] - 0.05


@pytest.mark.parametrize("model", [nn.Sequential(nn.Flatten(), nn.Linear(64, 4))])
def test_a_network_without_a_second_layer_is_refused(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="at least two"):
        Learner(model, Progressive(), scenario="task").begin_task(stream("task")[0])
