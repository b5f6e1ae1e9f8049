"""Reports: saved Results in, one HTML file, PNG files or a table out. Nothing here runs a network.

`find_results` reads a folder; `summarise`, `table` and `sentence` compute every number that is
shown anywhere; `write_report` and `write_pngs` draw. A result that does not hold together is
refused with a ValueError before anything is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retain.report.check import find_results
from retain.report.table import Row, Stat, summarise, table
from retain.report.words import sentence
from retain.result import Result

__all__ = [
    "Row",
    "Stat",
    "find_results",
    "sentence",
    "summarise",
    "table",
    "write_export",
    "write_pngs",
    "write_report",
]


def write_report(results: Sequence[Result], path: Path, folders: Sequence[str] = ()) -> None:
    """Write one HTML file that needs no network, atomically.

    Args:
        results: of at least one run.
        path: of the file.
        folders: the name of the folder that each result is from, to show several folders side by side.

    Raises:
        ValueError: no results, or one whose parts do not fit each other.
        OSError: `path` cannot be written; what was there is untouched.
    """
    from retain.files import write_atomically
    from retain.report.html import render  # plotting is slow to import, and the table needs none of it

    write_atomically(Path(path), render(results, folders).encode())


def write_pngs(results: Sequence[Result], folder: Path, folders: Sequence[str] = ()) -> list[Path]:
    """Write two PNG files a stream into `folder`: the curves and the accuracy matrices.

    Returns:
        The paths written, in the order of the streams.

    Raises:
        ValueError, OSError: as `write_report`.
    """
    from retain.report.export import write_pngs

    return write_pngs(results, Path(folder), folders)


def write_export(results: Sequence[Result], folder: Path, folders: Sequence[str] = ()) -> list[Path]:
    """Write every figure as SVG and PNG, and what it shows as CSV, into `folder`.

    Returns:
        The paths written.

    Raises:
        ValueError, OSError: as `write_report`.
    """
    from retain.report.export import write

    return write(results, Path(folder), folders)
