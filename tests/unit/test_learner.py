"""The learner: what it refuses, whose classes are in play, and somebody's module as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tests.laws.toy import CLASSES, ORDER, SCENARIOS, Scenario, cnn, differing, go, kept, learner, mlp, stream
from torch import Tensor, nn

from retain import EWC, GradientMethod, Joint, Learner, Method, Naive, Optim, Replay, run
from retain.divergence import EVERY, Watch
from retain.problem import Binding
from retain.types import HIDDEN, Batch, Params, Problem


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan")])
def test_a_clip_outside_its_range_is_refused(clip: float) -> None:
    with pytest.raises(ValueError, match="clip must be > 0"):
        learner(Naive(), clip=clip)


def test_a_model_with_nothing_to_train_is_refused() -> None:
    model = mlp().requires_grad_(False)
    with pytest.raises(ValueError, match="nothing could be learned"):
        Learner(model, Naive())
    with pytest.raises(ValueError, match="nothing could be learned"):
        Learner(nn.Flatten(), Naive())


@pytest.mark.parametrize(
    "wrong", [{"schedule": "step"}, {"scenario": "online"}, {"classes": "some"}], ids=lambda w: next(iter(w))
)
def test_a_choice_that_does_not_exist_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        learner(Naive(), **wrong)


def test_calls_out_of_order_say_what_comes_first() -> None:
    one = learner(EWC())
    x, y = stream("domain")[0].train.batch(torch.arange(4))
    for early in (lambda: one.observe(x, y), lambda: one.batch(x, y), one.end_task, one.step):
        with pytest.raises(RuntimeError, match="begin_task"):
            early()
    with pytest.raises(RuntimeError, match="no data yet"):
        one.predict(x)
    one.begin_task(stream("domain")[0])
    with pytest.raises(RuntimeError, match="loss first"):
        one.step()
    one.loss(one.batch(x, y)).backward()
    one.step()
    with pytest.raises(RuntimeError, match="loss first"):
        one.step()


def test_a_schedule_needs_the_number_of_steps() -> None:
    one = learner(Naive(), schedule="cosine")
    with pytest.raises(ValueError, match=r"begin_task\(task, steps=...\)"):
        one.begin_task(stream("domain")[0])


def test_a_model_that_gives_no_logits_is_refused() -> None:
    one = Learner(nn.Conv2d(1, 4, 3), Naive())
    with pytest.raises(ValueError, match=r"logits \[N, C\] for \[1, 1, 8, 8\]"):
        one.begin_task(stream("domain")[0])


def test_another_scenario_than_the_streams_is_refused() -> None:
    with pytest.raises(ValueError, match="scenario is class, the stream's task"):
        run(stream("task"), learner(Naive(), scenario="class"), ORDER)


def test_in_the_task_scenario_predict_needs_the_task() -> None:
    one = learner(Naive(), scenario="task")
    one.begin_task(stream("task")[0])
    x = stream("task")[0].train.batch(torch.arange(4))[0]
    with pytest.raises(ValueError, match=r"predict\(x, task\)"):
        one.predict(x)
    in_play = one.predict(x, stream("task")[1]).isfinite().any(0).tolist()
    assert in_play == [False, False, True, True], "a task not yet learned can be asked too"


def test_classes_in_play_grow_with_the_tasks_where_only_seen_ones_are() -> None:
    one = learner(Naive(), scenario="class", classes="seen")
    found = []
    one.start(stream("class")[0].train)
    x = stream("class")[0].train.batch(torch.arange(4))[0]
    found.append(one.predict(x).isfinite().any(0).tolist())
    for task in stream("class"):
        one.begin_task(task)
        found.append(one.predict(x, task).isfinite().any(0).tolist())
    T, F = True, False
    assert found == [[T, T, T, T], [T, T, F, F], [T, T, T, F], [T, T, T, T]]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_joint_learns_each_example_among_its_own_tasks_classes(scenario: Scenario) -> None:
    """Fed all data so far, an old example is not one of the current task."""
    one = learner(Joint())
    seen: list[Batch] = []
    plain = one._plain

    def spy(*args: Any) -> Batch:
        seen.append(plain(*args))
        return seen[-1]

    one._plain = spy  # type: ignore[method-assign,assignment]
    run(stream(scenario), one, ORDER, curve_every=0)
    numbers = torch.cat([b.task for b in seen])
    assert torch.equal(numbers.unique(), torch.tensor([0, 1, 2] if scenario == "task" else [HIDDEN]))
    if scenario == "task":
        assert numbers.bincount().tolist() == [180, 120, 60]
        for batch in seen:
            for task in range(3):
                labels = set(batch.y[batch.task == task].tolist())
                assert labels <= set(stream("task")[task].classes)


def test_accuracy_is_the_share_of_right_answers_whatever_the_batch() -> None:
    one = learner(Naive())
    run(stream("domain"), one, ORDER)
    task = stream("domain")[0]
    assert task.test is not None
    x, y = task.test.batch(torch.arange(len(task.test)))
    expected = float((one.model(x).argmax(1) == y).float().mean())
    for size in (1, 7, 1000):
        assert one.accuracy(task.test, task, size) == pytest.approx(expected)


def test_state_bytes_are_those_of_state_and_of_added_parameters() -> None:
    one = learner(Replay(memory=10))
    run(stream("domain"), one, ORDER)
    assert one.state_bytes == 10 * (64 * 4 + 8 + 8)
    guard = learner(EWC())
    run(stream("domain"), guard, ORDER)
    assert guard.state_bytes == 2 * 4 * sum(p.numel() for p in guard.model.parameters())


def test_an_optimiser_of_ones_own() -> None:
    torch.manual_seed(0)
    model = mlp()
    theirs = torch.optim.RMSprop(model.parameters(), lr=0.01)
    one = Learner(model, EWC(lam=1), theirs)
    run(stream("domain"), one, ORDER)
    assert one.stepper.optimizers[""] is theirs and not one.stepper.plain_sgd


class Named(nn.Module):
    """Submodules of many kinds under names of their own, a buffer, a frozen part, a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.ModuleDict({"in": nn.Linear(64, 12)})
        self.norm = nn.BatchNorm1d(12)
        self.heads = nn.ModuleList([nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, CLASSES)])
        self.heads[1].weight = self.heads[0].weight
        self.register_buffer("scale", torch.tensor(0.5))
        self.embed["in"].bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.embed["in"](x.flatten(1))).relu() * self.scale
        out: Tensor = self.heads[2](self.heads[1](self.heads[0](h).relu()).relu())
        return out


