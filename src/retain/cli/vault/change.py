"""`retain promote`, `rollback`, `forget`: what is served, and what is no longer known."""

from __future__ import annotations

from dataclasses import dataclass

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
