"""What the commands of a vault share."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from retain.cli.errors import WrongUse
from retain.cli.flags import Group, asks_for_help, help_of, parse
from retain.cli.names import positionals
from retain.vault import Vault, open_vault

REFUSED, DRIFTED = 3, 4  # exit codes of their own, for a scheduler


def told(command: str, args: list[str], words: tuple[str, ...], groups: list[Group], text: str) -> Any:
    """The words and the flags' values of one command line; None: help was asked for, and is printed.

    Args:
        command: its name.
        args: what stands behind it.
        words: what the positional arguments are called; in brackets those that may lack.
        groups: its flags.
        text: its help.

    Raises:
        WrongUse: a word too few or too many, or a wrong flag.
    """
    given, flags = positionals(args)
    if asks_for_help(flags):
        print(text if not groups else f"{text}\n\n{help_of(groups)}")
        return None
    needed = sum(not w.startswith("[") for w in words)
    usage = f"retain {command} {' '.join(words)}{' [flags]' if groups else ''}"
    if len(given) < needed:
        raise WrongUse(f"{words[len(given)]} is missing: {usage}; see retain {command} --help")
    if len(given) > len(words):
        raise WrongUse(f"what is {given[len(words)]!r} for? usage: {usage}")
    if flags and not groups:
        raise WrongUse(f"retain {command} takes no flags, got {flags[0]}; see retain {command} --help")
    return given, parse(f"retain {command}", flags, groups) if groups else {}


def opened(path: str) -> Vault:
    """The vault of a command line."""
    return open_vault(Path(path))


def number(word: str) -> int:
    """A version's number, such as 3 or v3."""
    try:
        return int(word.removeprefix("v"))
    except ValueError:
        raise WrongUse(
            f"a version is a number such as 3, got {word!r}; retain history PATH lists them"
        ) from None


def say(data: Any, text: str) -> None:
    """For people on a terminal, as a line of JSON everywhere else."""
    print(text if sys.stdout.isatty() else json.dumps(data))


def aside(text: str) -> None:
    """For people, also where stdout is read by a program."""
    print(text, file=sys.stdout if sys.stdout.isatty() else sys.stderr)


@contextmanager
def progress(quiet: bool) -> Iterator[Any]:
    """A bar on a terminal, a line for each stage elsewhere; gives what `Vault.learn` tells."""
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield None
    elif not console.is_terminal:
        last = [""]

        def line(what: str, done: int, of: int) -> None:
            if what != last[0]:
                last[0] = what
                console.print(f"retain: {what}", soft_wrap=True)

        yield line
    else:
        columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("reading", total=None)
            yield lambda what, done, of: bar.update(task, description=what, completed=done, total=of)
