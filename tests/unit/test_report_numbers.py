from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tests.unit import report_examples as examples

from retain.report import (
    lines,
    sentence,
    summarise,
    table,
    text,
    write_export,
)
from retain.report import words as words_of
from retain.report.table import Stat, percent, rows
from retain.report.words import caveats
from retain.result import Curve, Result

example = examples.example


@pytest.fixture(scope="module")
def demo() -> list[Result]:
    results: list[Result] = examples.demo()
    assert len(results) == 18
    return results


def by_hand(R: list[list[float]]) -> dict[str, float]:
    """The measures with loops and 1-based indices, as the papers write them."""
    T = len(R) - 1
    r = {(i, j): R[i][j - 1] for i in range(T + 1) for j in range(1, T + 1)}
    return {
        "acc": sum(r[T, j] for j in range(1, T + 1)) / T,
        "bwt": sum(r[T, j] - r[j, j] for j in range(1, T)) / (T - 1),
        "fwt": sum(r[j - 1, j] - r[0, j] for j in range(2, T + 1)) / (T - 1),
        "forgetting": sum(max(r[i, j] for i in range(j, T)) - r[T, j] for j in range(1, T)) / (T - 1),
        "learning_accuracy": sum(r[j, j] for j in range(1, T + 1)) / T,
    }


def test_rows_hold_what_a_slow_computation_gives(demo: list[Result]) -> None:
    rows = summarise(demo)
    assert [(r.stream, r.name) for r in rows[:7]] == [("permuted", k) for k in examples.KINDS]
    assert [(r.stream, r.name) for r in rows[7:]] == [
        ("noisy-clean", k) for k in ("naive", "ewc", "gem", "joint")
    ]
    for row in rows:
        runs = [r for r in demo if r.method["name"] == row.name and r.stream["name"] == row.stream]
        joint = [r for r in demo if r.method["name"] == "joint" and r.stream["name"] == row.stream]
        assert row.seeds == tuple(r.seed for r in runs)
        for name in ("acc", "bwt", "fwt", "forgetting", "learning_accuracy"):
            values = [by_hand(r.accuracy)[name] for r in runs]
            stat = getattr(row, name)
            assert stat.mean == pytest.approx(mean(values), abs=1e-12)
            assert stat.n == len(values)
            assert stat.sd == (pytest.approx(stdev(values), abs=1e-12) if len(values) > 1 else None)
        if row.name == "joint":
            assert row.intransigence is None
        else:
            worse = [
                mean(j.accuracy[i + 1][i] - r.accuracy[i + 1][i] for i in range(len(r.tasks)))
                for r, j in zip(runs, joint, strict=True)
            ]
            assert row.intransigence is not None
            assert row.intransigence.mean == pytest.approx(mean(worse), abs=1e-12)
        assert row.total.mean == mean(r.seconds.total for r in runs)
        assert row.examples_stored.mean == mean(r.examples_stored for r in runs)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=9))
def test_stat_is_that_of_the_statistics_module(values: list[float]) -> None:
    stat = Stat.of(values)
    assert stat.mean == pytest.approx(mean(values), abs=1e-12)
    assert stat.sd == (pytest.approx(stdev(values), abs=1e-9) if len(values) > 1 else None)
    assert ("±" in percent(stat)) == (len(values) > 1)


def test_intransigence_needs_the_joint_run_of_the_same_seed() -> None:
    rows = summarise([example("ewc", 0), example("ewc", 1), example("joint", 1)])
    assert rows[0].intransigence is not None and rows[0].intransigence.n == 1
    assert summarise([example("ewc", 0), example("joint", 1)])[0].intransigence is None


def test_settings_make_lines_of_their_own_named_by_what_differs() -> None:
    runs = [example("ewc", s, lam=lam) for lam in (10.0, 100.0) for s in (0, 1)] + [example("naive")]
    rows = summarise(runs)
    assert [(r.method, len(r.seeds)) for r in rows] == [("naive", 1), ("ewc lam=10", 2), ("ewc lam=100", 2)]
    slow = replace(example("naive", 0), config={**example("naive").config, "lr": 0.03, "out": "elsewhere"})
    assert [r.method for r in summarise([slow, example("naive")])] == ["naive lr=0.03", "naive lr=0.1"]
    colours = [line.colour for line in lines.group(runs)[0].lines]
    assert len(set(colours)) == 3
    assert colours[1] == lines.COLOURS["ewc"]  # the first of a method has the method's own colour


