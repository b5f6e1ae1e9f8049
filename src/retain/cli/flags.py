"""Dataclasses as flags: a field is a flag, its comment the help text. tyro parses and formats.

tyro only cuts the command line into values here. What a value must be is checked by the dataclasses
themselves, so that the command line, a TOML file and Python all refuse the same with the same words.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
import typing
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from retain.cli.errors import WrongUse, close
from retain.combine import owners

SPELLINGS = {"--keep-optimizer": "--no-reset-optimizer"}


@dataclass(frozen=True)
class Flag:
    """One field as the command line has it."""

    name: str
    hint: Any
    default: Any
    help: str

    @property
    def kind(self) -> str:
        """What its value must be, for the eye."""
        return _metavar(self.hint)


@dataclass(frozen=True)
class Group:
    """Flags that are shown together; with a prefix they are written --group.flag."""

    name: str
    kind: type[Any]
    defaults: Mapping[str, Any]  # what the file said; fields that it did not mention keep their own
    about: str = ""
    prefix: bool = False
    pairs: bool = True  # whether on-off flags have a --no-... beside them
    leave_out: frozenset[str] = frozenset()

    @property
    def flags(self) -> list[Flag]:
        """With the group's defaults."""
        own = [f for f in flags_of(self.kind) if f.name not in self.leave_out]
        return [dataclasses.replace(f, default=self.defaults.get(f.name, f.default)) for f in own]

    def spelling(self, name: str) -> str:
        """A field as it is typed."""
        return "--" + (f"{self.name}." if self.prefix else "") + name.replace("_", "-")


def flags_of(kind: type[Any]) -> tuple[Flag, ...]:
    """Every field of a dataclass, with the comment behind it."""
    hints, said = typing.get_type_hints(kind), comments(kind)
    return tuple(
        Flag(f.name, hints[f.name], f.default, said.get(f.name, "")) for f in dataclasses.fields(kind)
    )


def comments(kind: type[Any]) -> dict[str, str]:
    """The comment behind each field in the source."""
    source = textwrap.dedent(inspect.getsource(kind))
    behind = {
        t.start[0]: t.string.lstrip("# ")
        for t in tokenize.generate_tokens(io.StringIO(source).readline)
        if t.type == tokenize.COMMENT
    }
    made = ast.parse(source).body[0]
    assert isinstance(made, ast.ClassDef)
    found = {}
    for node in made.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            found[node.target.id] = " ".join(behind[i] for i in lines if i in behind)
    return found


def parse(program: str, args: Sequence[str], groups: Sequence[Group]) -> dict[str, dict[str, Any]]:
    """The value of every flag, by the name of its group: what was given, or else the default.

    Raises:
        WrongUse: an unknown flag, a flag without its value, or a value of the wrong kind.
    """
    args = [SPELLINGS.get(a, a) for a in args]
    try:
        made, unknown = tyro.cli(
            _root(groups), prog=program, args=args, return_unknown_args=True, console_outputs=False
        )
    except SystemExit:
        raise WrongUse(_without_value(args, groups)) from None
    if unknown:
        raise WrongUse(_unknown(program, unknown[0], groups))
    inner = {g.name: getattr(made, g.name.replace("-", "_")) for g in groups}
    return {g.name: {f.name: getattr(inner[g.name], f.name) for f in g.flags} for g in groups}


def help_of(groups: Sequence[Group]) -> str:
    """The flags with their help texts, group by group."""
    groups, out = [g for g in groups if g.flags], io.StringIO()
    with redirect_stdout(out), suppress(SystemExit):
        tyro.cli(_root(groups), prog="retain", description="", args=["--help"])
    text = out.getvalue()
    start = text.find(f" {groups[0].name} options")  # before it stands only that there is -h
    return "\n".join(line.rstrip() for line in text[max(start, 0) :].rstrip().split("\n"))


def asks_for_help(args: Sequence[str]) -> bool:
    """Whether -h or --help is among them."""
    return "-h" in args or "--help" in args


def show(value: Any) -> str:
    """A value as it is typed.

    >>> show((256, 256)), show(None), show(0.1)
    ('256,256', 'none', '0.1')
    """
    if isinstance(value, tuple | list):
        return ",".join(map(show, value))
    return "none" if value is None else str(value)


