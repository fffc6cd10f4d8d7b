"""The task SQuAD: from files or the Hub to training features and sets that score a model's answers."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from datasets import Dataset
from transformers import AutoModelForQuestionAnswering, PreTrainedTokenizerBase, TrainingArguments

from cram_hf.tasks.base import TaskData
from cram_hf.tasks.squad_arguments import SquadArguments
from cram_hf.tasks.squad_sets import SquadSets

logger = logging.getLogger(__name__)


class Squad:
    """
    Extractive question answering, SQuAD v1.1 or v2.0.

    Scores: `exact_match` and `f1`; for v2.0 the official script's keys, `exact`, `f1`, `HasAns_f1` and so on, with
    `best_f1` over the thresholds of the null odds.
    """

    name = "squad"
    Arguments = SquadArguments
    auto_class = AutoModelForQuestionAnswering
    pipeline_tag = "question-answering"

    def train_tokenizer(self, task_args: SquadArguments, named: str | None) -> None:
        """Returns `None`: models come with their tokenizer."""

    def prepare(
        self, task_args: SquadArguments, tokenizer: PreTrainedTokenizerBase, training_args: TrainingArguments
    ) -> TaskData:
        """
        Returns the sets that `--do_train`, `--do_eval` and `--do_predict` need.

        Evaluation features are sorted by length, longest first, so that batches need little padding; predictions must
        come in that order (sequential sampling), which `compute_metrics` checks.

        Raises:
            ValueError: if data are missing, malformed or do not fit the flags or the tokenizer.
            OSError: if a file cannot be read.
        """
        _check_tokenizer(tokenizer)
        sets = SquadSets(task_args, tokenizer, training_args, _sequence_length(task_args, tokenizer))
        report: dict[str, Any] = {}
        train = evaluation = interim = predict = None
        if training_args.do_train:
            train = sets.train_features(sets.load("train", report), report)
        if training_args.do_eval:
            examples = sets.load("evaluation", report)
            evaluation = sets.eval_set(examples, "evaluation")
            report["evaluation"]["features"] = len(evaluation.features)
            interim = evaluation
            if task_args.interim_eval_samples is not None and task_args.interim_eval_samples < len(examples):
                interim = sets.eval_set(fixed_sample(examples, task_args.interim_eval_samples), "interim")
                report["interim"] = {"examples": interim.examples, "features": len(interim.features)}
        if training_args.do_predict:
            predict = sets.eval_set(sets.load("predict", report), "predict")
            report["predict"]["features"] = len(predict.features)
        return TaskData(train, interim, evaluation, predict, sets.collator(), report, task=self.name, main_metric="f1")


def fixed_sample(examples: Dataset, count: int) -> Dataset:
    """Returns the `count` questions whose ids have the lowest SHA-256, in their order: the same whatever the order."""
    digests = [hashlib.sha256(key.encode()).digest() for key in examples["id"]]
    return examples.select(sorted(sorted(range(len(examples)), key=digests.__getitem__)[:count]))


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises `ValueError` unless the tokenizer can say which characters a token came from."""
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, but answers can only be located with one; "
            "give a model or --tokenizer_name that has a tokenizer.json"
        )


def _sequence_length(task_args: SquadArguments, tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns `max_seq_length`, lowered to what the tokenizer allows."""
    if task_args.max_seq_length <= tokenizer.model_max_length:
        return task_args.max_seq_length
    logger.warning(
        "--max_seq_length %d is more than the model's %d: using %d",
        *(task_args.max_seq_length, tokenizer.model_max_length, tokenizer.model_max_length),
    )
    if task_args.doc_stride >= tokenizer.model_max_length:
        raise ValueError(
            f"--doc_stride {task_args.doc_stride}: must be less than the model's {tokenizer.model_max_length} tokens"
        )
    return tokenizer.model_max_length
