"""Traps that sit in published code and concern methods, by their numbers in the project's list.

Traps 9 and 12 are in test_contract.py and test_runs.py, 13 in test_divergence.py, 1, 2 and 18 in
tests/reference/test_fisher.py, 16 and 17 for the memories themselves in tests/unit/test_memory.py.
"""

from __future__ import annotations

import pytest
import torch
from tests.laws.toy import CLASSES, ORDER, go, images, learner, mlp, stream

from retain import EWC, GEM, GenerativeReplay, Learner, Order, Replay, Stream, run
from retain.curvature import fisher
from retain.examples import Examples
from retain.types import HIDDEN, Batch, Task, cross_entropy

TINY = {"generator_hidden": (32,), "latent": 8}


def test_trap_6_ewc_consolidates_after_the_last_task_too() -> None:
    one, _ = go(EWC(online=True, examples=None))
    weight, moment = one.state.penalty.weight, one.state.penalty.moment
    assert all(torch.equal(moment[k], weight[k] * one.params[k]) for k in weight)
    last = stream("domain")[2].train
    F = fisher(one._bound, one.params, last, HIDDEN, one.rng)
    gained = {k: one.state.penalty.weight[k] - F[k] for k in F}
    assert all(bool((g >= -1e-7).all()) for g in gained.values())


