"""Runs stacked into one computation are the runs one by one.

The laws are tested in float64, to 1e-9: what is left is the order of sums. In float32 that rounding grows where
training is discontinuous (a unit of a ReLU that is at zero for an example; Adam, which makes a whole step of a
gradient that is nothing but rounding), on one processor and not on another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, final

import pytest
import torch
from tests.laws import toy
from torch import Generator

from retain import EWC, GEM, SI, Learner, Method, Optim, Replay, Result, chain
from retain.compare import Job, groups
from retain.divergence import Diverged
from retain.experiment import Experiment, Settings
from retain.method import GradientMethod
from retain.methods.packnet import PackNet
from retain.methods.vcl import VCL
from retain.run import Course, Interrupted
from retain.stacked import CannotStack, Stack, run_together
from retain.types import Batch, Params, Problem, Step

MNIST = Settings(tasks=3, samples=320, test_samples=100, hidden=(40,), batch_size=32, curve_every=0)
ADAM = Optim("adam", lr=0.01)
DOUBLE = pytest.mark.usefixtures("double")
BY_GRADIENT = [n for n, m in toy.METHODS.items() if isinstance(m, GradientMethod)]
# Hooks that one run after the other is asked for, and why (what it says first).
ALONE = {
    "agem": {"gradient": "it looks at the batch"},
    "gem": {"gradient": "it does more"},
    "gem-random": {"gradient": "it does more"},
    "gem-ring-wraps": {"gradient": "it does more"},
    "gpm": {"gradient": "the runs' states have different shapes", "after_step": "the runs' states"},
    "hat": {"gradient": "it looks at the batch", "after_step": "it looks at the batch"},
    "kfac-laplace": {"gradient": "it does more"},
    "kfac-laplace-nearest": {"gradient": "it does more"},
    "mir": {"after_step": "it makes a new state"},
    "ncl": {"gradient": "it does more"},
    "owm": {"after_step": "it does more"},
    "rwalk": {"after_step": "it looks at the batch"},
}


@pytest.fixture
def double() -> Iterator[None]:
    """Networks in float64."""
    with toy.double():
        yield


def course(learner: Learner, out: Path | None = None) -> Course:
    """Its way through the toy stream."""
    return Course(toy.stream(toy.home(learner.method)), learner, toy.ORDER, "all", 2, 1000, out, 30.0, None)


def toys(
    method: Method[Any], model: str = "mlp", optim: Optim = toy.SGD, clip: float | None = None
) -> list[Course]:
    """Three seeds."""
    return [course(toy.learner(method, model, seed, optim, clip=clip)) for seed in (0, 1, 5)]


def apart(courses: Sequence[Course]) -> list[Result]:
    """One after the other."""
    return [c.run(resume=False, progress=None, stop=None) for c in courses]


def gap(a: Course, b: Course) -> float:
    """The largest difference between two runs' parameters or accuracies."""
    of_params = [float((p - b.learner.params[k]).detach().abs().max()) for k, p in a.learner.params.items()]
    rows = zip(a.sitting.record.accuracy, b.sitting.record.accuracy, strict=True)
    return max(*of_params, *(float((torch.tensor(x) - torch.tensor(y)).abs().max()) for x, y in rows))


def gaps(one_by_one: Sequence[Course], together: Sequence[Course]) -> float:
    """The largest of all, after every run."""
    wanted = apart(one_by_one)
    for found, w in zip(run_together(together), wanted, strict=True):
        assert isinstance(found, Result), found
        assert (found.seed, found.config, found.boundaries) == (w.seed, w.config, w.boundaries)
        assert (found.state_bytes, found.examples_stored) == (w.state_bytes, w.examples_stored)
    return max(gap(a, b) for a, b in zip(one_by_one, together, strict=True))


def test_eight_seeds_of_ewc_are_eight_runs_of_ewc() -> None:
    experiments = [Experiment("permuted", EWC(lam=20.0), replace(MNIST, seed=seed)) for seed in range(8)]
    one_by_one, together = ([e.course() for e in experiments] for _ in range(2))
    assert gaps(one_by_one, together) < 1e-5
    assert gap(one_by_one[0], together[1]) > 1e-2  # the runs do differ


