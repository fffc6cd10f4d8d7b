"""Reads the texts of a file: one a line of a text file, or one a record of JSON, JSON lines, CSV or parquet."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

EXTENSIONS = (".txt", ".json", ".jsonl", ".csv", ".parquet")

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
        raise FileNotFoundError(_no_such_file(path))
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


def _no_such_file(path: Path) -> str:
    """Returns the message for a path that is no file, with near names of its folder."""
    if path.is_dir():
        return f"{path}: is a folder; give one file of {', '.join(EXTENSIONS)}"
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return f"{path}: no such file" + (f"; did you mean {path.parent / near[0]}?" if near else "; check the path")


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
        if error.msg == "Extra data" and error.lineno > 1:
            yield from _json_lines(path)
            return
        raise ValueError(
            f"{path}: not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
            "the file may be cut off or edited by hand"
        ) from error
    if isinstance(records, dict):
        records = records["data"] if isinstance(records.get("data"), list) else [records]
    if not isinstance(records, list):
        raise ValueError(f"{path}: the top level is {_short(records)}, but must be a list of records")
    yield from ((f"record {number}", record) for number, record in enumerate(records, 1))


def _json_lines(path: Path) -> Iterator[Located]:
    """Yields one record a line; blank lines are skipped but counted."""
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}: line {number}: not valid JSON: {error.msg} at column {error.colno}; "
                "JSON lines hold one whole record a line"
            ) from error


def _csv(path: Path) -> Iterator[Located]:
    """Yields the rows of a CSV file, named by the line on which each ends."""
    reader = csv.DictReader((line for _, line in _lines(path)), strict=True)
    try:
        if "text" not in (reader.fieldnames or ["text"]):
            raise ValueError(no_column(str(path), " the header has", list(reader.fieldnames or [])))
        for row in reader:
            if None in row:
                raise ValueError(
                    f"{path}: line {reader.line_num}: has more cells than the header has columns; "
                    "quote texts that contain commas"
                )
            yield f"line {reader.line_num}", row
    except csv.Error as error:
        raise ValueError(
            f"{path}: line {reader.reader.line_num}: not valid CSV: {error}; JSON lines hold texts of any kind"
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
        raise ValueError(f"{path}: not a readable parquet file: {str(error).splitlines()[0]}") from error