def test_a_method_has_the_same_colour_whatever_else_is_shown() -> None:
    everywhere = {line.colour for g in lines.group(examples.demo()) for line in g.lines if line.name == "gem"}
    assert everywhere == {lines.group([example("gem")])[0].lines[0].colour}
    a, b = (replace(example(), method={"name": n}) for n in ("mine", "other"))
    both = {line.label: line.colour for line in lines.group([a, b])[0].lines}
    assert len(set(both.values())) == 2
    assert both["mine"] == lines.group([a])[0].lines[0].colour


def test_a_chain_is_named_after_its_links() -> None:
    def chained(lam: float) -> Result:
        links = [{"name": "replay", "memory": 5}, {"name": "ewc", "lam": lam}]
        return replace(example(), method={"name": "chain", "methods": links})

    assert [r.method for r in summarise([chained(1.0), chained(2.0)])] == [
        "replay + ewc ewc.lam=1",
        "replay + ewc ewc.lam=2",
    ]


def test_the_same_run_twice_counts_once_and_two_that_disagree_are_refused() -> None:
    assert summarise([example(), example()])[0].seeds == (0,)
    with pytest.raises(ValueError, match=r"two different results of naive, seed 0.*keep one"):
        summarise([example(), replace(example(), accuracy=example("ewc").accuracy)])


def test_tasks_that_are_dealt_anew_for_each_seed_get_neutral_names() -> None:
    stream = {"name": "split", "class_order": "random"}
    runs = [
        example("naive", s, names, stream={**stream, "seed": s})
        for s, names in enumerate([("3/7", "1/2"), ("0/4", "5/6")])
    ]
    (g,) = lines.group(runs)
    assert g.tasks == ("task 1", "task 2")
    assert lines.group([example(names=("A", "A"))])[0].tasks == ("1: A", "2: A")


def test_the_table_fits_a_terminal_and_shows_every_row(demo: list[Result]) -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(table(demo))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for row in summarise(demo):
        assert percent(row.acc) in text and percent(row.bwt, signed=True) in text


def test_names_are_no_markup_and_no_escape_codes_for_the_terminal() -> None:
    evil = replace(example(names=("[red]A", "B\x1b[31m")), method={"name": "[bold]x\x1b[2J"})
    console = Console(file=io.StringIO(), width=100)
    console.print(table([evil]))
    assert isinstance(console.file, io.StringIO)
    assert "[bold]x\ufffd[2J" in console.file.getvalue()
    assert "\x1b" not in console.file.getvalue() + sentence([evil])


def matrix_run(kind: str, R: list[list[float]], seed: int = 0) -> Result:
    base = example(kind, seed, tuple("ABC"[: len(R) - 1]))
    return replace(base, accuracy=R)


def test_the_sentence_is_computed() -> None:
    naive = matrix_run("naive", [[0.1] * 3, [0.97, 0.1, 0.1], [0.92, 0.97, 0.1], [0.879, 0.93, 0.97]])
    l2 = matrix_run("l2", [[0.1] * 3, [0.96, 0.1, 0.1], [0.95, 0.9, 0.1], [0.94, 0.89, 0.84]])
    ewc = matrix_run("ewc", [[0.1] * 3, [0.96, 0.1, 0.1], [0.96, 0.96, 0.1], [0.963, 0.96, 0.96]])
    joint = matrix_run("joint", [[0.1] * 3, [0.97, 0.1, 0.1], [0.97, 0.97, 0.1], [0.97, 0.97, 0.97]])
    assert sentence([naive, l2, ewc, joint]) == (
        "After C, plain training has lost 9.1 points on A, L2 2.0 (but learned C only to 84.0 %) and "
        "EWC gained 0.3; over all tasks EWC comes first with 96.1 % (one seed: chance is not ruled out), while "
        "joint training, which keeps all data, reaches 97.0 %."
    )
    assert (
        sentence([naive])
        == "After C, plain training has lost 9.1 points on A; over all tasks it reaches 92.6 %."
    )
    assert (
        sentence([joint]) == "After C, over all tasks, joint training, which keeps all data, reaches 97.0 %."
    )
    one = matrix_run("naive", [[0.1], [0.97]])
    assert sentence([one]) == "On A, the only task, plain training reaches 97.0 %."


def last_rows(kind: str, *accs: float) -> list[Result]:
    """One run a seed, with this accuracy on both tasks at the end."""
    return [matrix_run(kind, [[0.1] * 2, [0.9, 0.1], [a, a]], seed) for seed, a in enumerate(accs)]