def test_somebodys_module_runs_the_same_by_its_own_tensors_and_by_any_other() -> None:
    torch.manual_seed(0)
    model = Named()
    binding = Binding(model)
    assert "heads.1.weight" not in binding.own and "embed.in.bias" not in binding.names
    assert "scale" in binding.own and "norm.num_batches_tracked" in binding.own
    x, task = torch.rand(6, 64), torch.full((6,), HIDDEN)
    model.eval()
    expected = model(x)
    assert torch.equal(binding.logits(binding.own, x, task), expected)
    copies = {k: v.detach().clone() for k, v in binding.own.items()}
    assert torch.equal(binding.logits(copies, x, task), expected)
    copies["heads.0.weight"].zero_()
    assert not torch.equal(binding.logits(copies, x, task), expected)
    before = {k: v.detach().clone() for k, v in binding.own.items()}
    binding.logits(copies, x, task, train=True)  # BatchNorm moves the buffers that it was given, alone
    assert differing(before, dict(binding.own)) == [] and int(copies["norm.num_batches_tracked"]) == 1


def test_what_is_frozen_or_a_buffer_is_not_moved_and_ties_hold() -> None:
    torch.manual_seed(0)
    model = Named()
    held = {k: v.detach().clone() for k, v in model.state_dict().items() if k in ("embed.in.bias", "scale")}
    run(stream("domain"), Learner(model, EWC(), Optim(lr=0.1, weight_decay=0.1)), ORDER)
    assert len(held) == 2 and differing(held, {k: model.state_dict()[k] for k in held}) == []
    assert model.heads[0].weight is model.heads[1].weight


