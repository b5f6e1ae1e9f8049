"""A loss or a guard out of all bounds ends the run, says where and why, and spoils no checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.laws.toy import (
    CLASSES,
    METHODS,
    ORDER,
    N,
    Scenario,
    differing,
    go,
    home,
    images,
    kept,
    learner,
    mlp,
    stream,
)

from retain import EWC, Diverged, Learner, Method, Naive, Optim, Stream, batches, checkpoint, run
from retain.divergence import EVERY
from retain.sitting import CHECKPOINT

BAD = 17  # the example of task 2 that overflows


def poisoned(n: int = N, scenario: Scenario = "domain") -> Stream:
    """Three tasks of floats; one training example of the second is too large for float32 arithmetic."""
    arrays = []
    for t in range(3):
        (x, y), (x_test, y_test) = images([0, 1, 2, 3], n, t), images([0, 1, 2, 3], 20, 10 + t)
        x, x_test = x / 255, x_test / 255
        if t == 1:
            x[BAD] = 3e38
        arrays.append((x, y, x_test, y_test))
    return Stream.from_arrays(arrays, scenario)


def first_bad_step(method: Method[Any], n: int, seed: int = 0) -> int:
    """The step of task 2, from 1, whose batch holds the bad example."""
    size, row = (2 * n, n + BAD) if method.data == "all so far" else (n, BAD)
    return 1 + next(i for i, index in enumerate(ORDER.indices(size, seed, 1)) if row in index.tolist())


def first_bad_loss(method: Method[Any]) -> int:
    """The same by looking at every loss: with luck the overflow shows one step later, in the weights."""
    step, where = first_bad_step(method, N), poisoned(scenario=home(method))
    if method.data == "all so far":
        return step
    one = learner(method)
    one.follow(where)
    for task in where[:2]:
        one.begin_task(task)
        losses = [float(one.observe(x, y)) for x, y in batches(task.train, ORDER, 0, task.index)]
        if task.index == 0:
            one.end_task()
    found = 1 + next(i for i, loss in enumerate(losses) if not math.isfinite(loss))
    assert found in (step, step + 1)
    return found


@pytest.mark.parametrize("name", METHODS)
def test_trap_13_the_first_bad_step_is_named_and_the_last_good_checkpoint_kept(
    name: str, tmp_path: Path
) -> None:
    one = learner(METHODS[name])
    step = first_bad_loss(METHODS[name])
    with pytest.raises(Diverged, match="NaN or infinite") as error:
        run(poisoned(scenario=home(METHODS[name])), one, ORDER, out=tmp_path, checkpoint_seconds=1e9)
    assert (error.value.task, error.value.step) == (2, step)
    assert not (tmp_path / "result.json").exists()
    good = checkpoint.load(tmp_path / CHECKPOINT)
    assert (good["task"], good["step"]) == (1, -1)
    finite = [bool(p.isfinite().all()) for p in good["learner"]["params"].values()]
    assert all(finite)


@pytest.mark.parametrize("name", ["naive", "gem", "ewc"])
def test_trap_13_however_often_it_saves_no_bad_state_is_saved(name: str, tmp_path: Path) -> None:
    step = first_bad_step(METHODS[name], N)
    with pytest.raises(Diverged) as error:
        run(poisoned(), learner(METHODS[name]), ORDER, out=tmp_path, checkpoint_seconds=0)
    good = checkpoint.load(tmp_path / CHECKPOINT)
    assert (error.value.task, error.value.step) == (2, step)
    assert (good["task"], good["step"]) == ((1, step - 1) if step > 1 else (1, -1))


def test_trap_13_it_is_noticed_within_a_hundred_steps() -> None:
    n = 12 * 3 * EVERY
    seen: list[int] = []
    step = first_bad_step(Naive(), n)
    with pytest.raises(Diverged) as error:
        run(
            poisoned(n), learner(Naive()), ORDER, curve_every=0,
            progress=lambda p: seen.append(p.step) if p.task else None,
        )  # fmt: skip
    assert error.value.step == step <= 3 * EVERY
    assert max(seen) < step + EVERY


def test_trap_13_a_loop_of_ones_own_is_told_too() -> None:
    one = learner(Naive())
    one.begin_task(stream("domain")[0])
    batch = one.batch(torch.full((2, 1, 8, 8), 3e38), torch.tensor([0, 1]))
    one.loss(batch).backward()
    one.step()
    with pytest.raises(Diverged, match="task 1, step 1"):
        one.end_task()


def test_a_parameter_that_overflowed_behind_a_finite_loss_is_found() -> None:
    one = learner(Naive())
    one.begin_task(stream("domain")[0])
    with torch.no_grad():
        next(iter(one.model.parameters()))[0, 0] = torch.inf
    with pytest.raises(Diverged, match="a parameter became NaN or infinite"):
        one.end_task()


def test_ewc_far_too_strong_says_so_before_the_first_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"lr \* lam \* max F = .* > 2.*proximal") as error:
        run(stream("domain"), learner(EWC(lam=1e9)), ORDER, out=tmp_path)
    assert (error.value.task, error.value.step) == (2, 1)
    good = checkpoint.load(tmp_path / CHECKPOINT)
    assert (good["task"], good["step"]) == (1, -1)


def test_ewc_far_too_strong_under_momentum_ends_in_the_same_message() -> None:
    """No bound is known for this optimiser, so it is stopped when it has diverged, and told why."""
    optim = Optim("sgd", lr=0.1, momentum=0.9)
    with pytest.raises(Diverged, match=r"lr \* lam \* max F = .* > 2") as error:
        run(stream("domain"), learner(EWC(lam=1e30), optim=optim), ORDER)
    assert error.value.task == 2


@pytest.mark.parametrize("lam", [1.0, 1e3, 1e9, 1e30])
def test_the_proximal_form_runs_however_strong(lam: float) -> None:
    method = EWC(lam=lam, proximal=True)
    one, _ = go(method, on=stream("domain")[:1])
    before = kept(one)
    F, moment = before["state"].penalty[:2]
    one.begin_task(stream("domain")[1])
    for index in ORDER.indices(N, 0, 1):
        one.observe(*stream("domain")[1].train.batch(index))
    one.check()
    if lam >= 1e9:  # what matters at all holds fast; what matters to nothing is free
        for k, f in F.items():
            guarded = f > 1e-6
            moved = (one.params[k].detach() - moment[k] / f)[guarded]
            assert float(moved.abs().max()) < 1e-3
        assert differing(before["params"], dict(one.params))


@pytest.mark.parametrize("online", [False, True])
def test_the_bound_that_is_named_is_where_it_diverges(online: bool) -> None:
    """Just under it the guard pulls the stiffest parameter back; just over it flings it away."""
    for factor, holds in ((0.95, True), (1.05, False)):
        first = Learner(mlp(), EWC(), Optim(lr=0.1))
        run(stream("domain")[:1], first, ORDER)
        F = first.state.penalty.largest()
        method = EWC(lam=factor * 2 / (0.1 * F), online=online)
        one = Learner(first.model, method, Optim(lr=0.1))
        one.follow(stream("domain"))
        one.start(stream("domain")[0].train)
        one.state = first.state
        if not holds:
            with pytest.raises(Diverged):
                one.begin_task(stream("domain")[1])
            continue
        one.begin_task(stream("domain")[1])
        before = kept(one)
        for _ in range(60):
            one.observe(*stream("domain")[1].train.batch(torch.arange(N)))
        one.check()
        assert differing(before["params"], one.params)


def test_labels_that_the_network_has_no_output_for_are_refused() -> None:
    one = Learner(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, CLASSES - 1)), Naive())
    with pytest.raises(ValueError, match="the model 3 outputs"):
        one.begin_task(stream("domain")[0])