def test_two_seeds_prove_little_and_the_sentence_says_so() -> None:
    results = [example(k, s) for k in ("ewc", "gem") for s in (0, 1)]
    assert "GEM comes first with 96.5 % (two seeds are too few to prove that it is above EWC)." in sentence(
        results
    )


def test_networks_that_were_hardly_trained_are_named() -> None:
    short = [example("naive", s, steps=9, points=9) for s in (0, 1)]
    (g,) = lines.group(short)
    assert not [s for s in words_of.suspicious(g) if "hardly" in s]  # few steps, but they were enough
    weak = [replace(r, accuracy=[[v / 2 for v in row] for row in r.accuracy]) for r in short]
    (said,) = [s for s in words_of.suspicious(lines.group(weak)[0]) if "hardly" in s]
    learned = 100 * mean([r.learning_accuracy or 0 for r in weak])
    assert said == (
        f"plain training learned its tasks only to {learned:.1f} %, in 9 steps each at most: the networks are "
        "hardly trained; raise --epochs or --samples"
    )
    longer = [replace(r, boundaries=[100, 200, 300], curve=Curve([], [])) for r in weak]
    assert not [s for s in words_of.suspicious(lines.group(longer)[0]) if "hardly" in s]


def test_a_best_method_is_named_only_beyond_noise() -> None:
    ewc = last_rows("ewc", 0.950, 0.940, 0.960, 0.955)
    l2 = last_rows("l2", 0.900, 0.892, 0.908, 0.903)
    gem = last_rows("gem", 0.948, 0.943, 0.958, 0.957)
    assert (
        "EWC comes best with 95.1 % (above L2 by 5.0 points, 95% interval 4.7 to 5.4, 4 seeds)"
        in sentence([*ewc, *l2])
    )
    told = sentence([*ewc, *l2, *gem])
    assert "GEM comes first with 95.2 %, but cannot be told apart from EWC (4 seeds)" in told
    notes = caveats([*ewc, *l2, *gem])
    assert notes == [
        "GEM cannot be told apart from EWC: above by 0.0 points, 95% interval −0.4 to 0.4, 4 seeds",
        "FWT is the same for every method, so it says nothing of them",
    ]


def test_the_sentence_and_the_notes_of_a_page_agree() -> None:
    """Both compare the best with every other, and with nothing else."""
    best = last_rows("replay", 0.90, 0.91, 0.92)
    far, below, near = (
        last_rows(m, *accs)
        for m, accs in (
            ("naive", (0.10, 0.11, 0.12)),
            ("ewc", (0.50, 0.55, 0.70)),
            ("gem", (0.89, 0.93, 0.90)),
        )
    )
    joint = last_rows("joint", 0.91, 0.91, 0.93)
    page = [*best, *far, *below, *near, *joint]
    assert (
        "replay comes first with 91.0 %, above EWC but not surely, and cannot be told apart from GEM (3 seeds)"
        in sentence(page)
    )
    said = caveats(page)
    assert [s.split(":")[0] for s in said if "replay" in s] == [
        "replay is above EWC by 32.7 points, 95% interval 9.2 to 56.1, 3 seeds, but not surely",
        "replay cannot be told apart from GEM",
    ]
    assert "p = 0.054 after Holm's correction for 3 comparisons; more seeds would tell" in said[0]
    assert not any("joint" in s and "told apart" in s for s in said)
    four = [*best, *(r for m in ("ewc", "l2", "gem", "naive") for r in last_rows(m, 0.5, 0.55, 0.7))]
    assert "above 4 others but not surely (3 seeds)" in sentence(four)


def test_the_caveats_of_two_streams_say_which() -> None:
    pair = [matrix_run("naive", [[0.1], [0.9]]), matrix_run("ewc", [[0.1], [0.8]])]
    other = [replace(r, stream={"name": "split"}) for r in pair]
    assert caveats([*pair, *other]) == [
        f"On {name}: one seed only, so no interval: plain training, EWC" for name in ("permuted", "split")
    ]


def test_the_table_has_the_interval_where_it_is_asked_for() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(table(last_rows("ewc", 0.95, 0.93, 0.94), interval=True))
    assert isinstance(console.file, io.StringIO)
    assert "94.0 ± 2.5" in console.file.getvalue()  # t_2 = 4.303 times 1 / sqrt(3); the sd is 1.0


# The terminal


