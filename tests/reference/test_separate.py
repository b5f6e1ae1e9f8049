"""Separate: what plain training on each task alone gives, from the same first weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tests.laws.toy import ORDER, differing, learner, stream

from retain import Naive, Optim, run
from retain.examples import Examples
from retain.methods.separate import Separate


@pytest.mark.parametrize("optim", [Optim(lr=0.1), Optim("adam", lr=1e-2)], ids=["sgd", "adam"])
def test_each_network_is_naives_on_that_task_alone(optim: Optim) -> None:
    one = learner(Separate(), "mlp", optim=optim)
    whole = stream("task")
    run(whole, one, ORDER)
    for task in whole:
        alone = learner(Naive(), "mlp", optim=optim)
        run(dataclasses.replace(whole, tasks=(task,)), alone, ORDER)
        mine = one.state.networks[str(task.index)]
        assert differing(mine, {k: alone.params[k].detach() for k in mine}) == []


def test_earlier_tasks_outputs_stay_as_they_were_with_running_statistics_too() -> None:
    one = learner(Separate(), "cnn", scenario="task")
    expected = {}
    for task in stream("task"):
        one.begin_task(task)
        for k in range(5):
            one.observe(*task.train.batch(torch.arange(12 * k, 12 * k + 12)))
        one.end_task()
        assert isinstance(task.test, Examples)
        x = task.test.batch(torch.arange(20))[0]
        expected[task.index] = x, one.predict(x, task)
        for t, (x, old) in expected.items():
            assert torch.equal(one.predict(x, stream("task")[t]), old)
