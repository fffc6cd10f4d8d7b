"""The task of masked language modelling: from text to training rows and an evaluation set with fixed masks."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from torch import nn
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from cram_hf.tasks.base import TaskData
from cram_hf.tasks.mlm_arguments import MlmArguments
from cram_hf.tasks.mlm_features import frame_of
from cram_hf.tasks.mlm_head import predict_masked_only
from cram_hf.tasks.mlm_masking import masking_of
from cram_hf.tasks.mlm_scoring import reduce_logits
from cram_hf.tasks.mlm_sets import MlmSets
from cram_hf.tasks.mlm_sources import load_texts
from cram_hf.tasks.mlm_tokenizer import train_wordpiece

logger = logging.getLogger(__name__)

LONGEST = 1024  # tokens of a row unless the user asks for more: some tokenizers name no limit
VOCABULARY = 30522  # of BERT


class MaskedLM:
    """
    Masked language modelling, from a checkpoint or from scratch.

    Scores: `perplexity`, the exponential of the mean negative log-likelihood of the masked tokens, and `accuracy`, the
    share of them that the model ranks first. The masked positions are the same in every evaluation.
    """

    name = "mlm"
    Arguments = MlmArguments
    auto_class = AutoModelForMaskedLM
    pipeline_tag = "fill-mask"

    def train_tokenizer(self, task_args: MlmArguments, named: str | None) -> PreTrainedTokenizerBase | None:
        """
        Returns a WordPiece tokenizer made from the training text if `--train_tokenizer` asks for one.

        Raises:
            ValueError: if there is no text, `--vocab_size` is too small for it, or there is a tokenizer already.
            OSError: if a file cannot be read.
        """
        if not task_args.train_tokenizer:
            return None
        if named:
            raise ValueError(
                f"--train_tokenizer makes a tokenizer, but {named} has one; leave one of the two out (a new tokenizer "
                "needs a model from scratch, --model_type bert)"
            )
        found = load_texts(task_args, "train")
        size = VOCABULARY if task_args.vocab_size is None else task_args.vocab_size
        tokenizer = train_wordpiece(
            lambda: (row["text"] for row in found.rows), size, found.source, max(512, task_args.max_seq_length or 0)
        )
        logger.info("Made a WordPiece tokenizer of %d tokens from %s", len(tokenizer), found.source)
        return tokenizer

    def prepare(
        self, task_args: MlmArguments, tokenizer: PreTrainedTokenizerBase, training_args: TrainingArguments
    ) -> TaskData:
        """
        Returns the sets that `--do_train` and `--do_eval` need.

        With whole-word masking `training_args.remove_unused_columns` is turned off, since the collator needs a column
        that no model takes.

        Raises:
            ValueError: if text is missing, malformed or does not fit the flags or the tokenizer.
            OSError: if a file cannot be read.
        """
        problems = _problems(task_args, tokenizer, training_args)
        if problems:
            raise ValueError("\n".join(problems))
        frame = frame_of(tokenizer, _sequence_length(task_args, tokenizer))
        masking = masking_of(tokenizer, task_args.mlm_probability)
        if task_args.whole_word_mask:
            training_args.remove_unused_columns = False
        sets = MlmSets(task_args, tokenizer, training_args, frame, masking)
        report: dict[str, Any] = {}
        train = sets.train_rows(report) if training_args.do_train else None
        evaluation = sets.eval_set(report) if training_args.do_eval else None
        longest = sets.longest(*(rows for rows in (train, evaluation and evaluation.features) if rows is not None))
        config: dict[str, Any] = {}
        if task_args.train_tokenizer:
            config = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
            report["tokenizer"] = {"trained": True, "tokens": len(tokenizer)}
        collator = sets.collator()
        return TaskData(
            train,
            evaluation,
            evaluation,
            None,
            collator,
            report,
            task=self.name,
            main_metric="perplexity",
            model_config=config,
            preprocess_logits=reduce_logits,
            prepare_model=partial(_make_ready, longest=longest),
            callbacks=[collator],
        )


def _make_ready(model: PreTrainedModel, longest: int) -> None:
    """Spares the vocabulary head what it need not compute. Raises `ValueError` if the model takes no row so long.

    RoBERTa and its kin number positions from the padding token's id + 1, so they take fewer tokens than they have
    positions.
    """
    for name, table in model.named_modules():
        if name.endswith(".position_embeddings") and isinstance(table, nn.Embedding):
            unused = 0 if table.padding_idx is None else table.padding_idx + 1
            limit = table.num_embeddings - unused
            if longest > limit:
                raise ValueError(
                    f"{type(model).__name__} takes at most {limit} tokens, but rows have {longest}. Type "
                    f"--max_seq_length {limit}, or for a model from scratch --config_overrides "
                    f"max_position_embeddings={longest + unused}."
                )
    predict_masked_only(model)


def _problems(
    task_args: MlmArguments, tokenizer: PreTrainedTokenizerBase, training_args: TrainingArguments
) -> list[str]:
    """Returns a sentence for everything that does not go together in the flags of the task and of the training."""
    problems = []
    if training_args.do_predict:
        problems.append("--do_predict: a masked language model has no predictions to write; leave it out")
    if task_args.streaming and training_args.do_train and training_args.max_steps < 1:
        problems.append("--streaming needs --max_steps: a stream has no length; type e.g. --max_steps 10000")
    bounded = task_args.max_eval_samples is not None or task_args.validation_file is not None
    if task_args.streaming and training_args.do_eval and not bounded:
        problems.append(
            "--streaming with --do_eval reads the evaluation set into memory: bound it with --max_eval_samples, "
            "or give a --validation_file"
        )
    if task_args.whole_word_mask and not tokenizer.is_fast:
        problems.append(
            f"--whole_word_mask: {type(tokenizer).__name__} is not a fast tokenizer and does not tell words; "
            "give a model or --tokenizer_name that has a tokenizer.json"
        )
    best = training_args.metric_for_best_model or ""
    if best.endswith("perplexity") and training_args.greater_is_better:  # the Trainer takes it for a gain
        problems.append(f"--metric_for_best_model {best}: a lower perplexity is better; add --greater_is_better false")
    length, limit = task_args.max_seq_length, tokenizer.model_max_length
    if length is not None and length > limit:
        problems.append(f"--max_seq_length {length}: the model takes at most {limit} tokens; give {limit} or less")
    return problems


def _sequence_length(task_args: MlmArguments, tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns the tokens of a row: as asked for, or what the tokenizer allows, at most 1024."""
    if task_args.max_seq_length is not None:
        return task_args.max_seq_length
    length = min(tokenizer.model_max_length, LONGEST)
    logger.info("--max_seq_length is not given: rows have %d tokens", length)
    return length