def test_a_model_in_evaluation_mode_is_trained_all_the_same() -> None:
    torch.manual_seed(0)
    model = cnn().eval()
    one = Learner(model, Naive(), Optim(lr=0.1))
    run(stream("domain"), one, ORDER)
    assert int(one.params["1.num_batches_tracked"]) == 15


class NoGradients(Method[int]):
    """Counts the batches, and answers by that."""

    paper = "none: a test"

    def init(self, problem: Problem, params: Params, rng: torch.Generator) -> tuple[Params, int]:
        return params, 0

    def observe(
        self, problem: Problem, params: Params, state: int, batch: Batch, update: Any, rng: torch.Generator
    ) -> tuple[Params, int, Tensor]:
        return params, state + 1, torch.zeros(())

    def predict(self, problem: Problem, params: Params, state: int, x: Tensor, task: Tensor) -> Tensor:
        out = torch.zeros(len(x), problem.spec.classes)
        out[:, state % CLASSES] = 1
        return out


def test_a_method_without_gradients_runs_and_is_told_apart_in_a_loop_of_ones_own() -> None:
    one = Learner(mlp(), NoGradients())
    result = run(stream("domain"), one, ORDER)
    assert one.state == 15 and result.method == {"name": "NoGradients"}
    x, y = stream("domain")[0].train.batch(torch.arange(4))
    with pytest.raises(TypeError, match="takes no gradient steps"):
        one.batch(x, y)


def test_a_snapshot_restores_another_learner() -> None:
    one, two = learner(EWC()), learner(EWC(), seed=5)
    run(stream("domain")[:2], one, ORDER)
    two.seed = 0
    two.follow(stream("domain"))
    two.start(stream("domain")[0].train)
    two.restore(one.snapshot(), list(stream("domain"))[:2], None, 0)
    assert differing(kept(one), kept(two)) == [] and two.tasks == 2


@pytest.mark.parametrize("bad", [0, 1, EVERY - 1])
def test_the_watch_finds_the_first_bad_loss(bad: int) -> None:
    watch = Watch()
    for i in range(EVERY):
        full = watch.note(torch.tensor(float("nan") if i >= bad else 1.0))
        assert full == (i == EVERY - 1)
    assert watch.first_bad() == EVERY - bad and watch.first_bad() is None
    watch.note(torch.tensor(2.0))
    assert watch.first_bad() is None, "old losses are forgotten"


def test_an_optimiser_over_another_model_is_refused() -> None:
    other = torch.nn.Linear(3, 3)
    one = Learner(mlp(), EWC(), torch.optim.SGD(other.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="none of the model's parameters"):
        one.begin_task(stream("domain")[0])


def test_a_forgotten_backward_is_noticed() -> None:
    one = Learner(mlp(), EWC(), Optim(lr=0.1))
    task = stream("domain")[0]
    one.begin_task(task)
    one.loss(one.batch(*task.train.batch(torch.arange(4))))
    with pytest.raises(RuntimeError, match="backward"):
        one.step()


def test_a_class_or_a_name_is_no_method() -> None:
    for wrong in ("ewc", EWC):
        with pytest.raises(TypeError, match="method must be one such as"):
            Learner(mlp(), wrong)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Sliced(GradientMethod[None]):
    """Naive, but its gradients are views into something larger, or transposed, or laid out plainly."""

    kind: str = "plain"

    def gradient(self, problem: Problem, params: Params, state: None, batch: Batch, grads: Params) -> Params:
        if self.kind == "sliced":
            return {k: torch.stack([g, 0 * g], -1)[..., 0] for k, g in grads.items()}
        if self.kind == "transposed":
            return {k: g.T.contiguous().T if g.dim() == 2 else g for k, g in grads.items()}
        return grads


@pytest.mark.parametrize("optim", [Optim(lr=0.1), Optim("adam", lr=1e-3)])
@pytest.mark.parametrize("kind", ["sliced", "transposed"])
def test_a_step_does_not_depend_on_how_the_gradient_lies_in_memory(kind: str, optim: Optim) -> None:
    """torch's fused SGD reads a strided gradient as if it were contiguous."""
    plain, strided = go(Naive(), optim=optim)[0], go(Sliced(kind), optim=optim)[0]
    assert differing(plain.params, strided.params) == []