def test_trap_7_a_class_out_of_play_has_no_part_in_the_loss() -> None:
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = torch.tensor([1, 3, 1, 3, 3, 1])
    allowed = torch.tensor([False, True, False, True, False]).expand(6, -1)
    loss = cross_entropy(logits, y, allowed)
    alone = torch.nn.functional.cross_entropy(logits[:, [1, 3]], y // 2, reduction="none")
    torch.testing.assert_close(loss, alone)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    assert torch.equal(grad[:, [0, 2, 4]], torch.zeros(6, 3)) and bool((grad[:, [1, 3]] != 0).all())


def test_trap_7_soft_targets_among_classes_in_play_are_finite_in_value_and_gradient() -> None:
    logits = torch.randn(3, 4).requires_grad_()
    allowed = torch.tensor([[True, True, False, False]]).expand(3, -1)
    target = torch.tensor([[0.25, 0.75, 0.0, 0.0]]).expand(3, -1)
    loss = cross_entropy(logits, target, allowed)
    torch.testing.assert_close(loss, -(target[:, :2] * logits[:, :2].log_softmax(1)).sum(1))
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    assert bool(grad.isfinite().all()) and torch.equal(grad[:, 2:], torch.zeros(3, 2))


def test_trap_7_in_the_class_scenario_seen_classes_alone_move_the_head() -> None:
    one = learner(EWC())
    run(stream("class", "seen")[:1], one, ORDER)
    fresh = learner(EWC()).model
    new, old = one.model.get_parameter("3.weight"), fresh.get_parameter("3.weight")
    assert torch.equal(new[2:], old[2:]) and not torch.equal(new[:2], old[:2])


@pytest.mark.parametrize("generator", ["mlp", "conv"])
def test_trap_14_the_generator_has_an_optimiser_of_its_own_parameters(generator: str) -> None:
    method = GenerativeReplay(generator=generator, generator_hidden=(8,), latent=3)  # type: ignore[arg-type]
    one = learner(method)
    one.begin_task(stream("domain")[0])
    start = {k: p.detach().clone() for k, p in one.params.items()}
    held = {
        prefix: {id(p) for group in o.param_groups for p in group["params"]}
        for prefix, o in one.stepper.optimizers.items()
    }
    solver = {id(p) for p in one.model.parameters()}
    assert held == {"": solver, "vae.": {id(p) for k, p in one.params.items() if k.startswith("vae.")}}
    x, y = stream("domain")[0].train.batch(torch.arange(12))
    for _ in range(2):  # behind a ReLU that is dead at first, a parameter waits for the second step
        one.observe(x, y)
    still = [k for k, p in one.params.items() if torch.equal(p, start[k])]
    assert still == []


@pytest.mark.parametrize("normalise", [None, (0.3, 0.25)])
def test_trap_15_what_is_generated_lies_where_the_streams_images_lie(
    normalise: tuple[float, float] | None,
) -> None:
    x, y = images([0, 1, 2, 3], 40, 0)
    data = Examples(x, y, normalise=normalise)
    tasks = tuple(Task(t, str(t), data, data, None, (0, 1, 2, 3)) for t in range(2))
    method = GenerativeReplay(**TINY, generator_lr=0.01)  # type: ignore[arg-type]
    one = learner(method)
    run(Stream("own", tasks, "domain", CLASSES), one, Order(epochs=60, batch_size=20), curve_every=0)
    spec = one._bound.spec
    assert spec.range is not None and spec.range == data.range
    with torch.no_grad():
        made = method._generate(spec, one.params, 200, torch.Generator().manual_seed(0))
    low, high = spec.range
    assert float(made.min()) >= low and float(made.max()) <= high
    truth, _ = data.batch(torch.arange(40))
    spread = float(truth.mean(0).std())
    assert float((made.mean(0) - truth.mean(0)).abs().mean()) < 0.5 * spread, "not the stream's images"


def test_trap_15_generative_replay_keeps_what_it_knew() -> None:
    """And not by dreaming noise: naive training on the same stream loses much more."""
    order = Order(epochs=60, batch_size=20)
    method = GenerativeReplay(**TINY, generator_lr=0.01)  # type: ignore[arg-type]
    replayed, naive = learner(method), learner(Replay(memory=0))
    ours, theirs = (run(stream("class"), each, order, curve_every=0) for each in (replayed, naive))
    assert ours.accuracy[-1][0] > theirs.accuracy[-1][0] + 0.3
    assert min(ours.accuracy[-1]) > 0.5


def test_trap_16_in_the_domain_scenario_later_tasks_find_room_in_the_memory() -> None:
    one = Learner(mlp(), Replay(memory=24, select="balanced"))
    for i, task in enumerate(stream("domain")):
        run_one(one, task)
        groups, counts = one.state.memory.group.unique(return_counts=True)
        assert set((groups >> 32).tolist()) == set(range(i + 1))
        assert int(counts.max()) - int(counts.min()) <= 1


def run_one(one: Learner, task: Task) -> None:
    one.begin_task(task)
    for index in ORDER.indices(len(task.train), 0, task.index):
        one.observe(*task.train.batch(index))
    one.end_task()


def test_trap_17_gem_reads_no_row_of_its_ring_that_was_never_written() -> None:
    one = learner(GEM(memory_per_task=1000))
    one.scenario = "task"
    run(stream("task"), one, ORDER)
    x, y, task = one.state.past
    assert one.state.sizes == (60, 60, 60) and len(x) == len(y) == len(task) == 180
    for i, each in enumerate(stream("task")):
        ours, truth = x[60 * i : 60 * i + 60], each.train.batch(torch.arange(60))[0]
        assert sorted(ours.sum((1, 2, 3)).tolist()) == sorted(truth.sum((1, 2, 3)).tolist())
        assert task[60 * i : 60 * i + 60].unique().tolist() == [i]


def test_replayed_examples_are_labelled_by_the_previous_solver_among_classes_it_knows() -> None:
    one, _ = go(GenerativeReplay(**TINY), "class")  # type: ignore[arg-type]
    method = one.method
    assert isinstance(method, GenerativeReplay)
    known = torch.tensor([True, True, False, False])
    state = one.state._replace(known=known, past=(HIDDEN,))
    new = Batch(*stream("class")[1].train.batch(torch.arange(8)), torch.full((8,), HIDDEN))
    old = method._replay(one._bound, state, new, 50, one.rng)
    assert bool((old.y < 2).all()) and bool((old.task == HIDDEN).all())
    mixed, _ = method.batch(one._bound, one.params, state, new, one.rng)
    assert mixed.weight is not None
    torch.testing.assert_close(mixed.weight[:8].sum(), torch.tensor(0.5))
    torch.testing.assert_close(mixed.weight.sum(), torch.tensor(1.0))


def test_a_stream_that_begins_later_can_be_learned_with_generative_replay() -> None:
    """Its tasks are numbered 1 and 2: none is called 0."""
    order = Order(epochs=40, batch_size=20)
    method = GenerativeReplay(**TINY, generator_lr=0.01)  # type: ignore[arg-type]
    one = learner(method, scenario="task")
    run(stream("task")[1:], one, order, curve_every=0)
    new = Batch(*stream("task")[2].train.batch(torch.arange(8)), torch.full((8,), 2))
    old = method._replay(one._bound, one.state, new, 40, one.rng)
    assert set(old.task.tolist()) <= {1, 2}
    assert bool((old.y > 0).all()), "class 0 belongs to no task that it learned"
