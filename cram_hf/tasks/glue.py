"""The task GLUE: sentences or pairs of them, from files or the Hub, to a classifier or a predictor of scores."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase, TrainingArguments

from cram_hf.metrics.glue_scores import check_installed
from cram_hf.tasks.base import TaskData
from cram_hf.tasks.glue_arguments import GlueArguments
from cram_hf.tasks.glue_examples import TEXTS, Loaded, Part
from cram_hf.tasks.glue_files import load_folder
from cram_hf.tasks.glue_hub import load_hub_task
from cram_hf.tasks.glue_own import load_own
from cram_hf.tasks.glue_sets import GlueSets, first_rows, fixed_sample

logger = logging.getLogger(__name__)


class Glue:
    """
    Classification of, or a score for, a text or a pair of texts: GLUE's nine tasks and data of your own.

    Scores, as fractions: `matthews_correlation` (CoLA), `f1` and `accuracy` (MRPC, QQP), `pearson` and `spearmanr`
    (STS-B and scores of your own), `accuracy` (all others; MNLI's second set: `accuracy_mm`).
    """

    name = "glue"
    Arguments = GlueArguments
    auto_class = AutoModelForSequenceClassification
    pipeline_tag = "text-classification"

    def train_tokenizer(self, task_args: GlueArguments, named: str | None) -> None:
        """Returns `None`: models come with their tokenizer."""

    def prepare(
        self, task_args: GlueArguments, tokenizer: PreTrainedTokenizerBase, training_args: TrainingArguments
    ) -> TaskData:
        """
        Returns the sets that `--do_train`, `--do_eval` and `--do_predict` need.

        Evaluation features are sorted by length, longest first, so that batches need little padding; predictions must
        come in that order (sequential sampling), which `compute_metrics` checks.

        Raises:
            ValueError: if data are missing, malformed or do not fit the flags.
            OSError: if a file cannot be read.
            ImportError: if scores are asked for and scikit-learn or scipy is missing.
        """
        if training_args.do_eval:
            check_installed()
        loaded = _load(task_args, training_args)
        length = _sequence_length(task_args, tokenizer, loaded)
        sets = GlueSets(task_args, loaded.target, tokenizer, training_args, length)
        train, evaluation, predict = (loaded.parts.get(part) for part in ("train", "evaluation", "predict"))
        report = {part: _facts(parts) for part, parts in loaded.parts.items()}
        interim: list[Part] | None = None
        count = task_args.interim_eval_samples
        if evaluation and count and any(count < len(part.examples) for part in evaluation):
            interim = [fixed_sample(part, count) for part in evaluation]
            report["interim"] = _facts(interim)
        scored = sets.eval_set(evaluation, "evaluation") if evaluation else None
        return TaskData(
            train=sets.train_features(train) if train else None,
            interim=sets.eval_set(interim, "interim") if interim else scored,
            evaluation=scored,
            predict=sets.eval_set(predict, "predict") if predict else None,
            collator=sets.collator(),
            report=report,
            task=loaded.target.task,
            main_metric=loaded.target.main_metric,
            model_config=loaded.target.model_config,
        )


def _load(args: GlueArguments, training_args: TrainingArguments) -> Loaded:
    """Returns the examples of the parts that are asked for, cut to as many as the flags say."""
    asked = {"train": training_args.do_train, "evaluation": training_args.do_eval, "predict": training_args.do_predict}
    wanted = [part for part, is_asked in asked.items() if is_asked]
    if args.task_name and args.glue_dir:
        loaded = load_folder(args.task_name, args.glue_dir, wanted)
    elif args.task_name:
        loaded = load_hub_task(args.task_name, str(args.dataset_name), args.dataset_config_name, wanted)
    else:
        loaded = load_own(args, wanted)
    counts = {
        "train": args.max_train_samples,
        "evaluation": args.max_eval_samples,
        "predict": args.max_predict_samples,
    }
    parts = {name: [first_rows(part, counts[name]) for part in parts] for name, parts in loaded.parts.items()}
    return Loaded(loaded.target, parts)


def _facts(parts: Sequence[Part]) -> dict[str, Any]:
    """Returns what the results file says of a set."""
    count = sum(len(part.examples) for part in parts)
    skipped = sum(part.skipped for part in parts)
    facts = {"source": " and ".join(part.source for part in parts), "examples": count, "features": count}
    return facts | ({"skipped_rows": skipped} if skipped else {})


def _sequence_length(args: GlueArguments, tokenizer: PreTrainedTokenizerBase, loaded: Loaded) -> int:
    """Returns `max_seq_length`, lowered to what the tokenizer allows; raises `ValueError` if texts do not fit in."""
    pair = any(TEXTS[1] in part.examples.column_names for parts in loaded.parts.values() for part in parts)
    least = tokenizer.num_special_tokens_to_add(pair=pair) + (2 if pair else 1)
    if args.max_seq_length < least:
        raise ValueError(
            f"--max_seq_length {args.max_seq_length}: must be at least {least}, a token of each text and the special "
            "tokens; 128 is usual"
        )
    if args.max_seq_length > tokenizer.model_max_length:
        logger.warning(
            "--max_seq_length %d is more than the model's %d: using %d",
            *(args.max_seq_length, tokenizer.model_max_length, tokenizer.model_max_length),
        )
    return min(args.max_seq_length, tokenizer.model_max_length)
