"""`retain report`: an HTML page, pictures, tables and words of what was saved in folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retain.cli.errors import WrongUse
from retain.cli.flags import Group, asks_for_help, help_of, parse
from retain.cli.names import positionals
from retain.cli.output import console
from retain.report import find_results, write_export, write_pngs, write_report
from retain.report.lines import folder_names, group
from retain.report.text import report
from retain.result import Result

HELP = """\
usage: retain report DIR [DIR ...] [flags]

Reads every result.json below DIR and writes one HTML page that works offline: DIR/report.html.
Of several folders the page is in the first; what they have in common is shown side by side and
compared.

examples:
  retain report out/demo
  retain report out/demo --text
  retain report out/before out/after --out both.html
  retain report out/ewc --out ewc.html --export figures"""


@dataclass(frozen=True)
class Options:
    """Where it goes."""

    out: str | None = None  # file for the page; none: DIR/report.html
    png: str | None = None  # folder for PNG files of the curves and the matrices; none: no such files
    export: str | None = None  # folder for every figure as SVG and PNG, its data as CSV; none: no such files
    text: bool = False  # print tables and words to the terminal; a page is written only with --out


def command(args: list[str]) -> int:
    """Write the report of a folder or of several, and say where it is."""
    words, flags = positionals(args)
    groups = [Group("output", Options, {})]
    if asks_for_help(flags):
        print(f"{HELP}\n\n{help_of(groups)}")
        return 0
    options = Options(**parse("retain report", flags, groups)["output"])
    if not words:
        raise WrongUse("name a folder: retain report DIR [DIR ...] [flags]; see retain report --help")
    results, folders = _read([Path(word) for word in words])
    if options.text:
        console().print(*report(group(results, folders)), sep="\n")
    if not options.text or options.out is not None:
        page = Path(words[0], "report.html") if options.out is None else Path(options.out)
        if page.is_dir():
            raise WrongUse(f"{page} is a folder: --out names a file, such as {page / 'report.html'}")
        write_report(results, page, folders)
        print(page)
    if options.png is not None:
        for path in write_pngs(results, Path(options.png), folders):
            print(path)
    if options.export is not None:
        for path in write_export(results, Path(options.export), folders):
            print(path)
    return 0


def _read(paths: Sequence[Path]) -> tuple[list[Result], list[str]]:
    """The results below all folders, and of several the name of the folder that each is from."""
    found = [find_results(path) for path in paths]
    results = [r for of_one in found for r in of_one]
    if len(paths) == 1:
        return results, []
    return results, [n for n, of_one in zip(folder_names(paths), found, strict=True) for _ in of_one]
