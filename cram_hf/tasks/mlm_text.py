"""Reads the texts of a file: one a line of a text file, or one a record of JSON, JSON lines, CSV or parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from cram_hf.tasks.files import MLM_FILES, holds_lines, json_lines, no_such_file, not_json, not_parquet

Located = tuple[str, Any]
"""Where a record stands, for messages, and the record."""


def read_texts(path: str | Path) -> Iterator[str]:
    """
    Yields the texts of a file in their order, without line ends; blank ones are skipped.

    In a `.txt` file each line is a text. In other files each record has a text under `text`: `.jsonl` holds a record a
    line, `.json` a list of records, `{"data": [records]}` or JSON lines, `.csv` has a header. Text files, JSON lines,
    CSV and parquet are read piece by piece, so they may be larger than memory.

    Raises:
        FileNotFoundError: if there is no such file; names of the same folder that are near are offered.
        ValueError: if the file is malformed, not UTF-8, or holds no text. Names the file and the line or record.
    """
    path = Path(path)
    if not path.is_file():
        raise no_such_file(path, MLM_FILES)
    if path.suffix.lower() == ".txt":
        texts: Iterator[str] = (line.rstrip("\r\n") for _, line in _lines(path))
    else:
        readers = {".json": _json, ".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}
        texts = (_text(path, *located) for located in readers[path.suffix.lower()](path))
    empty = True
    for text in texts:
        if text.strip():
            empty = False
            yield text
    if empty:
        raise ValueError(f"{path}: the file is empty; it must hold at least one line or record with text")


def no_column(source: str, where: str, columns: list[str]) -> str:
    """Returns the message for a record or set that has no `text`."""
    return (
        f"{source}:{where} no column 'text'; it has {', '.join(columns) or 'none'}. "
        "Name the column with the text 'text', or write the text to a .txt file"
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields number and text of each line, its end included; a byte order mark is dropped."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}: line {number}: not UTF-8 at byte {offset + error.start} of the file "
                    f"(0x{line[error.start]:02x}); save the file as UTF-8"
                ) from error
            offset += len(line)
            yield number, text.removeprefix("\ufeff") if number == 1 else text


def _text(path: Path, where: str, record: Any) -> str:
    """Returns the text of a record."""
    if not isinstance(record, dict):
        raise ValueError(f"{path}: {where} is {_short(record)}, but must be a record with the key 'text'")
    if "text" not in record:
        raise ValueError(no_column(str(path), f" {where} has", list(map(str, record))))
    text = record["text"]
    if not isinstance(text, str):
        raise ValueError(f"{path}: {where}: 'text' is {_short(text)}, but must be a string")
    return text


def _short(value: Any) -> str:
    """Returns the value for a message."""
    return repr(value)[:60]


def _json(path: Path) -> Iterator[Located]:
    """Yields the records of a JSON document, or of JSON lines under the extension .json."""
    content = "".join(line for _, line in _lines(path))
    if not content.strip():
        return
    try:
        records = json.loads(content)
    except json.JSONDecodeError as error:
        if holds_lines(error):
            yield from _json_lines(path)
            return
        raise not_json(path, error) from error
    if isinstance(records, dict):
        records = records["data"] if isinstance(records.get("data"), list) else [records]
    if not isinstance(records, list):
        raise ValueError(f"{path}: the top level is {_short(records)}, but must be a list of records")
    yield from ((f"record {number}", record) for number, record in enumerate(records, 1))


def _json_lines(path: Path) -> Iterator[Located]:
    """Yields one record a line."""
    records = json_lines(path, (line for _, line in _lines(path)))
    yield from ((f"line {number}", record) for number, record in records)


def _csv(path: Path) -> Iterator[Located]:
    """Yields the rows of a CSV file, named by the line on which each ends."""
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    rows = filter(None, reader)  # blank lines are none
    try:
        names = next(rows, ["text"])
        if "text" not in names:
            raise ValueError(no_column(str(path), " the header has", names))
        for cells in rows:
            if len(cells) != len(names):
                raise ValueError(
                    f"{path}: line {reader.line_num}: the number of cells is {len(cells)}, but the header has "
                    f"{len(names)}: {', '.join(names)}; quote texts that contain commas"
                )
            yield f"line {reader.line_num}", dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise ValueError(
            f"{path}: line {reader.line_num}: not valid CSV: {error}; JSON lines hold texts of any kind"
        ) from error


def _parquet(path: Path) -> Iterator[Located]:
    """Yields the rows of a parquet file."""
    try:
        file = pyarrow.parquet.ParquetFile(path)
        if "text" not in file.schema_arrow.names:
            raise ValueError(no_column(str(path), " the table has", file.schema_arrow.names))
        batches = (batch.column("text") for batch in file.iter_batches(columns=["text"]))
        for number, text in enumerate((text for column in batches for text in column.to_pylist()), 1):
            yield f"row {number}", {"text": text}
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise not_parquet(path, error) from error
