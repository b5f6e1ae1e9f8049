"""Reports: saved Results in, one HTML file, PNG files or a table out. Nothing here runs a network.

`find_results` reads a folder; `summarise`, `table` and `sentence` compute every number that is
shown anywhere; `write_report` and `write_pngs` draw. A result that does not hold together is
refused with a ValueError before anything is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retain.report.check import find_results
from retain.report.table import Row, Stat, sentence, summarise, table
from retain.result import Result

__all__ = ["Row", "Stat", "find_results", "sentence", "summarise", "table", "write_pngs", "write_report"]


def write_report(results: Sequence[Result], path: Path) -> None:
    """Write one HTML file that needs no network, atomically.

    Raises:
        ValueError: no results, or one whose parts do not fit each other.
        OSError: `path` cannot be written; what was there is untouched.
    """
    from retain.files import write_atomically
    from retain.report.html import render  # plotting is slow to import, and the table needs none of it

    write_atomically(Path(path), render(results).encode())


def write_pngs(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write two PNG files a stream into `folder`: the curves and the accuracy matrices.

    Returns:
        The paths written, in the order of the streams.

    Raises:
        ValueError, OSError: as `write_report`.
    """
    from retain.report.png import write

    return write(results, Path(folder))
