"""Loads one split of a data set from the Hugging Face Hub, or says in one line why it cannot."""

from __future__ import annotations

from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetsError


def load_split(name: str, config: str | None, split: str, advice: str) -> Dataset:
    """
    Returns one split of a set on the Hub, in the local cache, or in a folder.

    Args:
        name (`str`): the set.
        config (`str`, *optional*): its configuration, where it has several.
        split (`str`): such as `train`.
        advice (`str`): the flags to give instead, for the message.

    Raises:
        ValueError: if the set cannot be reached, found or read, or lacks the split.
    """
    try:
        return load_dataset(name, config, split=split)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise ValueError(
            f"--dataset_name {name}: could not load the split '{split}'{f' of {config}' if config else ''} from the "
            f"Hub ({reason(error)}). Check the name and the network, or give local files: {advice}"
        ) from error


def reason(error: BaseException) -> str:
    """Returns the kind of an error and the first line of its message; those of its cause, if the set was malformed."""
    if isinstance(error, DatasetGenerationError) and error.__cause__:
        error = error.__cause__  # its own words are "An error occurred while generating the dataset"
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}"
