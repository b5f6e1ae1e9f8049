"""Laws of whole runs: the same bits again, after a stop, in a loop of one's own, and at strength 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.laws.toy import (
    DEFAULTS,
    EXCEPT,
    METHODS,
    ORDER,
    PAIRS,
    SCENARIOS,
    SMALL,
    N,
    Scenario,
    differing,
    go,
    home,
    kept,
    learner,
    load_result,
    stream,
    without_seconds,
)

from retain import (
    EWC,
    GEM,
    L2,
    MAS,
    SI,
    GradientMethod,
    Interrupted,
    Learner,
    LwF,
    Method,
    Naive,
    Optim,
    Replay,
    RWalk,
    batches,
    chain,
    checkpoint,
    run,
)  # fmt: skip
from retain.combine import Chain
from retain.examples import Examples
from retain.methods import discover
from retain.sitting import CHECKPOINT
from retain.streams import build

each_method = pytest.mark.parametrize("name", METHODS)
each_scenario = pytest.mark.parametrize("scenario", SCENARIOS)
each_pair = pytest.mark.parametrize(("name", "scenario"), PAIRS)


def hooks(method: Method[Any]) -> bool:
    """Whether it learns the current task step by step, so that it can be chained and put in any loop."""
    return isinstance(method, GradientMethod) and method.data == "task"


LESS_PLAIN: list[dict[str, Any]] = [
    {},
    {"optim": Optim("sgd", lr=0.05, momentum=0.9, weight_decay=1e-3), "schedule": "cosine", "clip": 1.0},
    {"optim": Optim("adam", lr=1e-3), "schedule": "cosine", "reset_optimizer": True, "model": "cnn"},
    {"optim": Optim("adamw", lr=1e-3), "schedule": "linear", "model": "cnn"},
]


def test_every_method_in_the_folder_is_under_these_laws() -> None:
    assert set(DEFAULTS) == set(discover()) and set(SMALL) <= set(discover())
    assert {type(m) for m in METHODS.values()} == set(discover().values())


@each_pair
def test_same_seed_same_bits(name: str, scenario: Scenario) -> None:
    (one, first), (two, second) = (go(METHODS[name], scenario, "cnn") for _ in range(2))
    assert differing(kept(one), kept(two)) == []
    assert without_seconds(first) == without_seconds(second)


@each_method
def test_another_seed_gives_other_bits(name: str) -> None:
    one, two = learner(METHODS[name]), learner(METHODS[name])
    two.seed = 1  # the order of the data alone
    for each in (one, two):
        run(stream(home(METHODS[name])), each, ORDER, curve_every=0)
    if name not in EXCEPT["order of the data"]:
        assert differing(kept(one), kept(two))
    other, _ = go(METHODS[name], seed=1)
    assert differing(kept(one), kept(other))


LAST = -1  # the last step of a task


def steps_until(method: Method[Any], task: int, step: int) -> int:
    """Steps of a whole run up to this one; joint goes through more data in each task."""
    sizes = [ORDER.steps(N * (k + 1 if method.data == "all so far" else 1)) for k in range(task + 1)]
    return sum(sizes[:-1]) + (sizes[-1] if step == LAST else step)


class Crash(Exception):
    """As sudden as kill -9, but within the process."""


def until(task: int, step: int, moment: str, out: Path, one: Learner, scenario: Scenario) -> None:
    """Run until a moment: a polite stop after `step`, or a crash right before or after `end_task`."""
    number, stop_at = 0, steps_until(one.method, task, step)

    def stop() -> bool:
        nonlocal number
        number += 1
        return moment == "stop" and number == stop_at

    if moment == "crash in end_task":
        whole = one.end_task

        def crash() -> None:
            if one.tasks == task + 1:
                raise Crash
            whole()

        one.end_task = crash  # type: ignore[method-assign]
    if moment == "crash in begin_task":
        beginning = one.begin_task

        def crash_at_the_start(*args: Any) -> None:
            if one.tasks == task:
                raise Crash
            beginning(*args)

        one.begin_task = crash_at_the_start  # type: ignore[method-assign,assignment]
    with pytest.raises((Interrupted, Crash)):
        run(stream(scenario), one, ORDER, curve_every=2, out=out, stop=stop)


MOMENTS = [
    (1, 2, "stop"),  # amid a task
    (1, LAST, "stop"),  # after its last step
    (0, 1, "stop"),
    (2, 3, "stop"),
    (1, 0, "crash in end_task"),
    (2, 0, "crash in begin_task"),
]


# Every method at a stop and at a crash, which ones in turn; the first ones at every moment.
EVERY = {"naive", "ewc", "gem", "replay", "generative-replay"}
STOPS = [
    (name, n)
    for i, name in enumerate(METHODS)
    for n in range(len(MOMENTS))
    if name in EVERY or n in (i % 4, 4 + i % 2)
]


def scenario_of(name: str, n: int) -> Scenario:
    """The scenarios that a method can be used in, in turn."""
    allowed = METHODS[name].needs.scenarios
    return allowed[n % len(allowed)]


@pytest.mark.parametrize(("name", "n"), STOPS)
def test_a_run_taken_up_again_ends_in_the_same_bits(name: str, n: int, tmp_path: Path) -> None:
    task, step, moment = MOMENTS[n]
    settings = dict(LESS_PLAIN[n % 4])
    scenario = scenario_of(name, n + list(METHODS).index(name))
    method, model = METHODS[name], settings.pop("model", "mlp")
    undisturbed = learner(method, model, **settings)
    whole = run(stream(scenario), undisturbed, ORDER, curve_every=2)

    until(task, step, moment, tmp_path, learner(method, model, **settings), scenario)
    assert not (tmp_path / "result.json").exists()
    second = learner(method, model, **settings)
    torch.manual_seed(98)  # whatever a new process's global generator is at
    result = run(stream(scenario), second, ORDER, curve_every=2, out=tmp_path, resume=True)

    assert differing(kept(undisturbed), kept(second)) == []
    assert differing(undisturbed.snapshot(), second.snapshot()) == []
    assert without_seconds(whole) == without_seconds(result)
    assert without_seconds(load_result(tmp_path)) == without_seconds(whole)


@pytest.mark.parametrize("name", ["ewc", "gem", "replay"])
def test_a_finished_run_taken_up_again_gives_its_result_again(name: str, tmp_path: Path) -> None:
    first = run(stream("domain"), learner(METHODS[name]), ORDER, out=tmp_path)
    again = run(stream("domain"), learner(METHODS[name]), ORDER, out=tmp_path, resume=True)
    assert without_seconds(first) == without_seconds(again)


# Every setting, each in one scenario.
@pytest.mark.parametrize("settings", range(4))
@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if hooks(m)])
def test_a_loop_of_ones_own_ends_in_the_same_bits(name: str, settings: int) -> None:
    scenario = scenario_of(name, settings)
    more = dict(LESS_PLAIN[settings])
    model = more.pop("model", "mlp")
    ran = learner(METHODS[name], model, **more)
    run(stream(scenario), ran, ORDER, curve_every=2)
    own = learner(METHODS[name], model, scenario=scenario, **more)
    for task in stream(scenario):
        own.begin_task(task, ORDER.steps(len(task.train)))
        for x, y in batches(task.train, ORDER, own.seed, task.index):
            batch = own.batch(x, y)
            loss = own.loss(batch)
            loss.backward()
            own.step()
        own.end_task()
    assert differing(kept(ran), kept(own)) == []
    assert all(p.grad is None for p in own.model.parameters())


NOTHING: dict[str, Method[Any]] = {
    "l2": L2(lam=0),
    "si": SI(c=0),
    "mas": MAS(lam=0),
    "rwalk": RWalk(lam=0),
    "lwf": LwF(lam=0),
    "ewc": EWC(lam=0),
    "ewc-proximal": EWC(lam=0, proximal=True),
    "replay": Replay(memory=0),
    "replay-balanced": Replay(memory=0, select="balanced"),
    "replay-tasks": Replay(memory=0, select="random", weighting="tasks"),
    "gem": GEM(memory_per_task=0),
    "gem-random": GEM(memory_per_task=0, choice="random"),
    "chain": chain(Replay(memory=0), EWC(lam=0)),
}


@each_scenario
@pytest.mark.parametrize("name", NOTHING)
def test_without_strength_or_memory_it_is_naive(name: str, scenario: Scenario) -> None:
    naive, expected = go(Naive(), scenario, "cnn")
    found, result = go(NOTHING[name], scenario, "cnn")
    assert differing(naive.params, found.params) == []
    assert result.accuracy == expected.accuracy and result.examples_stored == 0


@pytest.mark.parametrize("name", [n for n in METHODS if n not in EXCEPT["naive on the first task"]])
def test_the_first_task_is_learned_as_naive_learns_it(name: str) -> None:
    """There is no past to guard yet: the solver, if not what a method has beside it, is naive's."""
    first = stream(home(METHODS[name]))[:1]
    naive, found = (go(m, model="cnn", on=first)[0] for m in (Naive(), METHODS[name]))
    other = differing(naive.params, {k: found.params[k] for k in naive.params})
    assert other == [], (
        f"{name} learns the first task otherwise than naive. If it is meant to, name it with the reason in "
        'tests/laws/toy.py, EXCEPT["naive on the first task"]'
    )


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if hooks(m)])
def test_a_chain_of_one_is_that_one(name: str) -> None:
    method = METHODS[name]
    assert isinstance(method, GradientMethod)
    assert chain(method) is method
    scenario = method.needs.scenarios[-1]
    alone, expected = go(method, scenario, "cnn")
    chained, result = go(Chain((method,)), scenario, "cnn")
    assert differing(kept(alone), {"params": chained.params, "state": chained.state[0]}) == []
    assert result.accuracy == expected.accuracy and result.diagnostics == expected.diagnostics


