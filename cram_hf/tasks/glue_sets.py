"""Makes GLUE's training features and evaluation sets from examples."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase, TrainingArguments, default_data_collator

from cram_hf.tasks.base import EvalSet
from cram_hf.tasks.glue_arguments import GlueArguments
from cram_hf.tasks.glue_examples import LABEL, TEXTS, Part
from cram_hf.tasks.glue_scoring import GlueScorer
from cram_hf.tasks.glue_tasks import Target


def make_features(
    rows: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, max_seq_length: int, pad: bool
) -> dict[str, list[Any]]:
    """
    Returns the features of a batch of examples, as columns; made for `Dataset.map(batched=True)`.

    A row that is too long is cut at its end, a pair at the end of the longer text, token by token. `length` is the
    number of tokens; `labels` are kept.
    """
    encoding = tokenizer(
        *(rows[name] for name in TEXTS if name in rows),
        truncation=True,
        max_length=max_seq_length,
        padding="max_length" if pad else False,
    )
    features = {name: encoding[name] for name in tokenizer.model_input_names if name in encoding}
    features["length"] = [sum(mask) for mask in encoding["attention_mask"]]
    return features | ({LABEL: rows[LABEL]} if LABEL in rows else {})


def first_rows(part: Part, count: int | None) -> Part:
    """Returns the part with its first `count` rows, or all of them."""
    rows = range(len(part.examples) if count is None else min(count, len(part.examples)))
    return replace(part, examples=part.examples.select(rows))


def fixed_sample(part: Part, count: int) -> Part:
    """Returns the `count` rows whose places have the lowest SHA-256, in their order: always the same ones."""
    digests = [hashlib.sha256(f"{part.predictions} {row}".encode()).digest() for row in range(len(part.examples))]
    rows = sorted(sorted(range(len(digests)), key=digests.__getitem__)[:count])
    return replace(part, examples=part.examples.select(rows))


@dataclass(frozen=True)
class GlueSets:
    """
    Makes the sets of one run from its examples.

    Args:
        args ([`GlueArguments`]): the flags.
        target ([`Target`]): what is predicted.
        tokenizer (`PreTrainedTokenizerBase`): it is not changed.
        training_args (`TrainingArguments`): for the order of processes and the form of batches.
        max_seq_length (`int`): tokens of a row, at most what the model takes.
    """

    args: GlueArguments
    target: Target
    tokenizer: PreTrainedTokenizerBase
    training_args: TrainingArguments
    max_seq_length: int

    def train_features(self, parts: Sequence[Part]) -> Dataset:
        """Returns the features to train on."""
        return self._features(parts, "train")

    def eval_set(self, parts: Sequence[Part], name: str) -> EvalSet:
        """
        Returns the features of the parts, longest first, with the functions that score and write predictions.

        Args:
            parts (`Sequence[Part]`): the files of the set; their order is that of the scores and predictions.
            name (`str`): what the set is for, for the progress bar.
        """
        features = self._features(parts, name)
        order = np.argsort(-np.asarray(features["length"]), kind="stable")
        features = features.select(order)
        scorer = GlueScorer(
            self.target,
            tuple(part.predictions for part in parts),
            tuple(len(part.examples) for part in parts),
            order,
            np.asarray(features[LABEL]) if LABEL in features.column_names else None,
        )
        return EvalSet(features, scorer.compute_metrics, scorer.write_predictions, len(features))

    def _features(self, parts: Sequence[Part], name: str) -> Dataset:
        """Returns the features of the examples, in their order."""
        examples = concatenate_datasets([part.examples for part in parts])
        settings = {
            # Calling a fast tokenizer changes it, and with it the key under which Dataset.map finds its cache.
            "tokenizer": copy.deepcopy(self.tokenizer),
            "max_seq_length": self.max_seq_length,
            "pad": self.args.pad_to_max_length,
        }
        with self.training_args.main_process_first(desc=f"{name} features"):
            return examples.map(
                make_features,
                batched=True,
                remove_columns=examples.column_names,
                fn_kwargs=settings,
                load_from_cache_file=not self.args.overwrite_cache,
                desc=f"Making {name} features",
            )

    def collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Returns what makes batches: padding to the longest, on GPUs with half precision to a multiple of 8."""
        if self.args.pad_to_max_length:
            return default_data_collator
        half = self.training_args.fp16 or self.training_args.bf16
        multiple = 8 if half and self.training_args.device.type == "cuda" else None
        return DataCollatorWithPadding(self.tokenizer, pad_to_multiple_of=multiple)
