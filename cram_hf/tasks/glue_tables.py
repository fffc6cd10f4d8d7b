"""Rows of a text file, CSV or TSV, as columns that remember on which line each row stands."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SHOWN = 5

Cells = tuple[int, list[Any]]  # the number of a row's line, and its values


@dataclass(frozen=True)
class Table:
    """
    The rows of one file, as columns.

    Args:
        source (`str`): the file, or the set and split of the Hub.
        columns (`dict[str, list]`): values by column. Text files hold texts only; a key that a JSON record lacks is
            `None`.
        numbers (`Sequence[int]`): the number of each row in the file.
        word (`str`): what the numbers count: `line`, `record` or `row`.
        skipped (`int`): rows that were left out because they have a wrong number of columns.
    """

    source: str
    columns: dict[str, list[Any]]
    numbers: Sequence[int]
    word: str
    skipped: int = 0

    def at(self, row: int) -> str:
        """Returns where a row (from 0) stands, such as `line 2`."""
        return f"{self.word} {self.numbers[row]}"

    def require(self, names: Sequence[str]) -> None:
        """Raises `ValueError` unless there are columns of these names."""
        require(self.source, list(self.columns), names)


def require(source: str, columns: Sequence[str], names: Sequence[str]) -> None:
    """Raises `ValueError`, naming the columns there are, unless all of `names` are among them."""
    missing = [name for name in names if name not in columns]
    if missing:
        near = difflib.get_close_matches(missing[0], columns, n=1)
        raise ValueError(
            f"{source}: there is no column {', '.join(map(repr, missing))}, only {', '.join(map(repr, columns))}"
            + (f"; rename {near[0]!r}?" if near else "")
        )


def refuse(source: str, problems: Sequence[str]) -> None:
    """Raises `ValueError` if there are problems: one in one line, of several the first five and their number."""
    if len(problems) == 1:
        raise ValueError(f"{source}: {problems[0]}")
    if problems:
        more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(f"{source}: {len(problems)} rows are wrong\n  " + "\n  ".join(problems[:_SHOWN]) + more)


def read_tsv(path: Path, header: Sequence[str] = (), only: Sequence[str] = (), skip_broken: bool = False) -> Table:
    """
    Returns the rows of a tab-separated file without quoting.

    Args:
        path (`Path`):
            The file, UTF-8; only a line feed, or a carriage return and a line feed, ends a line.
        header (`Sequence[str]`, *optional*):
            Names of the columns of a file whose first line is a row already.
        only (`Sequence[str]`, *optional*):
            The columns to keep, which must be there. All by default.
        skip_broken (`bool`, *optional*, defaults to `False`):
            Leave out rows with a wrong number of columns, if they are fewer than the others, rather than raise.

    Raises:
        ValueError: if the file is empty, lacks a column, or rows have a wrong number of columns.
    """
    rows = _lines(path)
    names = list(header) or next(rows, (0, []))[1]
    return _table(path, names, rows, only or names, skip_broken)


def _lines(path: Path) -> Iterator[Cells]:
    """Yields the lines of a TSV file, cut at the tabs; blank lines at its end are none."""
    blank = 0
    try:
        # Without newline="\n" a carriage return within a sentence would end the line.
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                text = line.removesuffix("\n").removesuffix("\r")
                if not text:
                    blank += 1
                    continue
                yield from ((earlier, [""]) for earlier in range(number - blank, number))
                blank = 0
                yield number, text.split("\t")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error


def _table(
    path: Path, names: list[str], rows: Iterator[Cells], only: Collection[str], skip_broken: bool = False
) -> Table:
    """Returns the table of rows of cells; every row must have a cell for each name."""
    if not names:
        raise ValueError(f"{path}: the file is empty; it must hold at least one row")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: the header has {', '.join(map(repr, twice))} twice; name each column once")
    require(str(path), names, list(only))
    kept = [(index, list[Any]()) for index, name in enumerate(names) if name in only]
    numbers, broken = list[int](), list[str]()
    for number, cells in rows:
        if len(cells) != len(names):
            broken.append(f"line {number} has {_columns(len(cells))}, but must have {len(names)}: {', '.join(names)}")
            continue
        numbers.append(number)
        for index, values in kept:
            values.append(cells[index])
    if not skip_broken or len(broken) > len(numbers):
        refuse(str(path), broken)
    if not numbers:
        raise ValueError(f"{path}: there is no row below the header; the file must hold at least one")
    return Table(str(path), {names[index]: values for index, values in kept}, numbers, "line", len(broken))


def _columns(count: int) -> str:
    return f"{count} column{'s' if count > 1 else ''}"


def read_csv(path: Path) -> Table:
    """Reads a CSV file; a row is named by the line on which it ends."""

    def rows() -> Iterator[Cells]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            try:
                yield from ((reader.line_num, cells) for cells in reader if cells)
            except csv.Error as error:
                raise ValueError(f"{path}: line {reader.line_num}: not valid CSV: {error}") from error
            except UnicodeDecodeError as error:
                raise not_utf8(path, error) from error

    found = rows()
    names = next(found, (0, list[Any]()))[1]
    return _table(path, names, found, names)


def not_utf8(path: Path, error: UnicodeDecodeError) -> ValueError:
    """Returns the error for a file with bytes that are no UTF-8."""
    return ValueError(f"{path}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save the file as UTF-8")
