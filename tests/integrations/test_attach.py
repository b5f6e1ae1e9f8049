"""A method around somebody else's loop: the trainer's bits, and no more said than must be."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.laws.toy import METHODS, ORDER, Scenario, clone, differing, home, kept, leaves, mlp, stream
from tests.laws.toy import learner as fresh
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import retain
from retain import EWC, GEM, HAT, L2, SI, Examples, GradientMethod, Method, Naive, Replay, RWalk
from retain.integrations.attach import Attached
from retain.integrations.steps import has_hook
from retain.methods import discover
from retain.seeds import derive

AROUND = [n for n, m in METHODS.items() if isinstance(m, GradientMethod) and m.data == "task"]
PENALTIES = [
    n for n in AROUND if n.startswith(("naive", "l2", "ewc", "si", "mas", "kfac", "ncl", "gpm", "owm"))
]
Optimizer = Callable[[nn.Module], torch.optim.Optimizer]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    """In two groups, one with weight decay."""
    weights = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": 0.1}, {"params": others}]
    return torch.optim.AdamW(groups, lr=1e-3)


def attached(method: Method[Any], model: str = "mlp", seed: int = 0, **more: Any) -> Attached:
    """Around the network that `fresh` starts with."""
    torch.manual_seed(derive(seed, "model"))
    return retain.attach(fresh(method, model, seed).model, method, seed=seed, **more)


def by_the_trainer(
    method: Method[Any], scenario: Scenario, make: Optimizer, model: str = "mlp"
) -> retain.Learner:
    one = fresh(method, model)
    two = retain.Learner(one.model, method, make(one.model))
    two.rng.set_state(one.rng.get_state())
    torch.manual_seed(7)
    retain.run(stream(scenario), two, ORDER, curve_every=0, evaluate="current")
    return two


def loop(
    one: Attached, scenario: Scenario, optimizer: torch.optim.Optimizer, first: int = 0,
    loss_of: Callable[[Tensor, Tensor], Tensor] | None = None, stop: tuple[int, int] = (-1, -1), skip: int = 0,
) -> None:  # fmt: skip
    """The loop of somebody who has never heard of this package, but for the marked lines."""
    for task in list(stream(scenario))[first:]:
        one.begin_task(task)  # added
        for step, (x, y) in enumerate(retain.batches(task.train, ORDER, 0, task.index)):
            if task.index == first and step < skip:
                continue
            one.learner.model.train()
            loss = (loss_of or one.loss)(x, y)  # was: criterion(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if (task.index, step) == stop:
                return
        one.end_task()  # added


def same(one: Attached, two: retain.Learner) -> list[str]:
    found, expected = kept(one.learner), kept(two)
    return differing(found, expected)


@pytest.mark.parametrize("name", AROUND)
def test_the_bits_are_the_trainers(name: str) -> None:
    method = METHODS[name]
    scenario = home(method)
    two = by_the_trainer(method, scenario, sgd)
    one = attached(method, scenario=scenario, classes=stream(scenario).classes)
    torch.manual_seed(7)
    loop(one, scenario, sgd(one.learner.model))
    assert same(one, two) == []
    assert one.tasks == len(stream(scenario))


@pytest.mark.parametrize("name", ["naive", "ewc", "gem", "replay", "si", "rwalk", "lwf", "packnet"])
def test_with_batchnorm_dropout_groups_and_moments_too(name: str) -> None:
    method = METHODS[name]
    two = by_the_trainer(method, home(method), adam, "cnn")
    one = attached(method, "cnn", scenario=home(method))
    torch.manual_seed(7)
    loop(one, home(method), adam(one.learner.model))
    assert same(one, two) == []


@pytest.mark.parametrize("name", PENALTIES)
def test_the_loops_own_forward_and_criterion_stay(name: str) -> None:
    method = METHODS[name]
    two = by_the_trainer(method, "domain", sgd)
    one = attached(method)
    criterion = nn.CrossEntropyLoss()
    loop(one, "domain", sgd(one.learner.model), loss_of=lambda x, y: criterion(one.learner.model(x), y))
    assert same(one, two) == []


def test_naive_around_a_loop_changes_nothing() -> None:
    torch.manual_seed(0)
    plain, one = mlp(), None
    around = mlp()
    around.load_state_dict(plain.state_dict())
    one = retain.attach(around, Naive())
    for model in (plain, around):
        optimizer = adam(model)
        for task in stream("domain"):
            if model is around:
                one.begin_task(task)
            for x, y in retain.batches(task.train, ORDER, 0, task.index):
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
            if model is around:
                one.end_task()
    assert differing(dict(around.state_dict()), dict(plain.state_dict())) == []


# ---- what real loops do ----


@pytest.mark.parametrize(
    "method", [EWC(lam=10), SI(), Replay(memory=30), RWalk(every=2)], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize("stop", [(1, 2), (1, 4)])
def test_saved_amid_a_task_it_goes_on_with_the_same_bits(
    method: Method[Any], stop: tuple[int, int], tmp_path: Path
) -> None:
    whole = attached(method, "cnn")
    optimizer = adam(whole.learner.model)
    torch.manual_seed(7)
    loop(whole, "domain", optimizer)

    first = attached(method, "cnn")
    optimizer = adam(first.learner.model)
    torch.manual_seed(7)
    loop(first, "domain", optimizer, stop=stop)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3  # the scheduler's affair, and saved
    first.save(tmp_path / "a.safetensors", extra={"epoch": 3})
    first.detach()

    again = attached(method, "cnn")
    optimizer = torch.optim.AdamW(
        [{"params": g["params"], "weight_decay": g["weight_decay"]} for g in adam(again.learner.model).param_groups],
        lr=0.7,
    )  # fmt: skip
    torch.manual_seed(99)
    assert again.load(tmp_path / "a.safetensors") == {"epoch": 3}
    assert (again.tasks, again.steps) == (stop[0], stop[1] + 1)
    loop(again, "domain", optimizer, first=again.tasks, skip=again.steps)
    assert same(again, whole.learner) == []


def test_saved_between_tasks_it_predicts_and_learns_on(tmp_path: Path) -> None:
    one = attached(GEM(), scenario="task")
    task = stream("task")[0]
    loop(one, "task", sgd(one.learner.model))
    one.save(tmp_path / "a.safetensors")
    two = attached(GEM(), seed=5, scenario="task")
    two.load(tmp_path / "a.safetensors")
    x = task.train.batch(torch.arange(9))[0]
    assert torch.equal(two.predict(x, 0), one.predict(x, 0))
    assert two.tasks == 3
    with pytest.raises(ValueError, match="predict needs the task, one of 0, 1, 2; got None"):
        two.predict(x)
    loop(two, "task", sgd(two.learner.model), first=2)
    assert two.tasks == 4


def test_weights_may_be_left_to_the_loop(tmp_path: Path) -> None:
    one = attached(EWC(lam=10), "cnn")
    loop(one, "domain", adam(one.learner.model), stop=(1, 2))
    one.save(tmp_path / "without.safetensors", weights=False)
    one.save(tmp_path / "with.safetensors")
    assert (tmp_path / "without.safetensors").stat().st_size < (tmp_path / "with.safetensors").stat().st_size
    two = attached(EWC(lam=10), "cnn", seed=5)
    before = clone(dict(two.learner.model.state_dict()))
    two.load(tmp_path / "without.safetensors")
    assert differing(before, dict(two.learner.model.state_dict())) == []
    assert differing(two.learner.state, one.learner.state) == []


def test_accumulated_gradients_are_one_step_of_the_whole_batch() -> None:
    models = []
    for parts in (1, 3):
        torch.manual_seed(0)
        one = retain.attach(mlp().double(), RWalk(every=1))
        optimizer = sgd(one.learner.model)
        for task in stream("domain"):
            x, y = task.train.batch(torch.arange(60))
            one.begin_task(Examples(x.double(), y))
            for rows in torch.arange(60).split(12):
                for part in rows.split(12 // parts):
                    (one.loss(x[part].double(), y[part]) / parts).backward()
                optimizer.step()
                optimizer.zero_grad()
            one.end_task()
        models.append(leaves(kept(one.learner)))
    for (name, a), (_, b) in zip(*models, strict=True):
        if isinstance(a, Tensor) and a.is_floating_point():
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=name)


def test_a_scheduler_of_the_loop_is_followed() -> None:
    one = attached(EWC(lam=10))
    optimizer = sgd(one.learner.model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    task = stream("domain")[0]
    one.begin_task(task)
    x, y = task.train.batch(torch.arange(12))
    for rate in (0.1, 0.05, 0.025):
        before = clone(dict(one.learner.model.named_parameters()))
        one.loss(x, y).backward()
        grads = {k: p.grad.clone() for k, p in one.learner.model.named_parameters() if p.grad is not None}
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        assert one.stepper.largest_lr == pytest.approx(rate / 2)
        for k, p in one.learner.model.named_parameters():
            torch.testing.assert_close(p.detach(), before[k] - rate * grads[k])


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_gradient_scaler_leaves_out_are_none(fused: bool) -> None:
    one = attached(SI())
    optimizer = torch.optim.SGD(one.learner.model.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    task = stream("domain")[0]
    one.begin_task(task)
    x, y = task.train.batch(torch.arange(12))
    for bad in (False, True, False):
        loss = one.loss(x, y)
        scaler.scale(loss * (torch.inf if bad else 1.0)).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert one.steps == 2
    one.end_task()
    plain = attached(SI())
    optimizer = torch.optim.SGD(plain.learner.model.parameters(), lr=0.1, fused=fused)
    plain.begin_task(task)
    for _ in range(2):
        plain.loss(x, y).backward()
        optimizer.step()
        optimizer.zero_grad()
    plain.end_task()
    assert same(one, plain.learner) == []


def test_the_gradient_is_clipped_after_the_method_if_asked() -> None:
    one = attached(L2(lam=5), clip=0.5)
    optimizer = sgd(one.learner.model)
    loop(one, "domain", optimizer)
    before = clone(dict(one.learner.model.named_parameters()))
    task = stream("domain")[0]
    one.begin_task(task)
    one.loss(*task.train.batch(torch.arange(12))).backward()
    optimizer.step()
    moved = [(p.detach() - before[k]).flatten() for k, p in one.learner.model.named_parameters()]
    assert float(torch.cat(moved).norm()) <= 0.1 * 0.5 * (1 + 1e-5)


def test_the_mode_of_the_model_is_the_loops() -> None:
    one = attached(EWC(), "cnn")
    model, task = one.learner.model, stream("domain")[0]
    for training in (True, False):
        model.train(training)
        one.begin_task(task)
        assert model.training == training
        one.loss(*task.train.batch(torch.arange(12))).backward()
        sgd(model).step()
        model.train(training)
        one.end_task()
        one.predict(task.train.batch(torch.arange(3))[0])
        assert model.training == training == model[3].training  # type: ignore[index]


def test_the_optimiser_may_be_made_anew_and_other_optimisers_are_left_alone() -> None:
    one = attached(EWC(lam=10))
    other = nn.Linear(2, 2)
    elsewhere = torch.optim.SGD(other.parameters(), lr=1.0)
    for task in stream("domain"):
        one.begin_task(task)
        optimizer = sgd(one.learner.model)
        one.loss(*task.train.batch(torch.arange(12))).backward()
        other(torch.ones(1, 2)).sum().backward()
        elsewhere.step()
        assert one.steps == 0
        optimizer.step()
        assert one.steps == 1
        one.end_task()


# ---- data ----


def test_data_may_come_in_any_of_its_forms() -> None:
    task = stream("domain")[0]
    x, y = task.train.batch(torch.arange(60))
    forms: list[Any] = [
        task, task.train, (x, y), (x.numpy(), y.numpy()), TensorDataset(x, y), DataLoader(TensorDataset(x, y), 7),
    ]  # fmt: skip
    states = []
    for data in forms:
        one = attached(EWC())
        one.begin_task(data)
        one.loss(x, y).backward()
        sgd(one.learner.model).step()
        one.end_task()
        states.append(kept(one.learner))
    assert all(differing(states[0], s) == [] for s in states)


# ---- what is refused, in words ----


def test_methods_that_cannot_be_put_around_a_loop_are_refused() -> None:
    with pytest.raises(TypeError, match=r"SLDA makes its steps itself, so no loop can be put around it"):
        retain.attach(mlp(), retain.SLDA())
    with pytest.raises(ValueError, match=r"Joint learns from the data of all tasks so far"):
        retain.attach(mlp(), retain.Joint())
    with pytest.raises(TypeError, match="with brackets"):
        retain.attach(mlp(), EWC)  # type: ignore[arg-type]


def step(one: Attached, loss: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
    x, y = stream("domain")[0].train.batch(torch.arange(12))
    (loss or one.loss)(x, y).backward()
    sgd(one.learner.model).step()


@pytest.mark.parametrize("method", [Replay(), retain.LwF(), HAT(), retain.chain(EWC(), Replay())], ids=repr)
def test_a_method_that_must_have_its_say_does_not_go_unheard(method: Method[Any]) -> None:
    one = attached(method, scenario=home(method))
    task = stream(home(method))[0]
    one.begin_task(task)
    with pytest.raises(
        RuntimeError, match=r"has a say in what is learned from: write loss = kept.loss\(x, y\)"
    ):
        step(one, lambda x, y: nn.functional.cross_entropy(one.learner.model(x), y))


def test_a_method_that_looks_at_the_batch_must_be_shown_it() -> None:
    one = attached(RWalk(every=1))
    one.begin_task(stream("domain")[0])
    with pytest.raises(RuntimeError, match=r"RWalk looks at the batch of each step: write loss = kept.loss"):
        step(one, lambda x, y: nn.functional.cross_entropy(one.learner.model(x), y))


def test_steps_outside_tasks() -> None:
    one = attached(EWC())
    with pytest.raises(RuntimeError, match="no task has begun: EWC must be told"):
        step(one, lambda x, y: nn.functional.cross_entropy(one.learner.model(x), y))
    with pytest.raises(RuntimeError, match="end_task, but no task has begun"):
        one.end_task()
    one.begin_task(stream("domain")[0])
    with pytest.raises(RuntimeError, match=r"the task before is not over: end_task\(\) comes first"):
        one.begin_task(stream("domain")[0])
    two = attached(Replay(memory=30))  # needs no boundary
    for _ in range(3):
        step(two)
    assert two.steps == 3 and two.learner.state.memory.filled == 30


def test_optimisers_that_cannot_do() -> None:
    model = mlp()
    with pytest.raises(ValueError, match="the optimiser holds none of the model's parameters"):
        retain.attach(model, EWC(), sgd(mlp()))
    with pytest.raises(ValueError, match=r"holds 2 of the model's 4 trained parameters \(not '1.weight'\)"):
        retain.attach(model, EWC(), torch.optim.SGD(model[3].parameters(), lr=0.1))  # type: ignore[index]
    one = retain.attach(model, EWC())
    one.begin_task(stream("domain")[0])
    x, y = stream("domain")[0].train.batch(torch.arange(12))
    lbfgs = torch.optim.LBFGS(model.parameters())
    with pytest.raises(RuntimeError, match="takes its gradients inside"):
        lbfgs.step(lambda: one.loss(x, y))
    fused = torch.optim.Adam(model.parameters(), fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    scaler.scale(one.loss(x, y)).backward()
    with pytest.raises(RuntimeError, match=r"still scaled: scaler.unscale_\(optimizer\) comes before"):
        scaler.step(fused)


def test_too_stiff_a_penalty_is_said_before_the_first_step() -> None:
    one = attached(EWC(lam=1e9))
    model = one.learner.model
    loop(one, "domain", sgd(model), stop=(0, 0))
    one.end_task()
    with pytest.raises(retain.Diverged, match="lr"):
        one.begin_task(stream("domain")[1])


def test_one_method_around_a_model_at_a_time_and_none_once_it_is_gone() -> None:
    model = mlp()
    one = retain.attach(model, EWC())
    with pytest.raises(ValueError, match=r"a method around this model already: call its detach\(\) first"):
        retain.attach(model, EWC())
    one.detach()
    two = retain.attach(model, EWC())
    optimizer = sgd(model)
    with pytest.raises(RuntimeError, match="no task has begun"):
        optimizer.step()
    del two
    gc.collect()
    optimizer.step()  # nothing is left to object
    retain.attach(model, EWC())


def test_data_and_files_that_are_none(tmp_path: Path) -> None:
    one = attached(EWC())
    with pytest.raises(ValueError, match="a map-style Dataset or Examples, got a int"):
        one.begin_task(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a pair"):
        one.begin_task((torch.zeros(3, 1), torch.zeros(3), 4))
    with pytest.raises(RuntimeError, match="nothing to save before the first"):
        one.save(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        one.load(tmp_path / "a")
    loop(one, "domain", sgd(one.learner.model), stop=(0, 1))
    one.save(tmp_path / "a")
    with pytest.raises(ValueError, match=r"is of .*'ewc'.*, this is .*'si'"):
        attached(SI()).load(tmp_path / "a")
    retain.checkpoint.save(tmp_path / "b", {"format": "other"})
    with pytest.raises(ValueError, match="was not written by save of an attached method"):
        attached(EWC()).load(tmp_path / "b")
    tree = retain.checkpoint.load(tmp_path / "a")
    tree["like"]["dtype"] = "torch.load"
    retain.checkpoint.save(tmp_path / "c", tree)
    with pytest.raises(ValueError, match="the file is damaged"):
        attached(EWC()).load(tmp_path / "c")
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-9])
    with pytest.raises(ValueError, match="damaged"):
        attached(EWC()).load(tmp_path / "a")


def test_the_page_says_of_every_method_what_the_loop_keeps() -> None:
    page = (Path(__file__).parents[2] / "docs/your-own-loop.md").read_text(encoding="utf-8")
    rows = page.partition("| the loop keeps its criterion")[2].split("\n")[2].strip("| ").split(" | ")
    names = [re.findall(r"[a-z][a-z0-9-]+(?=,| \(|$)", cell) for cell in rows]
    criterion, loss, not_around = (set(each) for each in names)
    kinds = discover()
    fits = {n for n, k in kinds.items() if issubclass(k, GradientMethod) and k.data == "task"}
    made = {n: kinds[n]() for n in fits}
    heard = {
        n for n, m in made.items() if isinstance(m, GradientMethod) and has_hook(m, "batch", "view", "loss")
    }
    heard.add("rwalk")  # looks at the batch after the step
    assert criterion == fits - heard
    assert loss == heard
    assert not_around >= set(kinds) - fits and not not_around & fits