def printed(what: Any, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(*what, sep="\n")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 110, 250])
def test_the_text_report_fits_any_terminal_and_cuts_no_number(demo: list[Result], width: int) -> None:
    many = example("ewc", names=tuple(f"permutation {j}" for j in range(20)), points=0)
    said = printed(text.report(lines.group([*demo, many])), width)
    assert max(map(len, said.splitlines())) <= width
    assert "…" not in said and "\x1b" not in said
    words = " ".join(said.split())
    for row in summarise([*demo, many]):
        for stat in (row.acc, row.forgetting, row.learning_accuracy):
            assert percent(stat, interval=True) in words
    for value in (v for r in many.accuracy for v in r):
        assert f"{100 * value:.1f}" in words
    for comparison in words_of.compared(lines.group(demo)[0]):
        assert comparison in words


# Folders side by side


def two_folders() -> tuple[list[Result], list[str]]:
    before = [example(k, s) for k in ("naive", "ewc", "joint") for s in range(3)]
    after = [replace(example("ewc", s + 10), seed=s) for s in range(3)] + [
        example("gem", s) for s in range(3)
    ]
    return [*before, *after], ["before"] * len(before) + ["after"] * len(after)


def test_what_two_folders_have_in_common_stands_side_by_side() -> None:
    results, folders = two_folders()
    with pytest.raises(ValueError, match="two different results of ewc, seed 0"):
        lines.group(results)
    (g,) = lines.group(results, folders)
    assert [line.label for line in g.lines] == [
        "naive · before", "ewc · before", "ewc · after", "gem · after", "joint · before",
    ]  # fmt: skip
    assert len({(line.colour, line.dash) for line in g.lines}) == 5
    (said,) = words_of.between_folders(g)
    a, b = ([r.acc for r in line.runs] for line in g.lines[1:3])
    d = mean(a) - mean(b)
    assert f"by {abs(100 * d):.1f} points" in said and "EWC · before" in said and "EWC · after" in said
    by_label = {row.method: row for row in rows(g)}
    assert by_label["ewc · before"].intransigence is not None
    assert by_label["ewc · after"].intransigence is None  # joint training is not in its folder
    assert words_of.between_folders(lines.group(results[:9])[0]) == []


def test_folders_are_told_apart_by_as_much_of_their_paths_as_that_takes(tmp_path: Path) -> None:
    assert lines.folder_names([tmp_path / "a" / "out", tmp_path / "b" / "out"]) == ["a/out", "b/out"]
    with pytest.raises(ValueError, match="named twice"):
        lines.folder_names([tmp_path, tmp_path / "x" / ".."])


# Files


def test_every_figure_is_exported_with_its_data(demo: list[Result], tmp_path: Path) -> None:
    paths = write_export(demo, tmp_path)
    kinds = {
        "curves",
        "matrices",
        "plane",
        "cost-1",
        "cost-2",
        "cost-3",
        "cosines-1",
        "multipliers-1",
        "layers-1",
    }
    names = {f"{kind}-{stream}" for kind in kinds for stream in ("permuted", "noisy-clean")}
    assert (
        {p.stem for p in paths if p.suffix == ".svg"}
        == {p.stem for p in paths if p.suffix == ".png"}
        == names
    )
    assert {p.stem for p in paths if p.suffix == ".csv"} == names | {
        "numbers-permuted",
        "numbers-noisy-clean",
    }
    assert all(p.read_bytes().startswith(b"<svg") for p in paths if p.suffix == ".svg")

    def read(name: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO((tmp_path / f"{name}.csv").read_text())))

    ewc = next(r for r in demo if r.method["name"] == "ewc" and r.seed == 1)
    values = [
        (int(x["step"]), float(x["accuracy"])) for x in read("curves-permuted")
        if (x["method"], x["seed"], x["accuracy on"]) == ("ewc", "1", "B")
    ]  # fmt: skip
    assert values == list(zip(ewc.curve.step, ewc.curve.task[1], strict=True))  # all of them, not thinned
    matrix = [x for x in read("matrices-permuted") if (x["method"], x["seed"]) == ("ewc", "1")]
    assert [float(x["accuracy"]) for x in matrix] == [v for row in ewc.accuracy for v in row]
    acc = {x["method"]: float(x["mean"]) for x in read("numbers-permuted") if x["measure"] == "ACC"}
    assert acc == {row.method: row.acc.mean for row in summarise(demo) if row.stream == "permuted"}
    seeds = [x for x in read("plane-permuted") if x["kind"] == "seed" and x["method"] == "ewc"]
    assert [(float(x["x"]), float(x["y"])) for x in seeds][1] == (ewc.forgetting, ewc.learning_accuracy)
