"""Tables: CSV and Parquet.

CSV is UTF-8 with a header, separated by comma, semicolon, tab or bar, quoted as RFC 4180 says. Rows are
counted as a spreadsheet counts them: the header is row 1.
"""

from __future__ import annotations

import csv
import io
import os
from array import array
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from retain.vault.data.arrow import ArrowColumn, arrow, tampered
from retain.vault.data.cells import Growing, number_in
from retain.vault.data.files import opened, within_memory
from retain.vault.data.raw import Asked, Raw, from_columns
from retain.vault.data.targets import LONGEST
from retain.vault.data.words import listed, short
from retain.vault.errors import BadData

SEPARATORS = (",", ";", "\t", "|")
MOST_COLUMNS = 10_000
MOST_IN_LINE = 2**24  # characters
AT_ONCE = 256  # rows that are taken apart together
CELL = 64  # bytes that a cell is reckoned to take in memory
LESS = "leave columns out (--ignore COLUMN), or give it in parts"


def read_csv(path: Path, asked: Asked) -> Raw:
    """A CSV file.

    Raises:
        BadData: names the row and what is wrong with it.
    """
    with opened(path) as (f, sha):
        within_memory(os.fstat(f.fileno()).st_size, path.name, LESS)
        text = io.TextIOWrapper(f, encoding="utf-8-sig", errors="surrogateescape", newline="")
        lines = _lines(text, path.name)
        first = next(lines)
        separator = "\t" if path.suffix.lower() == ".tsv" else _separator(first)
        rows = _rows(csv.reader(chain([first], lines), delimiter=separator, strict=True), path.name)
        names = _header(next(rows, (1, []))[1], path.name)
        grown = [Growing() for _ in names]
        numbers, waiting = array("L"), list[list[str]]()
        for number, row in rows:
            if not row:  # a blank line
                continue
            if len(row) != len(names):
                raise BadData(
                    f"{path.name}, row {number} has {len(row)} cells, but the header has {len(names)} "
                    f"(separated by {separator!r}): a cell with a {separator!r} in it must be quoted"
                )
            numbers.append(number)
            waiting.append(row)
            if len(waiting) == AT_ONCE:
                _grow(grown, waiting, path.name)
        _grow(grown, waiting, path.name)
    if not numbers:
        raise BadData(f"{path.name} holds no example: it has a header, and no row after it")
    columns = {n: g.column() for n, g in zip(names, grown, strict=True)}
    return from_columns(columns, asked, lambda i: f"{path.name}, row {numbers[i]}", path.name, sha)


def _grow(columns: list[Growing], rows: list[list[str]], source: str) -> None:
    """Move rows into the columns."""
    for column, cells in zip(columns, zip(*rows, strict=True), strict=False):  # no rows: no cells
        column.add(*cells)
    rows.clear()
    within_memory(columns[0].size * len(columns) * CELL, source, LESS)


def _lines(text: TextIO, source: str) -> Iterator[str]:
    while line := text.readline(MOST_IN_LINE + 1):
        if len(line) > MOST_IN_LINE:
            raise BadData(f"{source} has a line of more than {MOST_IN_LINE} characters: it is no table")
        yield line


def _separator(header: str) -> str:
    """What separates most cells in the header; a comma where nothing does.

    >>> _separator("a;b;label"), _separator("label")
    (';', ',')
    """
    return max(SEPARATORS, key=lambda s: len(next(csv.reader([header], delimiter=s), [])))


def _rows(reader: Any, source: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with their number, from 1.

    Raises:
        BadData: a row is not CSV, or not text.
    """
    number = 0
    while True:
        number += 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as e:
            raise BadData(f"{source}, row {number} (line {reader.line_num}) is not CSV: {e}") from None
        for cell in row:
            if not cell.isascii() or "\0" in cell:
                _check_text(cell, f"{source}, row {number}")
        yield number, row


def _check_text(cell: str, where: str) -> None:
    """Bytes that are not UTF-8 were read as lone surrogates, which no text holds."""
    if "\0" in cell or any("\ud800" <= c <= "\udfff" for c in cell):
        shown = cell.encode(errors="surrogateescape")[:40]
        raise BadData(f"{where} is not UTF-8 text: {shown!r}; save the file as UTF-8")


def _header(names: list[str], source: str) -> list[str]:
    names = [n.strip() for n in names]
    if len(names) > MOST_COLUMNS:
        raise BadData(f"{source} has {len(names)} columns, more than the {MOST_COLUMNS:,} that are read")
    if not names or all(number_in(n) is not None for n in names):
        raise BadData(f"{source}, row 1 must name the columns, got {listed(names)}")
    check_names(names, source)
    return names


def check_names(names: list[str], source: str) -> None:
    """Refuse columns without a name, or two of one name.

    Raises:
        BadData: says which.
    """
    seen: set[str] = set()
    for k, name in enumerate(names, 1):
        if not name:
            raise BadData(
                f"{source}: column {k} has no name; name it (an index that pandas wrote? index=False)"
            )
        if len(name) > LONGEST:
            raise BadData(f"{source}: the name of column {k} is longer than {LONGEST} characters: shorten it")
        if name in seen:
            raise BadData(f"{source} has two columns called {short(name)}: rename one")
        seen.add(name)


def read_parquet(path: Path, asked: Asked) -> Raw:
    """A Parquet file, one part of it after the other.

    Raises:
        BadData: names the column, or the row, that is not as it must be.
        NoArrow: pyarrow is not installed.
    """
    pq = arrow("pyarrow.parquet", "Parquet files")
    with opened(path) as (f, sha), tampered(f"{path.name} is no Parquet file that can be read"):
        file = pq.ParquetFile(f)
        schema = file.schema_arrow
        names = [n for n in schema.names if n not in asked.ignore]
        if len(schema.names) > MOST_COLUMNS:
            raise BadData(f"{path.name} has {len(schema.names)} columns, more than {MOST_COLUMNS:,}")
        check_names(schema.names, path.name)
        within_memory(file.metadata.num_rows * len(names) * 8, path.name, LESS)
        columns = {n: ArrowColumn(schema.field(n).type, n, path.name) for n in names}
        rows = 0
        for batch in file.iter_batches(columns=names, use_threads=False):
            batch.validate(full=True)  # offsets and lengths are the file's own
            rows += batch.num_rows
            within_memory(rows * len(names) * 8, path.name, LESS)
            for name in names:
                columns[name].add(batch.column(name))
    if rows == 0:
        raise BadData(f"{path.name} holds no example: it has no rows")
    done = {n: c.column() for n, c in columns.items()}
    return from_columns(done, asked, lambda i: f"{path.name}, row {i + 1}", path.name, sha)
