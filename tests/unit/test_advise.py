"""Advice: what is excluded and why, in what order the rest comes, and whose figures stand behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from retain import advise as module
from retain.advise import (
    FEWEST,
    Advice,
    Constraints,
    advise,
    example_bytes,
    figures,
    measured_bytes,
)
from retain.experiment import Experiment, Settings
from retain.methods import discover
from retain.reproduce import recipes

NONE: dict[str, Any] = {"rows": []}
METHODS = discover()
IMAGE = 4 * 784 + 8 + 8  # bytes: pixels, a label, a task number


def found(table: dict[str, Any] = NONE, **given: Any) -> dict[str, Advice]:
    return {a.name: a for a in advise(Constraints(**given), table)}


def usable(table: dict[str, Any] = NONE, **given: Any) -> list[str]:
    return [a.name for a in advise(Constraints(**given), table) if not a.lacks]


def row(
    id: str, method: str, mean: float, stream: str = "split", scenario: str | None = "class"
) -> dict[str, Any]:
    config = {"stream": stream, "method": {"name": method}, "scenario": scenario}
    return {
        "id": id, "title": id, "group": "g", "mean": mean, "low": mean - 1, "high": mean + 1,
        "values": {"0": mean, "1": mean}, "seconds": 7.0, "runs": [{"key": id, "config": config}],
    }  # fmt: skip


@dataclass
class Said:
    measure: str = "acc"


@dataclass
class Known:
    """What is read of a recipe's row."""

    id: str
    said: Said
    minus: object = None


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ("a/er", "a/er-big", "a/der", "a/perm", "a/naive", "a/offline", "b/gem", "b/naive")
    rows = [
        *(Known(id, Said()) for id in plain),
        Known("a/bwt", Said("bwt")),
        Known("a/gain", Said(), minus=1),
    ]
    monkeypatch.setattr(module, "recipes", lambda: rows)


@pytest.mark.parametrize(
    ("given", "scenario"),
    [
        ({}, "class"),
        ({"new_classes": False}, "domain"),
        ({"task_known": True}, "task"),
        ({"task_known": True, "new_classes": False}, "task"),
    ],
)
def test_scenario(given: dict[str, Any], scenario: str) -> None:
    assert Constraints(**given).scenario == scenario


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"store": "all"}, "store must be one of nothing, statistics, generator, examples"),
        ({"backbone": "thawed"}, "backbone trained or frozen"),
        ({"memory_bytes": -1}, "memory_bytes must be >= 0"),
        ({"compute": 0.0}, "compute must be a number > 0"),
        ({"compute": float("nan")}, "compute must be a number > 0"),
        ({"task_known": True, "boundaries": False}, "so are the boundaries"),
    ],
)
def test_what_is_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Constraints(**given)


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_every_method_is_judged_once_by_its_traits(scenario: str) -> None:
    said = found(task_known=scenario == "task", new_classes=scenario == "class")
    assert set(said) == set(METHODS)
    for name, a in said.items():
        t = METHODS[name].traits
        bad = scenario not in t.scenarios or scenario in t.fails_in or name in ("naive", "joint")
        assert bool(a.lacks) == bad, (name, a.lacks)


def test_what_a_constraint_excludes() -> None:
    said = found(store="statistics")
    assert said["replay"].lacks == ("keeps examples",)
    assert said["generative-replay"].lacks == ("keeps a generator",)
    assert "known to forget nearly all in scenario class" in said["ewc"].lacks
    untold = found(new_classes=False, boundaries=False)
    assert untold["ewc"].lacks == ("must be told where tasks begin and end",)
    assert not untold["replay"].lacks
    dear = found(compute=1.0, task_known=True)
    assert dear["replay"].lacks == ("costs too much: one step on twice the examples",)
    assert dear["gem"].lacks == ("costs too much: one step and one gradient of each task's memory",)
    assert not dear["ewc"].lacks
    frozen = usable(backbone="frozen")
    assert all(METHODS[n].traits.closed_form for n in frozen) and "replay" not in frozen


def test_bytes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: METHODS[name] for name in ("ewc", "naive", "replay")}
    monkeypatch.setattr(module, "discover", lambda: few)
    most = FEWEST * IMAGE - 1
    assert found(memory_bytes=most)["replay"].lacks == (
        f"{most:,} bytes are 9 images, fewer than one a class",
    )
    enough = found(memory_bytes=100 * IMAGE)["replay"]
    assert not enough.lacks and "100 MNIST images of 3,152 bytes fit" in enough.keeps
    weights = 784 * 256 + 256 + 256 * 256 + 256 + 2560 + 10
    one, two = measured_bytes("ewc", "domain")
    assert one == two and 2 * 4 * weights <= two < 2 * 4 * weights + 1000  # W and m, a float32 each
    small = found(memory_bytes=1000, new_classes=False)
    assert small["ewc"].lacks == (f"keeps {two:,} bytes after two tasks",)
    assert not found(memory_bytes=two, new_classes=False)["ewc"].lacks
    assert measured_bytes("naive", "domain") == (0, 0)


