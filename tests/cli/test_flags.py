"""Every field is a flag, whatever the methods of the day; values and help come from the dataclass."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from retain.cli import compare, many, run, tune
from retain.cli.errors import WrongUse
from retain.cli.flags import Group, flags_of, help_of, parse, show
from retain.experiment import Experiment, Settings, from_plain
from retain.method import Method
from retain.methods import discover

METHODS = discover()


def groups(kind: type[Any]) -> list[Group]:
    return [
        Group("m", kind, {}),
        Group("settings", Settings, {}),
        Group("output", run.Options, {}, pairs=False),
    ]


KINDS = (Settings, run.Options, many.Options, compare.What, tune.Options)


@pytest.mark.parametrize("name", METHODS)
def test_no_name_means_two_things(name: str) -> None:
    common = [f.name for kind in KINDS for f in flags_of(kind) if f.name != "on"]
    own = [f.name for f in flags_of(METHODS[name])]
    assert not set(own) & set(common)  # --on ray is of compare and reproduce, where a method's is --ncm.on
    assert name not in common  # a method's prefix in compare
    of_run = [f.name for kind in (Settings, run.Options) for f in flags_of(kind)]
    assert len(set(of_run)) == len(of_run)


@pytest.mark.parametrize("kind", [*METHODS.values(), *KINDS])
def test_every_field_says_what_it_is(kind: type[Any]) -> None:
    assert [f.name for f in flags_of(kind) if not f.help] == []
    assert all(f.default is not dataclasses.MISSING for f in flags_of(kind))


@pytest.mark.parametrize("name", METHODS)
def test_no_flags_means_the_defaults(name: str) -> None:
    given = parse("retain run", [], groups(METHODS[name]))
    assert from_plain(METHODS[name], given["m"]) == METHODS[name]()
    assert from_plain(Settings, given["settings"]) == Settings()
    assert run.Options(**given["output"]) == run.Options()


def other(flag: Any) -> tuple[list[str], Any]:
    """Words that set a flag to something else than its default, and the value that they mean."""
    spelled, kind = "--" + flag.name.replace("_", "-"), flag.kind
    if flag.hint is bool:
        return ([spelled], True) if not flag.default else ([f"--no-{spelled[2:]}"], False)
    if kind.startswith("{"):
        choice = next(c for c in kind.strip("{}").split("|") if c not in (flag.default, "none"))
        return [spelled, choice], choice
    value: Any = {"INT": 7, "NUMBER": 0.25, "TEXT": "text", "INT,INT,...": (3, 4)}[kind.removesuffix("|none")]
    return [spelled, show(value)], value


@pytest.mark.parametrize("kind", [*METHODS.values(), Settings])
def test_every_flag_sets_its_field(kind: type[Any]) -> None:
    for flag in flags_of(kind):
        words, value = other(flag)
        got = parse("retain", words, [Group("g", kind, {})])["g"]
        assert got[flag.name] == value, flag
        assert {k: v for k, v in got.items() if k != flag.name} == {
            f.name: f.default for f in flags_of(kind) if f.name != flag.name
        }


def test_flags_override_what_a_file_said_and_nothing_else() -> None:
    told = {"lr": 0.5, "tasks": 4, "hidden": [10, 20], "pad": True}
    got = parse("retain", ["--lr", "0.2", "--no-pad", "--tasks", "none"], [Group("s", Settings, told)])["s"]
    assert (got["lr"], got["pad"], got["tasks"], got["hidden"]) == (0.2, False, None, (10, 20))


def test_the_optimiser_is_kept_or_reset() -> None:
    def reset(*words: str, told: bool = False) -> bool:
        told_so = {"reset_optimizer": told}
        return bool(parse("retain", words, [Group("s", Settings, told_so)])["s"]["reset_optimizer"])

    assert reset("--reset-optimizer")
    assert not reset("--keep-optimizer")
    assert not reset("--keep-optimizer", told=True)
    assert reset(told=True)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--lr"], "--lr needs a value"),
        (["--lr", "--pad"], "--lr needs a value"),
        (["--lr", "fast"], "--lr must be a number, got 'fast'"),
        (["--tasks", "2.5"], "--tasks must be a whole number, got '2.5'"),
        (["--hidden", "256x256"], "--hidden must be whole numbers such as 256,256, got '256x256'"),
        (["--model", "mpl"], "--model must be one of mlp, cnn, got 'mpl' (did you mean 'mlp'?)"),
        (["--batchsize", "3"], "no flag --batchsize (did you mean '--batch-size'?)"),
        (["--batchsize=3"], "no flag --batchsize (did you mean '--batch-size'?)"),
        (["--lr", "0.1", "0.2"], "what is '0.2' for?"),
    ],
)
def test_what_a_wrong_word_is_told(words: list[str], complaint: str) -> None:
    with pytest.raises(WrongUse) as e:
        parse("retain run", words, groups(METHODS["ewc"]))
    assert complaint in str(e.value)


@pytest.mark.parametrize("name", METHODS)
def test_help_names_every_flag_with_its_default(name: str) -> None:
    text = help_of(groups(METHODS[name]))
    for flag in [*flags_of(METHODS[name]), *flags_of(Settings), *flags_of(run.Options)]:
        assert f"--{flag.name.replace('_', '-')}" in text
    assert "(default: 256,256)" in text
    assert "--no-resume" not in text
    assert "usage" not in text


def test_one_field_of_each_method_reaches_the_experiment() -> None:
    made: list[Method[Any]] = [kind() for kind in METHODS.values()]
    for method in made:
        e = Experiment("permuted", method)
        assert Experiment.from_config(e.config()) == e
