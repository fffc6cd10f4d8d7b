"""Makes SQuAD's training features and evaluation sets from questions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase, TrainingArguments, default_data_collator

from cram_hf.tasks.base import EvalSet
from cram_hf.tasks.squad_answers import Alignment, align_answers
from cram_hf.tasks.squad_arguments import SquadArguments
from cram_hf.tasks.squad_features import POST_PROCESSING, make_features, windows
from cram_hf.tasks.squad_files import read_squad
from cram_hf.tasks.squad_hub import load_hub
from cram_hf.tasks.squad_scoring import SquadScorer

_LABELS = ("start_positions", "end_positions")

_SOURCES = {
    "train": ("--do_train", "train_file", "train", "max_train_samples"),
    "evaluation": ("--do_eval", "validation_file", "validation", "max_eval_samples"),
    "predict": ("--do_predict", "test_file", "test", "max_predict_samples"),
}


@dataclass(frozen=True)
class SquadSets:
    """
    Makes the sets of one run from its flags.

    Args:
        args ([`SquadArguments`]): the flags.
        tokenizer (`PreTrainedTokenizerBase`): a fast one. It is not changed.
        training_args (`TrainingArguments`): for the order of processes and the form of batches.
        max_seq_length (`int`): tokens of a feature, at most what the model takes.
    """

    args: SquadArguments
    tokenizer: PreTrainedTokenizerBase
    training_args: TrainingArguments
    max_seq_length: int

    @property
    def _pads(self) -> bool:
        """Whether features are padded when they are made. Padding on the left of a batch would move the positions."""
        return self.args.pad_to_max_length or self.tokenizer.padding_side == "left"

    def load(self, part: str, report: dict[str, Any]) -> Dataset:
        """Returns the questions of one part, checked, and adds what they are to the report."""
        wanted, flag, split, limit = _SOURCES[part]
        path, count, name = getattr(self.args, flag), getattr(self.args, limit), self.args.dataset_name
        if path is not None:
            examples, source = read_squad(path, need_answers=part != "predict"), str(path)
        elif name is not None:
            examples, source = load_hub(name, self.args.dataset_config_name, split), f"{name} ({split})"
        else:
            raise ValueError(f"{wanted} needs questions; give --{flag} file.json or --dataset_name rajpurkar/squad")
        if count is not None and count < len(examples):
            examples = examples.select(range(count))
        if part != "predict":
            self._check_answerable(examples, source)
        examples, found = align_answers(examples, source, repair=part == "train")
        report[part] = {"source": source, "examples": len(examples), **_counts(found)}
        return examples

    def _check_answerable(self, examples: Dataset, source: str) -> None:
        """Raises `ValueError` if there are unanswerable questions that the flags do not expect."""
        silent = [key for key, answers in zip(examples["id"], examples["answers"], strict=True) if not answers["text"]]
        if silent and not self.args.version_2_with_negative:
            raise ValueError(
                f"{source}: {len(silent)} of {len(examples)} questions have no answer, such as '{silent[0]}'; "
                "add --version_2_with_negative if they are meant to be unanswerable (SQuAD v2.0)"
            )

    def train_features(self, examples: Dataset, report: dict[str, Any]) -> Dataset:
        """Returns the features to train on."""
        if not len(examples):
            raise ValueError(f"{report['train']['source']}: no question with an aligned answer is left to train on")
        features = self._features(examples, "train")
        report["train"]["features"] = len(features)
        return features

    def eval_set(self, examples: Dataset, part: str) -> EvalSet:
        """Returns the features of the questions with the functions that score and write their answers."""
        features = self._features(examples, part)
        order = np.argsort(-np.asarray(features["length"]), kind="stable")
        labels = tuple(np.asarray(features[column])[order] for column in _LABELS)
        scorer = SquadScorer(self.args, examples, windows(features), order, (labels[0], labels[1]))
        # Without labels the Trainer computes no metrics, and a prediction set may have no answers to compare with.
        unwanted = POST_PROCESSING + (_LABELS if part == "predict" else ())
        features = features.remove_columns(list(unwanted)).select(order)
        return EvalSet(features, scorer.compute_metrics, scorer.write_predictions, len(examples))

    def _features(self, examples: Dataset, part: str) -> Dataset:
        """Returns the features of the questions, in their order."""
        settings = {
            # Calling a fast tokenizer changes it, and with it the key under which Dataset.map finds its cache.
            "tokenizer": copy.deepcopy(self.tokenizer),
            "max_seq_length": self.max_seq_length,
            "doc_stride": self.args.doc_stride,
            "pad": self._pads,
            "training": part == "train",
        }
        with self.training_args.main_process_first(desc=f"{part} features"):
            return examples.map(
                make_features,
                batched=True,
                with_indices=True,
                remove_columns=examples.column_names,
                fn_kwargs=settings,
                num_proc=self.args.preprocessing_num_workers,
                load_from_cache_file=not self.args.overwrite_cache,
                desc=f"Making {part} features",
            )

    def collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Returns what makes batches: padding to the longest, on GPUs with half precision to a multiple of 8."""
        if self._pads:
            return default_data_collator
        half = self.training_args.fp16 or self.training_args.bf16
        multiple = 8 if half and self.training_args.device.type == "cuda" else None
        return DataCollatorWithPadding(self.tokenizer, pad_to_multiple_of=multiple)


def _counts(found: Alignment) -> dict[str, int]:
    """Returns what the report says about misaligned answers: their number, and what was done where there are any."""
    if not found.misaligned:
        return {"misaligned_answers": 0}
    return {
        "misaligned_answers": found.misaligned,
        "realigned_answers": found.realigned,
        "dropped_answers": found.dropped,
        "dropped_questions": found.dropped_questions,
    }