def _root(groups: Sequence[Group]) -> Any:
    """One dataclass for tyro, with a nested one for each group."""
    parts = []
    for g in groups:
        fields = [(f.name, _for_tyro(f, g), dataclasses.field(default=_frozen(f.default))) for f in g.flags]
        made = dataclasses.make_dataclass(g.name.replace("-", "_"), fields)
        made.__doc__ = g.about
        markers = [tyro.conf.arg(name=g.name), *([] if g.prefix else [tyro.conf.OmitArgPrefixes])]
        parts.append((made.__name__, _annotated(made, *markers), dataclasses.field(default_factory=made)))
    return dataclasses.make_dataclass("Flags", parts)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _for_tyro(flag: Flag, group: Group) -> Any:
    """The type by which tyro takes the flag in: on or off, or one word that `read` understands."""
    said = tyro.conf.arg(help=flag.help)
    if flag.hint is bool:
        return _annotated(bool, said, *([] if group.pairs else [tyro.conf.FlagCreatePairsOff]))
    word: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
        nargs=1,
        metavar=flag.kind,
        instance_from_str=lambda words: read(flag.hint, words[0], group.spelling(flag.name)),
        is_instance=lambda value: True,
        str_from_instance=lambda value: [show(value)],
    )
    return _annotated(object, word, said)


def _annotated(kind: Any, *markers: Any) -> Any:
    return Annotated[(kind, *markers)]


def read(hint: Any, word: str, name: str) -> Any:
    """A word of the command line as a value of the type `hint`.

    >>> read(tuple[int, ...], "256,256", "--hidden"), read(int | None, "none", "--tasks")
    ((256, 256), None)

    Raises:
        WrongUse: it is none; names the flag.
    """
    args = typing.get_args(hint)
    if type(None) in args:
        inner = next(a for a in args if a is not type(None))
        return None if word.lower() == "none" else read(inner, word, name)
    if typing.get_origin(hint) is Literal:
        if word in args:
            return word
        raise WrongUse(f"{name} must be one of {', '.join(args)}, got {word!r}{close(word, args)}")
    try:
        if typing.get_origin(hint) is tuple:
            return tuple(args[0](part) for part in word.split(","))
        return hint(word)
    except ValueError:
        raise WrongUse(f"{name} must be {_KINDS[hint]}, got {word!r}") from None


_KINDS = {int: "a whole number", float: "a number", tuple[int, ...]: "whole numbers such as 256,256"}
_METAVARS = {int: "INT", float: "NUMBER", str: "TEXT", bool: "", tuple[int, ...]: "INT,INT,..."}


def _metavar(hint: Any) -> str:
    args = typing.get_args(hint)
    if type(None) in args:
        inner = _metavar(next(a for a in args if a is not type(None)))
        return inner[:-1] + "|none}" if inner.endswith("}") else inner + "|none"
    if typing.get_origin(hint) is Literal:
        return "{" + "|".join(args) + "}"
    return _METAVARS[hint]


def _spellings(groups: Sequence[Group]) -> dict[str, bool]:
    """Every flag as it is typed, and whether it takes a value."""
    found = {}
    for g in groups:
        for f in g.flags:
            name = g.spelling(f.name)
            found[name] = f.hint is not bool
            if f.hint is bool and g.pairs:
                found[f"{name[:2]}no-{name[2:]}"] = False
    return found


def _without_value(args: Sequence[str], groups: Sequence[Group]) -> str:
    """What tyro stumbled over: a flag that stands at the end, or before another flag."""
    takes = _spellings(groups)
    for this, after in zip(args, [*args[1:], "--"], strict=True):
        if takes.get(this.replace("_", "-")) and after.startswith("--"):
            return f"{this} needs a value"
    return f"cannot read the flags {' '.join(args)}"


def _unknown(program: str, given: str, groups: Sequence[Group]) -> str:
    name = given.partition("=")[0]
    known = [*_spellings(groups), *SPELLINGS]
    if not given.startswith("-"):
        return f"what is {given!r} for? {program} takes flags here, each with one value; see {program} --help"
    field = name.lstrip("-").replace("-", "_")
    having = owners(field)
    if dotted := [f"--{m}.{name[2:]}" for m in having if f"--{m}.{name[2:]}" in known]:
        return f"{name} is a flag of one method: {' or '.join(dotted)}"
    if having:
        return f"{name} is a flag of {', '.join(having)}, which this run does not use"
    return f"{program} has no flag {name}{close(name, known)}; see {program} --help"