@DOUBLE
@pytest.mark.parametrize("name", BY_GRADIENT)
def test_every_method_that_steps_by_gradients_stacks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Stack] = []
    init = Stack.__init__

    def kept(self: Stack, learners: Sequence[Learner]) -> None:
        made.append(self)
        init(self, learners)

    monkeypatch.setattr(Stack, "__init__", kept)
    method = toy.METHODS[name]
    if isinstance(method, VCL) and method.coreset:
        # Its steps on the coreset are not stacked, and of the weights of a silent unit Adam makes rounding large:
        # 1e-16 is 1e-11 after one step, and half of the learning rate after three.
        method = replace(method, coreset_steps=1)
    assert gaps(toys(method), toys(method)) < 1e-9
    (stack,) = made
    expected = ALONE.get(name, {})
    assert set(stack.alone) == set(expected)
    assert all(stack.alone[hook].startswith(why) for hook, why in expected.items())


@pytest.mark.parametrize("name", sorted(set(toy.METHODS) - set(BY_GRADIENT)))
def test_the_others_say_that_they_do_not(name: str) -> None:
    with pytest.raises(CannotStack, match="does not learn by gradient steps"):
        run_together(toys(toy.METHODS[name]))


@DOUBLE
# (For Adam a network without BatchNorm: the gradient of a bias before one is rounding, which Adam makes a step of.)
@pytest.mark.parametrize(
    ("method", "model", "optim", "clip"),
    [
        (EWC(), "norm", Optim("sgd", lr=0.05, momentum=0.9, weight_decay=1e-3), None),
        (toy.METHODS["separate"], "norm", toy.SGD, None),
        (toy.METHODS["packnet"], "norm", toy.SGD, None),
        (PackNet(prune=0.5), "mlp", ADAM, 0.5),  # its retraining goes on with each run's own moments
        (toy.METHODS["vcl"], "mlp", ADAM, None),
        (toy.METHODS["generative-replay"], "mlp", ADAM, 0.1),
        (SI(), "mlp", Optim("adamw", lr=0.01), 0.1),
        (EWC(), "mlp", toy.SGD, 0.1),
        (chain(Replay(memory=20), EWC()), "mlp", toy.SGD, None),
        (chain(SI(), GEM(memory_per_task=10)), "mlp", toy.SGD, None),
    ],
)
def test_so_they_do_with_norms_moments_clipping_and_in_chains(
    method: Method[Any], model: str, optim: Optim, clip: float | None
) -> None:
    assert gaps(toys(method, model, optim, clip), toys(method, model, optim, clip)) < 1e-9


class Numbered(NamedTuple):
    """A number of its own for each run."""

    mine: float
    step: int


@final
@dataclass(frozen=True)
class Odd(GradientMethod[Numbered]):
    """A gradient hook that would be wrong on stacked gradients."""

    how: str = "norm"

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, Numbered]:
        return params, Numbered(float(torch.rand((), generator=rng)), 0)

    def gradient(
        self, problem: Problem, params: Params, state: Numbered, batch: Batch, grads: Params
    ) -> Params:
        if self.how == "norm":
            return {k: g / g.norm() for k, g in grads.items()}
        if self.how == "decision":
            return {k: 2 * g if bool((g > 0).all()) else g for k, g in grads.items()}
        if self.how == "shape":
            return {k: g if g.dim() > 1 else 2 * g for k, g in grads.items()}
        if self.how == "number":
            return {k: g * state.mine for k, g in grads.items()}
        return {k: g.roll(1, 0) for k, g in grads.items()}

    def after_step(
        self, problem: Problem, params: Params, state: Numbered, step: Step
    ) -> tuple[Params, Numbered]:
        assert step.before is not None
        for k, old in step.before.items():
            params[k].add_(params[k] - old, alpha=0.1)
        return params, state


@DOUBLE
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("norm", "does more than act entry by entry"),
        ("decision", "does more than act entry by entry"),
        ("shape", "stacked it gives something else"),
        ("number", "stacked it gives something else"),
        ("roll", "does more than act entry by entry"),
    ],
)
def test_a_hook_that_would_mix_the_runs_is_asked_run_by_run(how: str, why: str) -> None:
    one_by_one, together = toys(Odd(how)), toys(Odd(how))
    assert gaps(one_by_one, together) < 1e-9
    fresh = toys(Odd(how))
    stack = Stack([c.learner for c in fresh])
    stack.observe([next(c.portions(False, None, None)) for c in fresh])
    assert list(stack.alone) == ["gradient"]
    assert why in stack.alone["gradient"]