@pytest.mark.parametrize("methods", [(), (DEFAULTS["joint"],), (METHODS["generative-replay"],) * 2])
def test_what_cannot_be_chained_is_refused(methods: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, ValueError), match="chain"):
        chain(*methods)


def test_a_chain_learns_and_a_run_of_it_can_be_taken_up_again(tmp_path: Path) -> None:
    method = chain(Replay(memory=50, replay_batch=4), EWC(lam=1))
    whole, result = go(method)
    assert min(result.accuracy[i + 1][i] for i in range(3)) > 0.3 > result.accuracy[0][0] - 0.3
    assert result.examples_stored == 50 and result.method["name"] == "chain"
    until(1, 2, "stop", tmp_path, learner(method), "domain")
    second = learner(method)
    run(stream("domain"), second, ORDER, curve_every=2, out=tmp_path, resume=True)
    assert differing(kept(whole), kept(second)) == []


@each_method
def test_what_is_learned_can_be_told_from_chance(name: str) -> None:
    """Trained for long enough each method masters the newest task, or, if it holds fast, the first."""
    one = learner(METHODS[name])
    where = stream(home(METHODS[name]))
    task = where[0]
    one.follow(where)
    one.begin_task(task)
    for _ in range(20):
        for x, y in batches(task.train, ORDER):
            one.observe(x, y)
    one.end_task()
    assert isinstance(task.test, Examples)
    assert one.accuracy(task.test, task) > 0.9


@each_method
def test_state_comes_back_from_a_checkpoint_as_it_was(name: str, tmp_path: Path) -> None:
    one, _ = go(METHODS[name])
    tree = one.snapshot()
    checkpoint.save(tmp_path / CHECKPOINT, tree)
    assert differing(checkpoint.load(tmp_path / CHECKPOINT), tree) == []


@each_method
def test_trap_12_the_stream_is_the_same_whatever_method_ran(name: str) -> None:
    """A stream that draws from the generator which replay also consumes gives each method other tasks."""
    config: dict[str, Any] = {"name": "permuted", "tasks": 3, "samples": 20, "test_samples": 10}
    torch.manual_seed(1)
    before = build(config)
    one = learner(METHODS[name])
    run(stream(home(METHODS[name])), one, ORDER, curve_every=0)
    after = build(config)
    for a, b in zip(before, after, strict=True):
        x, y = a.train.batch(torch.arange(20))
        again_x, again_y = b.train.batch(torch.arange(20))
        assert torch.equal(x, again_x) and torch.equal(y, again_y)
