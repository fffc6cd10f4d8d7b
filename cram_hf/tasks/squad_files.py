"""Reads a file of questions and answers, SQuAD v1.1 or v2.0 in any of its forms, into one flat table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from datasets import Dataset

from cram_hf.tasks.files import SQUAD_FILES, holds_lines, json_lines, no_such_file, not_json, not_parquet
from cram_hf.tasks.squad_records import Located, check_records, json_type


def read_squad(path: str | Path, *, need_answers: bool = True) -> Dataset:
    """
    Returns the questions of a file, one a row: `id`, `title`, `context`, `question`, `answers`.

    The form is found by the extension and the content: `.json` is the official nested form, a list of flat records,
    `{"data": [records]}`, or JSON lines; `.jsonl` is one flat record a line; `.csv` has a header and the answers
    either as JSON in the column `answers` or as `answer_text` and `answer_start`; `.parquet` has the columns above.
    Answers are `{"text": [...], "answer_start": [...]}` or a list of `{"text": ..., "answer_start": ...}`; none means
    that the question has no answer, as does `is_impossible` of v2.0. `title` may be missing; other keys are ignored,
    among them `plausible_answers`.

    Args:
        path (`str` or `Path`):
            The file. It is only read; nothing is cached.
        need_answers (`bool`, *optional*, defaults to `True`):
            Whether a record without the key `answers` is an error (as for training) or has none (as for prediction).

    Raises:
        FileNotFoundError: if there is no such file; names of the same folder that are near are offered.
        ValueError: if the file is malformed. Names the file, the records and what is wrong with each.
    """
    path = Path(path)
    if not path.is_file():
        raise no_such_file(path, SQUAD_FILES)
    readers = {".json": _read_json, ".jsonl": _read_json_lines, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: unknown extension '{path.suffix}'; name the file {', '.join(SQUAD_FILES)}")
    return check_records(path, readers[path.suffix.lower()](path), need_answers)


def _read_text(path: Path) -> str:
    """Returns the text of a file that must be UTF-8 (a byte order mark is dropped) and not empty."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 at byte {error.start} (0x{error.object[error.start]:02x}); save the file as UTF-8"
        ) from error
    if not text.strip():
        raise ValueError(f"{path}: the file is empty; it must hold at least one question")
    return text


def _read_json(path: Path) -> Iterator[Located]:
    """Yields the records of nested or flat JSON, or of JSON lines under the extension .json."""
    text = _read_text(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if holds_lines(error):
            yield from _json_lines(path, text)
            return
        raise not_json(path, error) from error
    rows = _rows(path, content)
    if any(isinstance(row, dict) and "paragraphs" in row for row in rows):
        yield from _nested(path, rows)
    else:
        yield from ((f"record {number}", row) for number, row in enumerate(rows, 1))


def _rows(path: Path, content: Any) -> list[Any]:
    """Returns the list of articles or records; one record alone counts as JSON lines of one line."""
    if isinstance(content, dict) and "question" in content:
        return [content]
    if isinstance(content, dict) and "data" not in content:
        raise ValueError(
            f"{path}: the top level has the keys {_keys(content)} but no 'data'; "
            'it must be {"data": [...]} as in the official files, or a list of records'
        )
    what, rows = ("'data'", content["data"]) if isinstance(content, dict) else ("the top level", content)
    if not isinstance(rows, list):
        raise ValueError(f"{path}: {what} is {json_type(rows)}, but must be a list of articles or records")
    return rows


def _nested(path: Path, articles: list[Any]) -> Iterator[Located]:
    """Yields the questions of the official form: articles of paragraphs of questions."""
    for a, article in enumerate(articles, 1):
        title = article.get("title", "") if isinstance(article, dict) else ""
        for p, paragraph in enumerate(_children(path, f"article {a}", article, "paragraphs"), 1):
            where = f"article {a}, paragraph {p}"
            questions = _children(path, where, paragraph, "qas")
            if "context" not in paragraph:
                raise ValueError(f"{path}: {where}: the key 'context' is missing; it has {_keys(paragraph)}")
            for q, question in enumerate(questions, 1):
                if isinstance(question, dict):
                    question = {**question, "title": title, "context": paragraph["context"]}
                yield f"{where}, question {q}", question


def _children(path: Path, where: str, parent: Any, key: str) -> list[Any]:
    """Returns `parent[key]`, which must be a list."""
    if not isinstance(parent, dict):
        raise ValueError(f"{path}: {where} is {json_type(parent)}, but must be an object with the key '{key}'")
    if key not in parent:
        raise ValueError(f"{path}: {where}: the key '{key}' is missing; it has {_keys(parent)}")
    children = parent[key]
    if not isinstance(children, list):
        raise ValueError(f"{path}: {where}: '{key}' is {json_type(children)}, but must be a list")
    return children


def _keys(content: dict[str, Any]) -> str:
    """Returns the keys for a message."""
    return ", ".join(f"'{key}'" for key in content) or "none"


def _read_json_lines(path: Path) -> Iterator[Located]:
    """Yields the records of JSON lines."""
    yield from _json_lines(path, _read_text(path))


def _json_lines(path: Path, text: str) -> Iterator[Located]:
    """Yields one record a line."""
    yield from ((f"line {number}", record) for number, record in json_lines(path, text.split("\n")))


def _read_csv(path: Path) -> Iterator[Located]:
    """Yields the rows of a CSV file, named by the line on which each ends."""
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), strict=True)
    columns = reader.fieldnames or []
    missing = [column for column in ("id", "context", "question") if column not in columns]
    if missing:
        raise ValueError(f"{path}: the header lacks {', '.join(missing)}; it has {', '.join(columns)}")
    try:
        for row in reader:
            yield f"line {reader.line_num}", _csv_record(path, reader.line_num, row)
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.reader.line_num}: not valid CSV: {error}") from error


def _csv_record(path: Path, line: int, row: dict[str, Any]) -> dict[str, Any]:
    """Returns the row with `answers` as a value, from a JSON column or from two plain ones."""
    if None in row:
        raise ValueError(
            f"{path}: line {line}: has more cells than the header has columns; quote texts that contain commas"
        )
    if row.get("answers"):
        try:
            return {**row, "answers": json.loads(row["answers"])}
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}: line {line}: the column 'answers' is not valid JSON: {error.msg} at column {error.colno}; "
                'write {"text": ["..."], "answer_start": [0]}'
            ) from error
    return {column: cell for column, cell in row.items() if column != "answers"}


def _read_parquet(path: Path) -> Iterator[Located]:
    """Yields the rows of a parquet file."""
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise not_parquet(path, error) from error
    yield from ((f"row {number}", row) for number, row in enumerate(table.to_pylist(), 1))
