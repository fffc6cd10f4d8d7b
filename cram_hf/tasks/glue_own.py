"""Loads classification and regression data that are no GLUE task, and finds out which of the two they are."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cram_hf.tasks.glue_arguments import GlueArguments
from cram_hf.tasks.glue_examples import TEXTS, Loaded, Part, code, make_part, number
from cram_hf.tasks.glue_hub import hub_table
from cram_hf.tasks.glue_readers import read_table
from cram_hf.tasks.glue_tables import Table, refuse
from cram_hf.tasks.glue_tasks import Target

logger = logging.getLogger(__name__)

LABEL_COLUMN = "label"

Reader = Callable[[str], tuple[Table, tuple[str, ...]]]  # a part to its rows, and the names of labels if known

_NO_TEXTS = ("id", "idx", "index")
_FLAGS = {"train": "train_file", "evaluation": "validation_file", "predict": "test_file"}
_WANTED = {"train": "--do_train", "evaluation": "--do_eval", "predict": "--do_predict"}
_SPLITS = {"train": "train", "evaluation": "validation", "predict": "test"}


@dataclass(frozen=True)
class Schema:
    """What the first table showed: where it came from, its columns of text, and what is to be predicted."""

    source: str
    texts: tuple[str, ...]
    target: Target


def load_own(args: GlueArguments, wanted: Sequence[str]) -> Loaded:
    """
    Returns the examples of the user's files, or of a set on the Hub.

    Texts and labels are those of the training rows (of the evaluation rows where `--train_file` is not given), which
    are read even if nothing is trained; other parts must fit them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if flags or columns are missing, rows are malformed, or labels differ between parts.
    """
    read = _hub_reader(args) if args.dataset_name else _file_reader(args, wanted)
    first = "train" if args.dataset_name or args.train_file else "evaluation"
    table, names = read(first)
    schema = find_schema(table, names)
    parts = {}
    for part in wanted:
        parts[part] = [_part(schema, table if part == first else read(part)[0], part)]
    return Loaded(schema.target, parts)


def _hub_reader(args: GlueArguments) -> Reader:
    def read(part: str) -> tuple[Table, tuple[str, ...]]:
        return hub_table(str(args.dataset_name), args.dataset_config_name, _SPLITS[part])

    return read


def _file_reader(args: GlueArguments, wanted: Sequence[str]) -> Reader:
    """Returns what reads the file of a part. Raises `ValueError` if the flags do not name all that are needed."""
    missing = [f"{_WANTED[part]} needs --{_FLAGS[part]}" for part in wanted if not getattr(args, _FLAGS[part])]
    if missing:
        raise ValueError(f"{', '.join(missing)}: give a file of rows for each")
    if not (args.train_file or args.validation_file):
        raise ValueError(
            f"--test_file {args.test_file} does not say which labels there are; give --train_file as well "
            "(it is read for them even without --do_train)"
        )

    def read(part: str) -> tuple[Table, tuple[str, ...]]:
        return read_table(getattr(args, _FLAGS[part])), ()

    return read


def find_schema(table: Table, names: Sequence[str] = ()) -> Schema:
    """
    Returns which columns hold the texts, and whether classes or scores are predicted.

    The texts are `sentence1` and, if there is one, `sentence2`; else the first one or two columns of text that is not
    all numbers, `label`, `id`, `idx` and `index` left aside. Labels that are numbers, one or more with a fraction, are
    scores; others are classes, in numerical or alphabetical order.

    Args:
        table ([`Table`]): the rows.
        names (`Sequence[str]`, *optional*): the classes in their order, where the source knows them.

    Raises:
        ValueError: if there is no column `label` or no text, a label is missing, all labels are the same, or most are
            scores but some no numbers.
    """
    table.require([LABEL_COLUMN])
    texts = _texts(table)
    logger.info("%s: texts are in %s", table.source, " and ".join(map(repr, texts)))
    return Schema(table.source, texts, _target(table, names))


def _texts(table: Table) -> tuple[str, ...]:
    if TEXTS[0] in table.columns:
        return TEXTS if TEXTS[1] in table.columns else TEXTS[:1]
    found = [name for name, values in table.columns.items() if _holds_text(name, values)]
    if not found:
        raise ValueError(
            f"{table.source}: no column holds text, only {', '.join(map(repr, table.columns))}; "
            "name the column of the texts 'sentence1' (and of a second text 'sentence2')"
        )
    return tuple(found[:2])


def _holds_text(name: str, values: list[Any]) -> bool:
    if name.lower() in (LABEL_COLUMN, *_NO_TEXTS):
        return False
    there = [value for value in values if value is not None]
    return all(isinstance(value, str) for value in there) and any(number(value) is None for value in there)


def _target(table: Table, names: Sequence[str]) -> Target:
    values = table.columns[LABEL_COLUMN]
    missing = [f"{table.at(row)}: the label is missing" for row, value in enumerate(values) if _is_missing(value)]
    refuse(table.source, missing)
    if not names and _are_scores(table):
        return Target("regression", "spearmanr")
    labels = tuple(names) or tuple(sorted({code(value) for value in values}, key=_by_number))
    if len(labels) < 2:
        raise ValueError(
            f"{table.source}: all rows have the label {labels[0]!r}, but a classifier needs two or more; "
            "give the whole file"
        )
    return Target("classification", "accuracy", labels, labels)


def _are_scores(table: Table) -> bool:
    """Whether the labels are numbers, some with a fraction; raises `ValueError` if most are but some are none."""
    values = table.columns[LABEL_COLUMN]
    others = [row for row, value in enumerate(values) if number(value) is None]
    fractions = [value for value in values if number(value) is not None and not _is_whole(value)]
    if not fractions or 2 * len(others) >= len(values):
        return False
    refuse(
        table.source,
        [
            f"{table.at(row)}: the label is {values[row]!r:.40}, but most are scores such as {fractions[0]}; correct "
            "it, or write all of them as words if they are classes"
            for row in others
        ],
    )
    return True


def _is_missing(value: Any) -> bool:
    """Whether a label is null, empty or NaN, as which parquet and JSON store a number that is not there."""
    return value is None or value == "" or value != value


def _is_whole(value: Any) -> bool:
    return code(value).strip().lstrip("+-").isdecimal()


def _by_number(label: str) -> tuple[float, str]:
    """Sorts numbers by value, before other labels, which follow alphabetically."""
    value = number(label)
    return (float("inf") if value is None else value, label)


def _part(schema: Schema, table: Table, part: str) -> Part:
    """Returns the examples of a table that must fit the schema."""
    labelled = part != "predict"
    if labelled and schema.target.labels and table.source != schema.source:
        table.require([LABEL_COLUMN])
        _compare_labels(schema, table)
    return make_part("predictions", table, schema.texts, LABEL_COLUMN if labelled else None, schema.target)


def _compare_labels(schema: Schema, table: Table) -> None:
    """Raises `ValueError` for labels that the first table lacks; says which of its labels this one lacks."""
    known = schema.target.labels
    counts = Counter(code(value) for value in table.columns[LABEL_COLUMN])
    if unknown := [label for label in counts if label not in known]:
        row = [code(value) for value in table.columns[LABEL_COLUMN]].index(unknown[0])
        raise ValueError(
            f"{table.source}: the labels differ from those of {schema.source}: {table.at(row)} has {unknown[0]!r}"
            f"{', others are unknown too: ' + ', '.join(unknown[1:20]) if len(unknown) > 1 else ''}; "
            f"known are {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}"
        )
    if absent := [label for label in known if label not in counts]:
        logger.warning("%s: no row has the label %s", table.source, ", ".join(absent[:20]))
