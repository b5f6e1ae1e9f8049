"""A table that fits any terminal: where its columns do not, they stand in several blocks, one below the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

GAP = 2  # characters between two columns


@dataclass(frozen=True)
class Fitted:
    """Rows of texts under a head; the first column says what a row is, and begins every block.

    A row of its first text alone is a title.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | Text]:
        """A table for each block of columns that fit."""
        for i, block in enumerate(self.blocks(options.max_width)):
            if i:
                yield Text()
            yield self._table(block, options.max_width)

    def blocks(self, width: int) -> list[list[int]]:
        """The numbers of the columns, the first one left out, that fit beside it.

        >>> Fitted(("method", "ACC", "BWT"), (("naive", "91.1 ± 0.2", "−9.2 ± 0.2"),)).blocks(20)
        [[1], [2]]
        """
        out: list[list[int]] = []
        room = 0
        for k in range(1, len(self.head)):
            need = GAP + max(cell_len(row[k]) for row in (self.head, *self.rows) if len(row) > 1)
            if not out or need > room:
                out.append([])
                room = width - self._first(width)
            out[-1].append(k)
            room -= need
        return out or [[]]

    def _first(self, width: int) -> int:
        """How wide the first column is: as its texts need, at most 24 or a third of the width."""
        return min(
            max(cell_len(row[0]) for row in (self.head, *self.rows)), max(width // 3, min(24, width // 2))
        )

    def _table(self, columns: Sequence[int], width: int) -> Table:
        out = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        out.add_column(Text(self.head[0]), overflow="fold", width=self._first(width))
        for k in columns:
            out.add_column(Text(self.head[k]), justify="right", no_wrap=True)
        for row in self.rows:
            if len(row) == 1:
                out.add_section()
                out.add_row(Text(row[0], style="bold"))
            else:
                out.add_row(Text(row[0]), *(Text(row[k]) for k in columns))
        return out
