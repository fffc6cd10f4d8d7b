"""Where the text comes from: files or the Hub, stored or streamed, with a part kept for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from datasets import Dataset, IterableDataset, load_dataset
from datasets.exceptions import DatasetsError

from cram_hf.tasks.hub import reason
from cram_hf.tasks.mlm_arguments import MlmArguments
from cram_hf.tasks.mlm_text import no_column, read_texts

Part: TypeAlias = Literal["train", "evaluation"]
AnyDataset: TypeAlias = Dataset | IterableDataset


@dataclass(frozen=True)
class Texts:
    """
    The texts of one part.

    Args:
        rows (`Dataset` or `IterableDataset`): one text a row, in the column `text`.
        source (`str`): where they come from, for messages and the results file.
    """

    rows: AnyDataset
    source: str


def load_texts(args: MlmArguments, part: Part) -> Texts:
    """
    Returns the texts to train or evaluate on, streamed if the flags say so.

    Without a validation set, every twentieth training text (with 5 %) is kept for evaluation and not trained on,
    whether the run evaluates or not: a later evaluation finds texts that the model has not seen.

    Raises:
        ValueError: if there is no such text in the flags, a set lacks the column `text`, or a part is empty.
        OSError: if a file cannot be read.
    """
    origins = _hub(args) if args.dataset_name else _files(args)
    chosen: Part = part if "evaluation" in origins else "train"
    if chosen not in origins:
        flag = {"train": "--train_file text.txt", "evaluation": "--validation_file text.txt"}[part]
        wanted = {"train": "--do_train", "evaluation": "--do_eval"}[part]
        raise ValueError(f"{wanted} needs text; give {flag} or --dataset_name Salesforce/wikitext")
    texts = origins[chosen]()
    return texts if "evaluation" in origins else _kept_apart(texts, args.validation_split_percentage, part)


def _files(args: MlmArguments) -> dict[Part, Callable[[], Texts]]:
    """Returns what opens the files that were given."""
    files: dict[Part, str | None] = {"train": args.train_file, "evaluation": args.validation_file}
    return {
        part: partial(_open_file, path, streaming=args.streaming) for part, path in files.items() if path is not None
    }


def _open_file(path: str, streaming: bool) -> Texts:
    """Returns the texts of a file; unless streamed, they are read into memory."""
    if streaming:
        return Texts(IterableDataset.from_generator(_rows_of, gen_kwargs={"path": path}), path)
    return Texts(Dataset.from_dict({"text": list(read_texts(path))}), path)


def _rows_of(path: str) -> Iterator[dict[str, str]]:
    """Yields the texts of a file as rows."""
    for text in read_texts(path):
        yield {"text": text}


def _hub(args: MlmArguments) -> dict[Part, Callable[[], Texts]]:
    """Returns what opens the splits `train` and `validation` of a data set on the Hub (or in the local cache)."""
    name = str(args.dataset_name)
    try:
        splits: Mapping[str, AnyDataset] = load_dataset(name, args.dataset_config_name, streaming=args.streaming)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise ValueError(
            f"--dataset_name {name}: could not load it from the Hub ({reason(error)}). Check the name, the "
            "configuration (--dataset_config_name) and the network, or give local files: --train_file train.txt"
        ) from error
    parts: dict[Part, str] = {"train": "train", "evaluation": "validation"}
    return {part: partial(_open_split, splits, split, name) for part, split in parts.items() if split in splits}


def _open_split(splits: Mapping[str, AnyDataset], split: str, name: str) -> Texts:
    """Returns the texts of a split."""
    return Texts(_only_text(splits[split], name), f"{name} ({split})")


def _only_text(rows: AnyDataset, name: str) -> AnyDataset:
    """Returns the column `text` alone."""
    columns = rows.column_names or list(next(iter(rows), {"text": ""}))  # some streams only tell with their first row
    if "text" not in columns:
        raise ValueError(no_column(f"--dataset_name {name}", "", columns))
    return rows.select_columns(["text"])


def is_kept_apart(index: int, percentage: int) -> bool:
    """Returns whether the text at this position is for evaluation: `percentage` of any 100 in a row, evenly spread."""
    return index * percentage // 100 != (index + 1) * percentage // 100


def _kept_apart(texts: Texts, percentage: int, part: Part) -> Texts:
    """Returns the part of the training texts that is trained on, or the one that is kept for evaluation."""
    wanted = part == "evaluation"
    if isinstance(texts.rows, IterableDataset):
        rows: AnyDataset = texts.rows.filter(_belongs, with_indices=True, fn_kwargs={"p": percentage, "kept": wanted})
    else:
        rows = texts.rows.select([i for i in range(len(texts.rows)) if is_kept_apart(i, percentage) == wanted])
        if not len(rows):
            raise ValueError(
                f"{texts.source}: {percentage} % of its {len(texts.rows)} texts leave none "
                f"{'to evaluate' if wanted else 'to train'} on; give --validation_file, or another "
                "--validation_split_percentage"
            )
    share = percentage if wanted else 100 - percentage
    return Texts(rows, f"{texts.source}, {share} % of the texts")


def _belongs(row: dict[str, str], index: int, p: int, kept: bool) -> bool:
    """Returns whether a streamed text belongs to the part."""
    return is_kept_apart(index, p) == kept
