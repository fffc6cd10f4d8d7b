"""Makes typed examples, one or two sentences and a label, of the raw columns of any source."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features, Value

from cram_hf.tasks.glue_tables import Table, refuse
from cram_hf.tasks.glue_tasks import Target
from cram_hf.tasks.squad_records import json_type

TEXTS = ("sentence1", "sentence2")
LABEL = "labels"

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class Part:
    """
    The examples of one file or split.

    Args:
        predictions (`str`): name of the file that predictions for them are written to, without its extension.
        source (`str`): where they come from.
        examples (`Dataset`): columns `sentence1`, for pairs `sentence2`, and `labels` unless they are to be predicted.
        skipped (`int`): rows of the source that were left out.
    """

    predictions: str
    source: str
    examples: Dataset
    skipped: int = 0


@dataclass(frozen=True)
class Loaded:
    """What was loaded for a run: what its models predict, and the examples of `train`, `evaluation`, `predict`."""

    target: Target
    parts: dict[str, list[Part]]


def make_part(predictions: str, table: Table, texts: Sequence[str], label: str | None, target: Target) -> Part:
    """
    Returns the examples of a table.

    Args:
        predictions (`str`): see [`Part`].
        table ([`Table`]): the rows.
        texts (`Sequence[str]`): its one or two columns of sentences.
        label (`str`, *optional*): its column of labels; `None` for rows to predict.
        target ([`Target`]): what the labels must be.

    Raises:
        ValueError: if a column is missing, a sentence is no string, or a label is not one of the target's.
    """
    table.require([*texts, *([label] if label else [])])
    columns: dict[str, list[Any]] = {new: _strings(table, old) for old, new in zip(texts, TEXTS, strict=False)}
    features = {name: Value("string") for name in columns}
    if label:
        columns[LABEL] = _indices(table, label, target) if target.labels else _scores(table, label, target)
        features[LABEL] = Value("int64" if target.labels else "float64")
    return Part(predictions, table.source, Dataset.from_dict(columns, Features(features)), table.skipped)


def code(value: Any) -> str:
    """Returns a label as text: 1 and "1" are the same label, and true is `true`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def number(value: Any) -> float | None:
    """Returns a number, or a text that says one, as a float; `None` for everything else, nan and inf too."""
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _strings(table: Table, name: str) -> list[str]:
    values = table.columns[name]
    refuse(
        table.source,
        [
            f"{table.at(row)}: {name!r} is {json_type(value)}, but must be a string"
            for row, value in enumerate(values)
            if not isinstance(value, str)
        ],
    )
    return values


def _indices(table: Table, name: str, target: Target) -> list[int]:
    """Returns the place of each row's label among the target's."""
    places = {label: index for index, label in enumerate(target.codes)}
    values = [code(value) for value in table.columns[name]]
    refuse(
        table.source,
        [
            f"{table.at(row)}: the label in {name!r} is {value!r:.40}, but must be one of {', '.join(target.codes)}"
            for row, value in enumerate(values)
            if value not in places
        ],
    )
    return [places[value] for value in values]


def _scores(table: Table, name: str, target: Target) -> list[float]:
    """Returns each row's score."""
    low, high = target.bounds or (-math.inf, math.inf)
    scores = [number(value) for value in table.columns[name]]
    scale = f" from {low:g} to {high:g}" if target.bounds else ""
    problems, good = [], []
    for row, score in enumerate(scores):
        if score is None or not low <= score <= high:
            given = table.columns[name][row]
            problems.append(f"{table.at(row)}: the score in {name!r} is {given!r:.40}, but must be a number{scale}")
        else:
            good.append(score)
    refuse(table.source, problems)
    return good
