"""Checks raw question records of any file form and makes one typed table of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

FEATURES = Features(
    {
        "id": Value("string"),
        "title": Value("string"),
        "context": Value("string"),
        "question": Value("string"),
        "answers": {"text": List(Value("string")), "answer_start": List(Value("int32"))},
    }
)

Located = tuple[str, Any]  # where in the file ("line 3"), and the raw record there

_SHOWN = 5


class _Wrong(Exception):
    """What is wrong with one record, in words; gathered by `check_records`."""


def check_records(path: Path, located: Iterable[Located], need_answers: bool) -> Dataset:
    """
    Returns the table (columns of `FEATURES`) of raw records, in their order.

    Raises:
        ValueError: if there are none, or some are malformed or repeat an id. The first five are named, each with its
            place and what is wrong; the number of all is given.
    """
    rows: list[dict[str, Any]] = []
    places: dict[str, str] = {}
    problems: list[str] = []
    for where, raw in located:
        try:
            row = _row(raw, need_answers)
            if row["id"] in places:
                raise _Wrong(f"the id '{row['id']}' was already used by {places[row['id']]}; ids must differ")
        except _Wrong as wrong:
            problems.append(f"{where}: {wrong}")
            continue
        places[row["id"]] = where
        rows.append(row)
    if problems:
        more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        count = f"{len(problems)} malformed record{'s' if len(problems) > 1 else ''}"
        raise ValueError(f"{path}: {count}\n  " + "\n  ".join(problems[:_SHOWN]) + more)
    if not rows:
        raise ValueError(f"{path}: the file holds no questions; it must hold at least one")
    return Dataset.from_dict({name: [row[name] for row in rows] for name in FEATURES}, features=FEATURES)


def _row(raw: Any, need_answers: bool) -> dict[str, Any]:
    """Returns the record with exactly the columns of `FEATURES`."""
    if not isinstance(raw, dict):
        raise _Wrong(f"is {json_type(raw)}, but must be an object with the keys id, context, question, answers")
    row = {name: _text(raw, name) for name in ("id", "context", "question")}
    title = raw.get("title")
    row["title"] = _text(raw, "title", empty=True) if title is not None else ""
    return {**row, "answers": _answers(raw, need_answers)}


def _text(record: dict[str, Any], key: str, *, empty: bool = False) -> str:
    """Returns a string of the record."""
    if record.get(key) is None:
        raise _Wrong(f"the key '{key}' is missing; it has {', '.join(map(repr, record)) or 'none'}")
    value = record[key]
    if not isinstance(value, str):
        raise _Wrong(f"'{key}' is {json_type(value)} ({value!r:.40}), but must be a string")
    if not value and not empty:
        raise _Wrong(f"'{key}' is empty, but must hold some text")
    return value


def _answers(raw: dict[str, Any], need_answers: bool) -> dict[str, list[Any]]:
    """Returns the answers as two lists of equal length, empty for an unanswerable question."""
    if raw.get("is_impossible"):
        return {"text": [], "answer_start": []}
    if "answer_text" in raw and raw.get("answers") is None:
        return _plain_answer(raw)
    answers = raw.get("answers")
    if answers is None:
        if need_answers:
            raise _Wrong(f"the key 'answers' is missing; it has {', '.join(map(repr, raw))}")
        return {"text": [], "answer_start": []}
    if isinstance(answers, list):
        pairs = [_pair(answer) for answer in answers]
    elif isinstance(answers, dict):
        pairs = _zip(answers)
    else:
        raise _Wrong(
            f"'answers' is {json_type(answers)}, but must be "
            '{"text": [...], "answer_start": [...]} or a list of {"text": ..., "answer_start": ...}'
        )
    for text, start in pairs:
        if not isinstance(text, str) or not text:
            raise _Wrong(f"an answer's text is {text!r:.40}, but must be a string with some text")
        if not isinstance(start, int) or isinstance(start, bool) or start < 0:
            raise _Wrong(f"an answer's answer_start is {start!r:.40}, but must be an integer of 0 or more")
    return {"text": [text for text, _ in pairs], "answer_start": [start for _, start in pairs]}


def _pair(answer: Any) -> tuple[Any, Any]:
    """Returns text and start of one answer object."""
    if not isinstance(answer, dict):
        raise _Wrong(f"an answer is {json_type(answer)}, but must be an object with the keys text and answer_start")
    if missing := [key for key in ("text", "answer_start") if key not in answer]:
        raise _Wrong(f"an answer lacks the key '{missing[0]}'; it has {', '.join(map(repr, answer))}")
    return answer["text"], answer["answer_start"]


def _zip(answers: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Returns text and start of each answer, from one list of each."""
    texts, starts = _pair(answers)
    for key, value in (("text", texts), ("answer_start", starts)):
        if not isinstance(value, list):
            raise _Wrong(f"'{key}' of the answers is {json_type(value)}, but must be a list")
    if len(texts) != len(starts):
        raise _Wrong(f"the answers have {len(texts)} text but {len(starts)} answer_start; they must pair up")
    return list(zip(texts, starts, strict=True))


def _plain_answer(raw: dict[str, Any]) -> dict[str, list[Any]]:
    """Returns the one answer of a CSV row with `answer_text` and `answer_start`; an empty text means none."""
    text, start = raw["answer_text"], str(raw.get("answer_start"))
    if not text:
        return {"text": [], "answer_start": []}
    if not start.isdecimal():
        raise _Wrong(f"answer_start is {start!r}, but must be an integer of 0 or more")
    return {"text": [text], "answer_start": [int(start)]}


def json_type(value: Any) -> str:
    """Returns the word for a value's type in a message, such as `a list`."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
