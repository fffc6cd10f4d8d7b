"""Loads SQuAD, or a set with its columns, from the Hugging Face Hub."""

from __future__ import annotations

from datasets import Dataset

from cram_hf.tasks.hub import load_split
from cram_hf.tasks.squad_records import FEATURES

_FILES = "--train_file train.json --validation_file dev.json (SQuAD is rajpurkar/squad, v2.0 rajpurkar/squad_v2)"


def load_hub(name: str, config: str | None, split: str) -> Dataset:
    """
    Returns one split of a data set on the Hub (or in the local cache), with the columns of `read_squad`.

    Raises:
        ValueError: if the set cannot be reached or found, lacks the split, or has other columns.
    """
    dataset = load_split(name, config, split, _FILES)
    missing = [column for column in FEATURES if column not in dataset.column_names]
    if missing:
        raise ValueError(
            f"--dataset_name {name}: the split '{split}' has no column {', '.join(missing)} (it has "
            f"{', '.join(dataset.column_names)}); a SQuAD set has {', '.join(FEATURES)}"
        )
    return dataset.select_columns(list(FEATURES)).cast(FEATURES)
