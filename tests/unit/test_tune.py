"""Tuning sees the first tasks and validation images, and nothing else; it goes on where it was stopped."""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from retain.divergence import Diverged
from retain.experiment import Experiment, Settings
from retain.methods.ewc import EWC
from retain.methods.replay import Replay
from retain.result import Result
from retain.tune import Knob, NoOptuna, Plan, Trial, Tuning, for_scoring, later, run_trial, to_toml

pytest.importorskip("optuna")

SMALL = Settings(tasks=4, samples=60, test_samples=40, hidden=(8,), batch_size=20, validation=50)
LAM, LR = Knob("lam", 1.0, 100.0, log=True), Knob("lr", 0.01, 0.5, log=True)


def plan(**changed: Any) -> Plan:
    made: dict[str, Any] = {"first": 2, "trials": 5, "seed": 77}
    return Plan(Experiment("permuted", EWC(examples=20), SMALL), (LAM, LR), **{**made, **changed})


def score(values: Mapping[str, float]) -> float:
    """A bump at lam 10, lr 0.1."""
    return 1.0 / (1.0 + abs(values["lam"] - 10) / 10 + abs(values["lr"] - 0.1) * 10)


def go_on(tuning: Tuning, most: int = 99) -> None:
    while most and (trial := tuning.ask()):
        tuning.tell(trial, score(trial.values))
        most -= 1


# --- what a trial sees ------------------------------------------------------------------------------


def test_a_trial_learns_the_first_tasks_with_its_own_seed_and_values() -> None:
    e = plan().of_trial({"lam": 3.0, "lr": 0.2})
    assert (e.settings.tasks, e.settings.seed, e.settings.validation) == (2, 77, 50)
    assert e.method.lam == 3.0 and e.method.examples == 20 and e.settings.lr == 0.2  # type: ignore[attr-defined]
    none_held = Plan(Experiment("permuted", EWC(), dataclasses.replace(SMALL, validation=0)), (LAM,))
    assert none_held.of_trial({"lam": 1.0}).settings.validation == 1000
    assert none_held.with_values({"lam": 1.0}).settings.validation == 0


def test_no_test_image_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    p = plan()
    looked: list[Any] = []
    trial = Trial(0, {"lam": 3.0, "lr": 0.2}, 0.0)
    stream = p.of_trial(trial.values).build_stream()
    tests = {id(task.test) for task in stream}
    scored = for_scoring(stream)
    assert [task.test for task in scored] == [task.validation for task in stream]
    assert all(task.validation is None for task in scored)

    from retain import record

    real = record.Evaluator.__init__

    def watch(self: Any, given: Any, *more: Any) -> None:
        looked.extend(task.test for task in given)
        real(self, given, *more)

    monkeypatch.setattr(record.Evaluator, "__init__", watch)
    got = run_trial(p, trial)
    assert isinstance(got, Result) and len(got.accuracy) == 3 and len(looked) == 2
    assert not {id(t) for t in looked} & tests
    pixels = torch.cat([t.x.flatten(1) for t in looked[:1]])
    assert pixels.shape[0] == 60_000 and len(looked[0]) == 50  # rows of the training file, held out
    assert got.accuracy[1][0] in [k / 50 for k in range(51)]


def test_what_is_scored_is_never_trained_on() -> None:
    for task in for_scoring(plan().of_trial({}).build_stream()):
        trained: Any = task.train
        held: Any = task.test
        assert not set(trained.rows.tolist()) & set(held.rows.tolist())


def test_without_validation_images_there_is_no_score() -> None:
    with pytest.raises(ValueError, match="validation must be >= 1"):
        for_scoring(Experiment("permuted", EWC(), dataclasses.replace(SMALL, validation=0)).build_stream())


def test_the_blurred_edge_of_the_last_task_lets_no_later_task_in() -> None:
    e = Experiment("split", Replay(), dataclasses.replace(SMALL, scenario="class", blur=0.5, tasks=None))
    stream = Plan(e, (LR,), first=2).of_trial({}).build_stream()
    assert len(stream) == 2 and max(c for task in stream for c in task.classes) == 3


def test_a_trial_that_diverges_is_told_so() -> None:
    e = dataclasses.replace(SMALL, samples=200)
    got = run_trial(Plan(Experiment("permuted", EWC(), e), (LAM,), first=2), Trial(0, {"lam": 1e9}, 0.0))
    assert isinstance(got, Diverged)


# --- the search -------------------------------------------------------------------------------------


def test_it_finds_the_better_values(tmp_path: Path) -> None:
    t = Tuning(plan(trials=25), tmp_path)
    go_on(t)
    assert len(t.done) == 25 and t.best.score == max(score(d.values) for d in t.done) > 0.5
    assert all(1 <= d.values["lam"] <= 100 and 0.01 <= d.values["lr"] <= 0.5 for d in t.done)


def test_stopping_changes_no_trial(tmp_path: Path) -> None:
    whole = Tuning(plan(trials=14), tmp_path / "whole")
    go_on(whole)
    for _ in range(20):
        part = Tuning(plan(trials=14), tmp_path / "part")
        go_on(part, 3)
        part.ask()  # and is stopped amid it
    assert [t.values for t in part.done] == [t.values for t in whole.done]
    assert part.best == whole.best


def test_more_trials_can_be_added_and_other_plans_are_refused(tmp_path: Path) -> None:
    go_on(Tuning(plan(), tmp_path))
    more = Tuning(plan(trials=7), tmp_path)
    go_on(more)
    assert len(more.done) == 7
    with pytest.raises(ValueError, match="trials of another plan"):
        Tuning(plan(seed=78), tmp_path)


