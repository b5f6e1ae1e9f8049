"""`retain promote`, `rollback`, `forget`, `export`: what is served, what is no longer known, what goes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retain.cli.errors import WrongUse
from retain.cli.flags import Group
from retain.cli.vault.common import number, opened, say, told

PROMOTE = """\
usage: retain promote PATH VERSION [flags]

Serves a version that is there, such as a candidate that the gate refused. That is recorded.

example:
  retain promote shop 6 --why "the guard of march is out of date" """

ROLLBACK = """\
usage: retain rollback PATH

Serves again what was served before.

example:
  retain rollback shop"""

FORGET = """\
usage: retain forget PATH (--class X | --task T | --examples FILE)

Removes stored examples, guards and statistics of a class, of an update, or of single examples (a
file of data: whatever is equal to one of them), and every earlier version, in which they still
are. Says what could be removed and what could not: a network's weights keep traces; closed-form
heads do not.

examples:
  retain forget shop --class coat
  retain forget shop --task march
  retain forget shop --examples withdrawn.csv"""


EXPORT = """\
usage: retain export PATH FILE [flags]

Writes the served version as ONNX (FILE.onnx) or as a torch.export program (FILE.pt2), with
preprocessing and label map, and checks that it predicts as the vault does.

examples:
  retain export shop shop.onnx
  retain export shop shop.pt2 --version 3"""


@dataclass(frozen=True)
class Why:
    """What goes into the history."""

    why: str = ""  # the reason, in your words


@dataclass(frozen=True)
class What:
    """One of the three."""

    cls: str | None = None  # (written --class) the name of a class
    task: str | None = None  # the name of an update
    examples: str | None = None  # a file or folder of examples


@dataclass(frozen=True)
class Wanted:
    """Which version, for whom."""

    version: int | None = None  # its number; none: the one that is served
    task: str | None = None  # the update that examples will be like, in a vault that is told
    format: Literal["onnx", "torch"] | None = None  # none: by the name of the file


def promote(args: list[str]) -> int:
    """Serve a version."""
    found = told("promote", args, ("PATH", "VERSION"), [Group("record", Why, {})], PROMOTE)
    if found is None:
        return 0
    (path, version), flags = found
    vault = opened(path)
    vault.promote(number(version), flags["record"]["why"])
    say({"served": vault.served}, f"version {vault.served} is served")
    return 0


def rollback(args: list[str]) -> int:
    """Go back."""
    found = told("rollback", args, ("PATH",), [], ROLLBACK)
    if found is None:
        return 0
    served = opened(found[0][0]).rollback()
    say({"served": served}, f"version {served} is served again")
    return 0


def forget(args: list[str]) -> int:
    """Remove on purpose."""
    args = ["--cls" + a.removeprefix("--class") if a.split("=")[0] == "--class" else a for a in args]
    found = told("forget", args, ("PATH",), [Group("what", What, {})], FORGET)
    if found is None:
        return 0
    (path,), flags = found
    given = {k: v for k, v in flags["what"].items() if v is not None}
    if len(given) != 1:
        raise WrongUse("name one of --class X, --task T and --examples FILE; see retain forget --help")
    record = opened(path).forget(**given)
    say(record, "\n".join([record["reason"], *(f"  {line}" for line in record["removed"] + record["kept"])]))
    return 0


def export(args: list[str]) -> int:
    """Write a file to serve from."""
    found = told("export", args, ("PATH", "FILE"), [Group("export", Wanted, {})], EXPORT)
    if found is None:
        return 0
    (path, out), flags = found
    o = Wanted(**flags["export"])
    suffixes: dict[str, Literal["onnx", "torch"]] = {".onnx": "onnx", ".pt2": "torch"}
    kind = o.format or suffixes.get(Path(out).suffix)
    if kind is None:
        raise WrongUse(f"{out}: name a file that ends in .onnx or .pt2, or say --format onnx or torch")
    said = opened(path).export(out, kind, o.version, o.task)
    found = {
        "file": str(said.path),
        "card": str(said.card),
        "examples": said.examples,
        "difference": said.difference,
    }
    say(
        found,
        f"written: {said.path}; on {said.examples} examples within {said.difference:.2g} of the vault's own",
    )
    return 0
