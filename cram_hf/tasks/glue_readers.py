"""Reads a file of rows in any of its forms: CSV, TSV, JSON, JSON lines or parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from cram_hf.tasks.files import GLUE_FILES, holds_lines, json_lines, no_such_file, not_json, not_parquet
from cram_hf.tasks.glue_tables import Table, not_utf8, read_csv, read_tsv, refuse
from cram_hf.tasks.squad_records import json_type


def read_table(path: str | Path) -> Table:
    """
    Returns the rows of a file; its extension says its form.

    `.csv` has a header and may quote cells. `.tsv` has a header and no quoting: a double quote is a character like
    any other. `.json` is a list of records, `{"data": [records]}` or JSON lines; `.jsonl` is one record a line.
    Words such as NA and null are text.

    Raises:
        FileNotFoundError: if there is no such file; near names of its folder are offered.
        ValueError: if the file is empty or malformed; names the lines.
    """
    path = Path(path)
    if not path.is_file():
        raise no_such_file(path, GLUE_FILES)
    readers = {
        ".csv": read_csv,
        ".tsv": read_tsv,
        ".json": _read_json,
        ".jsonl": _read_json_lines,
        ".parquet": _read_parquet,
    }
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: unknown extension '{path.suffix}'; name the file {', '.join(GLUE_FILES)}")
    return readers[path.suffix.lower()](path)


def _text(path: Path) -> str:
    """Returns the text of a file that must be UTF-8 and not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    if not text.strip():
        raise ValueError(f"{path}: the file is empty; it must hold at least one row")
    return text


def _read_json(path: Path) -> Table:
    """Reads a list of records, one under the key `data`, or JSON lines under the extension .json."""
    try:
        content = json.loads(_text(path))
    except json.JSONDecodeError as error:
        if holds_lines(error):
            return _read_json_lines(path)
        raise not_json(path, error) from error
    records = content.get("data", [content]) if isinstance(content, dict) else content
    if not isinstance(records, list):
        raise ValueError(f'{path}: holds {json_type(records)}, but must hold a list of records or {{"data": [...]}}')
    return _records(path, records, range(1, len(records) + 1), "record")


def _read_json_lines(path: Path) -> Table:
    """Reads one record a line."""
    found = list(json_lines(path, _text(path).split("\n")))
    return _records(path, [record for _, record in found], [number for number, _ in found], "line")


def _records(path: Path, records: list[Any], numbers: Sequence[int], word: str) -> Table:
    """Returns the table of JSON records."""
    if not records:
        raise ValueError(f"{path}: there is no record; the file must hold at least one")
    wrong = [
        f'{word} {number} is {json_type(record)}, but must be an object such as {{"sentence1": ..., "label": ...}}'
        for number, record in zip(numbers, records, strict=True)
        if not isinstance(record, dict)
    ]
    refuse(str(path), wrong)
    names = {name: None for record in records for name in record}
    return Table(str(path), {name: [record.get(name) for record in records] for name in names}, numbers, word)


def _read_parquet(path: Path) -> Table:
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise not_parquet(path, error) from error
    if not table.num_rows:
        raise ValueError(f"{path}: there is no row; the file must hold at least one")
    return Table(str(path), table.to_pydict(), range(1, table.num_rows + 1), "row")