KEEPERS = [n for n, kind in METHODS.items() if kind.traits.stores == "examples" and n != "joint"]


@pytest.mark.parametrize("name", KEEPERS)
def test_an_example_takes_what_the_method_keeps_of_it(name: str) -> None:
    more = {"der": 40, "der-pp": 40, "gss": 4, "gdumb": 16}  # logits; a score; the group and the age
    assert example_bytes(name, "class")[0] == IMAGE + more.get(name, 0)


@pytest.mark.parametrize("name", ["der-pp", "gss", "gdumb", "icarl", "gem"])
def test_as_many_fit_as_a_run_keeps_in_so_many_bytes(name: str) -> None:
    most = 1_400_000
    each, rest = example_bytes(name, "class")
    fit = (most - rest) // each
    size = {"memory_per_task": fit // 2} if name == "gem" else {"memory": fit}
    settings = Settings(scenario="class", tasks=2, samples=300, test_samples=20)
    r = Experiment("split", METHODS[name](**size), settings).run()
    assert r.examples_stored in (fit, fit - 1)
    assert most - 2 * each < r.state_bytes <= most


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_every_method_can_be_measured(scenario: Any) -> None:
    told = {"task_known": scenario == "task", "new_classes": scenario == "class"}
    assert len(found(memory_bytes=1_000_000, **told)) == len(METHODS)


def test_figures_are_of_the_row_and_only_of_plain_accuracies(known: None) -> None:
    table = {
        "rows": [
            row("a/er", "replay", 90.0), row("a/bwt", "replay", 5.0), row("a/gain", "replay", 5.0),
            row("a/unknown", "replay", 99.0), {**row("a/der", "der", 1.0), "mean": None},
            row("a/perm", "replay", 80.0, "permuted", None),
        ]
    }  # fmt: skip
    got = figures(table)
    assert list(got) == ["replay"] and [f.id for f in got["replay"]] == ["a/er", "a/perm"]
    assert str(got["replay"][0]) == "90.0 \u00b1 1.0 % on split (a/er: a/er, 2 seeds, 7 s each)"
    assert got["replay"][1].scenario == "domain"  # permuted's own


def test_order_is_by_the_errors_that_plain_training_would_make(known: None) -> None:
    table = {
        "rows": [
            row("a/naive", "naive", 20.0), row("a/offline", "naive", 98.0), row("a/er", "replay", 60.0),
            row("a/er-big", "replay", 92.0), row("a/der", "er-ace", 84.0), row("b/gem", "gem", 70.0),
            row("b/naive", "naive", -60.0),
        ]
    }  # fmt: skip
    best = advise(Constraints(), table)
    assert [a.name for a in best[:3]] == ["replay", "gem", "er-ace"]  # 90 %, 81 % (of its own group), 80 %
    first = best[0].figure
    assert first is not None and first.spared == pytest.approx(0.9)
    assert "92.0 \u00b1 1.0 % on split, where plain training has 20.0 (a/er-big" in str(first)
    assert best[3].figure is None and not best[3].lacks
    assert all(a.lacks for a in best[len(usable()) :])
    assert (
        found(table)["replay"].figure is not None and found(table, task_known=True)["replay"].figure is None
    )


def test_a_figure_with_nothing_to_compare_it_with_comes_after(known: None) -> None:
    table = {
        "rows": [
            row("a/er", "replay", 95.0, "permuted", None), row("a/der", "gem", 60.0, scenario="domain"),
            row("a/naive", "naive", 50.0, scenario="domain"),
        ]
    }  # fmt: skip
    assert usable(table, new_classes=False)[:2] == ["gem", "replay"]


@pytest.mark.parametrize(
    ("name", "cost", "steps"),
    [
        ("l2", "one step", 1),
        ("lwf", "one step and a forward pass of the old network", 1.3),
        ("der-pp", "one step on three times the examples", 3),
        ("agem", "one step and one gradient of a batch of memories", 2),
        ("slda", "one forward pass; one solve before a prediction", 0.3),
        ("gdumb", "no step; at a task's end, epochs over the memory", 0),
        ("joint", "one step; as many as all tasks so far have", float("inf")),
    ],
)
def test_words_of_cost_as_steps(name: str, cost: str, steps: float) -> None:
    traits = METHODS[name].traits
    assert traits.cost.startswith(cost) and traits.steps == steps


def test_the_packages_own_figures_can_be_read() -> None:
    ids = {r.id for r in recipes()}
    for name, measured in figures().items():
        assert name in METHODS and all(f.id in ids and 0 <= f.mean <= 100 for f in measured)
