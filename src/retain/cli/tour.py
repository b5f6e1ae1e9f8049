"""`retain tour`: the lecture on lifelong learning as pages to play with, from small, real runs made now."""

from __future__ import annotations

import sys
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from retain.cli.errors import WrongUse
from retain.cli.flags import Group, asks_for_help, help_of, parse
from retain.cli.folder import claim
from retain.cli.names import positionals
from retain.lecture import PARTS, Setting, compute
from retain.tour import LANGUAGES, write_tour

HELP = """\
usage: retain tour [DIR] [flags]

Hung-yi Lee's lecture on lifelong learning, in its order (what it is, EWC, GEM, generating data,
evaluation), with its pictures drawn from real networks that are trained now, in one to three
minutes on one core. Writes pages that work offline, in English and Chinese, to DIR (out/tour):
tour.en.html, tour.zh.html, each picture as SVG in pictures/, its numbers as CSV in data/. On a
desktop the first page is opened.

examples:
  retain tour
  retain tour lecture --lang zh --no-open"""

OUT = "out/tour"

SAYS = {
    "orders": "noisy and clean digits, in both orders",
    "surface": "loss surfaces, and the paths of SGD and EWC",
    "parameters": "a flat parameter and a sharp one",
    "three": "SGD, L2 and EWC over A, B and C",
    "gem": "GEM's vectors, step by step",
    "dreams": "digits from a generator",
}


@dataclass(frozen=True)
class Options:
    """What is written, and whether it is opened."""

    lang: str = ",".join(LANGUAGES)  # languages of the pages: en, zh, or both with a comma between
    seed: int = 0  # of data, order, initial weights and sampling
    open: bool = True  # open the first page in the desktop's browser, if stdout is a terminal
    quiet: bool = False  # show no progress


def command(args: list[str]) -> int:
    """Run the lecture and write its pages."""
    began = time.perf_counter()
    words, flags = positionals(args)
    groups = [Group("tour", Options, {})]
    if asks_for_help(flags):
        print(f"{HELP}\n\n{help_of(groups)}")
        return 0
    if len(words) > 1:
        raise WrongUse(f"name one folder, got {' '.join(words)}: retain tour [DIR] [flags]")
    options = Options(**parse("retain tour", flags, groups)["tour"])
    languages = options.lang.split(",")
    if not set(languages) <= set(LANGUAGES) or len(set(languages)) < len(languages):
        raise WrongUse(f"--lang must be some of {','.join(LANGUAGES)}, each once, got {options.lang!r}")
    out = Path(words[0] if words else OUT)
    torch.set_num_threads(1)
    with claim(out, [], resume=False, force=False):  # says now, not after a minute, that it cannot be written
        with Steps(options.quiet) as steps:
            lecture = compute(Setting(seed=options.seed), steps.tell)
        pages = write_tour(lecture, out, languages)
    for page in pages:
        print(page)
    if not options.quiet:
        print(f"{time.perf_counter() - began:.0f} seconds in all.", file=sys.stderr)
    if options.open and sys.stdout.isatty():
        _open(pages[0])
    return 0


class Steps:
    """Which part is under way: a bar on a terminal, else a line as each begins. On stderr."""

    def __init__(self, quiet: bool):
        console = Console(stderr=True, highlight=False)
        self.quiet, self.plain = quiet, not console.is_terminal
        self.began, self.part = time.perf_counter(), ""
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(), console=console, transient=True, disable=quiet or self.plain,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=len(PARTS))

    def tell(self, part: str) -> None:
        """The part that is under way."""
        if part == self.part:
            return
        self.part, number = part, PARTS.index(part) + 1
        self.bar.update(self.task, description=SAYS[part], completed=number - 1)
        if self.plain and not self.quiet:
            seconds = time.perf_counter() - self.began
            print(
                f"tour: {SAYS[part]} [{number} of {len(PARTS)}, {seconds:.0f} s]", file=sys.stderr, flush=True
            )

    def __enter__(self) -> Steps:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


def _open(page: Path) -> None:
    """In a browser with windows; one that would take over the terminal is left alone."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if type(browser) is not webbrowser.GenericBrowser:
        browser.open(page.resolve().as_uri())