def test_kinds_of_values(tmp_path: Path) -> None:
    knobs = (
        Knob("labels", choices=("exact", "true")), Knob("online", choices=(True, False)),
        Knob("examples", 10, 40, whole=True), Knob("iterations", 5, 500, log=True, whole=True),
    )  # fmt: skip
    p = Plan(Experiment("permuted", EWC(), SMALL), knobs, first=1, trials=3)
    t = Tuning(p, tmp_path)
    while trial := t.ask():
        e = p.of_trial(trial.values)
        method: Any = e.method
        assert method.labels in ("exact", "true") and type(method.online) is bool
        assert type(method.examples) is int and type(e.settings.iterations) is int
        t.tell(trial, 0.5)
    assert t.best.number == 0  # of equal scores the first


def test_choices_alone_are_each_tried_once(tmp_path: Path) -> None:
    knobs = (Knob("lam", choices=(1.0, 10.0, 100.0)), Knob("online", choices=(True, False)))
    p = Plan(Experiment("permuted", EWC(), SMALL), knobs, trials=9)
    assert p.total == 6
    for _ in range(4):
        part = Tuning(p, tmp_path)
        trial = part.ask()
        assert trial is not None and part.ask() == trial  # stopped amid it, and gone on with
        part.tell(trial, 0.5)
    while trial := part.ask():
        part.tell(trial, 0.5)
    assert [t.values for t in part.done] == p.combinations
    assert [t.number for t in part.done] == list(range(6))
    assert dataclasses.replace(p, trials=5).combinations == []  # too few for all: they are proposed
    assert dataclasses.replace(p, knobs=(*knobs, LR)).total == 9


def test_fewer_trials_first_and_then_every_combination(tmp_path: Path) -> None:
    p = Plan(Experiment("permuted", EWC(), SMALL), (Knob("lam", choices=(1.0, 10.0, 100.0)),), trials=2)
    for trials in (2, 20):
        t = Tuning(dataclasses.replace(p, trials=trials), tmp_path)
        while trial := t.ask():
            t.tell(trial, 0.5)
    assert {d.values["lam"] for d in t.done} == {1.0, 10.0, 100.0} and len(t.done) <= 4


@pytest.mark.parametrize(("first", "words"), [(1, "tasks 2 to 4"), (3, "task 4")])
def test_tasks_that_no_trial_sees_in_words(first: int, words: str) -> None:
    assert plan(first=first).unseen == words


def test_nothing_learned_is_an_error(tmp_path: Path) -> None:
    t = Tuning(plan(trials=1), tmp_path)
    trial = t.ask()
    assert trial is not None
    t.tell(trial, 0.0)
    with pytest.raises(ValueError, match="no trial has learned anything"):
        t.best


def test_optuna_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(NoOptuna, match="pip install optuna"):
        Tuning(plan(), tmp_path)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: plan(first=4), "first_tasks must be below 4"),
        (lambda: plan(first=0), "must be >= 1"),
        (lambda: plan(trials=0), "must be >= 1"),
        (lambda: Plan(plan().experiment, ()), "say what to tune"),
        (lambda: Plan(plan().experiment, (LAM, LAM)), "lam is named twice: give it one range"),
        (
            lambda: Plan(plan().experiment, (Knob("samples", 1, 9),)),
            "samples cannot be tuned; of EWC these can: lam",
        ),
        (lambda: Plan(Experiment("noisy-clean", EWC()), (LAM,)), "noisy-clean has no first tasks"),
        (lambda: Plan(plan().experiment, (Knob("lam", -1.0, 1.0),)), "EWC.lam must be"),
        (lambda: Plan(plan().experiment, (Knob("lr", choices=(0.1, 0.0)),)), "lr must be a number > 0"),
        (lambda: Plan(plan().experiment, (Knob("batch_size", 0, 9, whole=True),)), "batch_size must be >= 1"),
        (lambda: Knob("lam", 3.0, 1.0), "lam: the range is empty: LOW must be below HIGH, got 3.0 and 1.0"),
        (lambda: Knob("lam", 0.0, 1.0, log=True), "logarithmic range begins above 0"),
        (lambda: Knob("lam", float("nan"), 1.0), "is empty"),
        (lambda: Knob("lam", choices=(1.0,)), "two or more choices, each once"),
        (lambda: Knob("lam", choices=(1.0, 2.0, 1.0)), "two or more choices, each once"),
    ],
)
def test_plans_that_cannot_be(make: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


# --- what is frozen ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "e",
    [
        Experiment("permuted", EWC(lam=1e-7, online=True), dataclasses.replace(SMALL, lr=3.25e-5, seed=3)),
        Experiment(
            "split", Replay(), Settings(scenario="class", class_order='a"b', folder="C:\\x", blur=0.25)
        ),
        Experiment("split", EWC()),
    ],
)
def test_toml_says_the_same_again(e: Experiment) -> None:
    assert Experiment.from_config(tomllib.loads(to_toml(e))) == e
    both = tomllib.loads(to_toml(e, ["naive", "x"], seeds=4))
    assert both["methods"] == ["naive", "x"] and both["seeds"] == 4 and "seed" not in both


def test_toml_has_no_word_for_none() -> None:
    with pytest.raises(ValueError, match="TOML has no word for"):
        to_toml(Experiment("split", EWC(examples=None)))


def test_later_tasks_are_those_no_trial_has_seen() -> None:
    p = Plan(Experiment("permuted", EWC(), dataclasses.replace(SMALL, repeats=2)), (LAM,), first=3)
    r = Experiment("permuted", Replay(memory=10), dataclasses.replace(SMALL, repeats=2)).run()
    assert later(r, p) == pytest.approx((r.accuracy[-1][3] + r.accuracy[-1][7]) / 2)
