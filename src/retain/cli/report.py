"""`retain report`: an HTML page, and pictures, of what was saved in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retain.cli.errors import WrongUse
from retain.cli.flags import Group, asks_for_help, help_of, parse
from retain.cli.names import positionals
from retain.report import find_results, write_pngs, write_report

HELP = """\
usage: retain report DIR [flags]

Reads every result.json below DIR and writes one HTML page that works offline: DIR/report.html.

examples:
  retain report out/demo
  retain report out/ewc --out ewc.html --png pictures"""


@dataclass(frozen=True)
class Options:
    """Where it goes."""

    out: str | None = None  # file for the page; none: DIR/report.html
    png: str | None = None  # folder for PNG files of the figures; none: no such files


def command(args: list[str]) -> int:
    """Write the report of a folder, and say where it is."""
    words, flags = positionals(args)
    groups = [Group("output", Options, {})]
    if asks_for_help(flags):
        print(f"{HELP}\n\n{help_of(groups)}")
        return 0
    options = Options(**parse("retain report", flags, groups)["output"])
    if len(words) != 1:
        raise WrongUse("name one folder: retain report DIR [flags]; see retain report --help")
    folder = Path(words[0])
    results = find_results(folder)
    page = folder / "report.html" if options.out is None else Path(options.out)
    if page.is_dir():
        raise WrongUse(f"{page} is a folder: --out names a file, such as {page / 'report.html'}")
    write_report(results, page)
    print(page)
    if options.png is not None:
        for path in write_pngs(results, Path(options.png)):
            print(path)
    return 0