@final
@dataclass(frozen=True)
class Turning(GradientMethod[Numbered]):
    """Entry by entry, but for its third step."""

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, Numbered]:
        return params, Numbered(0.0, 0)

    def batch(
        self, problem: Problem, params: Params, state: Numbered, batch: Batch, rng: Generator
    ) -> tuple[Batch, Numbered]:
        return batch, state._replace(step=state.step + 1)

    def gradient(
        self, problem: Problem, params: Params, state: Numbered, batch: Batch, grads: Params
    ) -> Params:
        return {k: g / g.norm() if state.step == 3 else g for k, g in grads.items()}


def test_a_hook_that_turns_out_not_to_stack_ends_the_stack_and_says_why() -> None:
    with pytest.raises(CannotStack, match="does more than act entry by entry"):
        run_together(toys(Turning()))


def test_a_network_that_draws_random_numbers_is_refused() -> None:
    with pytest.raises(CannotStack, match="it draws random numbers"):
        run_together(toys(EWC(), "cnn"))


@DOUBLE
def test_a_run_that_diverges_leaves_the_others_going() -> None:
    def three() -> list[Course]:
        made = toys(EWC())
        made[1].learner.params["1.weight"].detach().mul_(1e250)
        return made

    one_by_one, together = three(), three()
    with pytest.raises(Diverged) as alone:
        one_by_one[1].run(False, None, None)
    apart([one_by_one[0], one_by_one[2]])
    found = run_together(together)
    assert isinstance(found[1], Diverged)
    assert str(found[1]) == str(alone.value)
    assert all(gap(one_by_one[i], together[i]) < 1e-9 for i in (0, 2))


@DOUBLE
def test_what_was_stopped_goes_on_alone(tmp_path: Path) -> None:
    def three(out: Path | None) -> list[Course]:
        where = [None if out is None else out / str(i) for i in range(3)]
        return [course(toy.learner(SI(), seed=i, optim=ADAM), where[i]) for i in range(3)]

    wanted = three(None)
    apart(wanted)
    told: list[int] = []
    stops = run_together(
        three(tmp_path), [lambda p: told.append(p.step)] * 3, stop=lambda: len(told) >= 3 * 8
    )
    assert all(isinstance(s, Interrupted) for s in stops)
    assert {str(s) for s in stops} == {
        "stopped at task 2, step 3",
        "stopped at task 2, step 4",
    }  # as each asks
    resumed = three(tmp_path)
    for c in resumed:
        c.run(resume=True, progress=None, stop=None)
    assert max(gap(a, b) for a, b in zip(wanted, resumed, strict=True)) < 1e-9


def test_the_seconds_of_stacked_runs_add_up_to_the_time_that_all_took() -> None:
    together = toys(EWC())
    begun = [c.sitting.clock.since for c in together]
    found = [r.seconds for r in run_together(together) if isinstance(r, Result)]
    assert len(found) == 3
    assert begun < [c.sitting.clock.since for c in together]  # others' time was left out
    for s in found:
        assert 0 < s.train + s.consolidate + s.evaluate <= s.total


def test_only_runs_that_differ_in_their_seed_alone_are_grouped_and_only_where_asked() -> None:
    def job(method: Method[Any], **settings: Any) -> Job:
        return Job("", Experiment("permuted", method, Settings(**settings)), Path())

    jobs = [
        job(EWC()),
        job(GEM()),
        job(EWC(), seed=1),
        job(EWC(lam=3.0)),
        job(EWC(), lr=0.2),
        job(GEM(), seed=1),
    ]
    assert groups(jobs, "on") == [[0, 2], [1, 5], [3], [4]]
    apart = [[i] for i in range(6)]
    assert groups(jobs, "off") == groups(jobs, "auto") == groups(jobs, "on", resume=True) == apart
    on_gpu = [job(EWC()), *(job(EWC(), seed=seed, device="cuda") for seed in range(2))]
    assert groups(on_gpu, "auto") == [[0], [1, 2]]
