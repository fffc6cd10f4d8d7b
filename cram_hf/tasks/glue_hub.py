"""Loads GLUE's tasks, or a set with texts and a column `label`, from the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import ClassLabel, Dataset, Value

from cram_hf.tasks.glue_examples import LABEL, TEXTS, Loaded, Part
from cram_hf.tasks.glue_tables import Table, require
from cram_hf.tasks.glue_tasks import DIAGNOSTIC, GLUE_TASKS, HUB, File, GlueTask
from cram_hf.tasks.hub import load_split

_FILES = "--task_name rte --glue_dir DIR, or --train_file train.csv --validation_file dev.csv"


def load_hub_task(task_name: str, name: str, config: str | None, wanted: Sequence[str]) -> Loaded:
    """
    Returns a task's examples from GLUE on the Hub, or from a set of the same form.

    Args:
        task_name (`str`): one of `GLUE_TASKS`.
        name (`str`): the set, normally `nyu-mll/glue`, where an MNLI model also predicts the diagnostic set.
        config (`str`, *optional*): its configuration; the task's name by default.
        wanted (`Sequence[str]`): some of `train`, `evaluation` and `predict`.

    Raises:
        ValueError: if a split cannot be loaded, lacks a column or has other labels.
    """
    task = GLUE_TASKS[task_name]
    parts = {
        part: [_part(task, file, name, config or task.name, part) for file in task.files(part)] for part in wanted
    }
    if task.name == "mnli" and name == HUB and "predict" in parts:
        parts["predict"].append(_part(task, DIAGNOSTIC, name, "ax", "predict"))
    return Loaded(task.target, parts)


def hub_table(name: str, config: str | None, split: str) -> tuple[Table, tuple[str, ...]]:
    """Returns the texts and labels of a split, and the names of its labels in their order where it has any."""
    dataset = load_split(name, config, split, _FILES)
    kept = [
        column
        for column, feature in dataset.features.items()
        if column == "label" or (isinstance(feature, Value) and feature.dtype in ("string", "large_string"))
    ]
    columns = {column: dataset[column][:] for column in kept}
    feature = dataset.features.get("label")
    names = tuple(feature.names) if isinstance(feature, ClassLabel) else ()
    if names:
        columns["label"] = [names[label] if label is not None and label >= 0 else None for label in columns["label"]]
    return Table(_source(name, config, split), columns, range(1, len(dataset) + 1), "row"), names


def _source(name: str, config: str | None, split: str) -> str:
    return f"{name} ({f'{config}, ' if config else ''}{split})"


def _part(task: GlueTask, file: File, name: str, config: str, part: str) -> Part:
    """Returns the examples of one split, kept as they are so that features made of them can be cached."""
    dataset, source = load_split(name, config, file.split, _FILES), _source(name, config, file.split)
    renamed = dict(zip(task.hub_texts, TEXTS, strict=False)) | ({} if part == "predict" else {"label": LABEL})
    require(source, dataset.column_names, list(renamed))
    dataset = dataset.select_columns(list(renamed)).rename_columns({o: n for o, n in renamed.items() if o != n})
    if part != "predict":
        _check_labels(task, source, dataset)
    return Part(file.predictions, source, dataset)


def _check_labels(task: GlueTask, source: str, dataset: Dataset) -> None:
    """Raises `ValueError` unless the labels are the task's, in its order, and none is missing."""
    feature, wanted = dataset.features[LABEL], task.target.labels
    if isinstance(feature, ClassLabel) and tuple(feature.names) != wanted:
        raise ValueError(
            f"{source}: the labels are {', '.join(feature.names)}, but {task.name} has "
            f"{', '.join(wanted) or 'a score'}; leave out --task_name to train on this set as it is"
        )
    low, high = task.target.bounds or (0, len(wanted) - 1)
    labels = np.asarray(dataset[LABEL][:], dtype=np.float64)
    wrong = np.flatnonzero(~((labels >= low) & (labels <= high)))
    if len(wrong):
        raise ValueError(
            f"{source}: row {wrong[0] + 1}: the label is {labels[wrong[0]]:g}, but must be from {low:g} to {high:g}"
        )
