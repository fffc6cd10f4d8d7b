"""What a task is: the one interface between a kind of data (such as SQuAD) and the code that trains on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from datasets import Dataset, IterableDataset
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainingArguments,
)

Logits = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class EvalSet:
    """
    One set a model can be evaluated on.

    Args:
        features (`Dataset`):
            What the model takes, one row a forward pass. Contains label columns, so that the Trainer computes metrics.
        compute_metrics (`Callable`):
            Maps an `EvalPrediction` in the order of `features` to scores without a prefix, such as `{"f1": 88.1}`.
        write_predictions (`Callable`):
            Writes the prediction files of these logits, in the order of `features`, into a folder under a prefix.
        examples (`int`):
            Number of questions (or sentences) behind the features.
    """

    features: Dataset
    compute_metrics: Callable[[EvalPrediction], dict[str, float]]
    write_predictions: Callable[[Any, Path, str], None]
    examples: int


@dataclass(frozen=True)
class TaskData:
    """
    Everything a run needs from its data; a set that was not asked for is `None`.

    Args:
        train (`Dataset` or `IterableDataset`, *optional*):
            Training features, with a column `length` (tokens) for sampling by length.
        interim (`EvalSet`, *optional*):
            The set for evaluations during training: a fixed sample, or `evaluation` itself.
        evaluation (`EvalSet`, *optional*):
            The whole evaluation set, for the end.
        predict (`EvalSet`, *optional*):
            A test set, for predictions only.
        collator (`Callable`):
            Makes a batch of tensors from a list of rows.
        report (`dict`):
            Where the data came from and how much there is, for the results file.
        task (`str`):
            The task's word in the results file, such as `squad` or `rte`.
        main_metric (`str`):
            The score shown first and drawn in pictures, without a prefix.
        model_config (`dict`):
            What these data ask of the model's configuration, such as `num_labels` and `id2label`.
        preprocess_logits (`Callable`, *optional*):
            Reduces a batch's logits, given them and the labels, to what `compute_metrics` needs.
        prepare_model (`Callable`, *optional*):
            Called with the loaded model before training; its parameters stay as they are.
        callbacks (`Sequence[TrainerCallback]`, *optional*):
            What the trainer has to call.
    """

    train: Dataset | IterableDataset | None
    interim: EvalSet | None
    evaluation: EvalSet | None
    predict: EvalSet | None
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]]
    report: dict[str, Any] = field(default_factory=dict)
    _: KW_ONLY
    task: str
    main_metric: str
    model_config: dict[str, Any] = field(default_factory=dict)
    preprocess_logits: Callable[[Any, Any], Any] | None = None
    prepare_model: Callable[[PreTrainedModel], Any] | None = None
    callbacks: Sequence[TrainerCallback] = ()


class Task(Protocol):
    """
    A kind of data: its flags and its model head.

    Attributes:
        name (`str`): the task's word, as in `run_squad.py`.
        Arguments (`type`): dataclass of the task's flags.
        auto_class (`Any`): the `AutoModelFor...` class whose head the task trains.
        pipeline_tag (`str`): the Hub's word for the task, such as `question-answering`.
    """

    name: str
    Arguments: Any
    auto_class: Any
    pipeline_tag: str

    def train_tokenizer(self, task_args: Any, named: str | None) -> PreTrainedTokenizerBase | None:
        """Returns a tokenizer made from the training text where the flags ask for one, else `None`.

        Raises `ValueError` if they ask for one although `named`, a tokenizer or a model that has one, is given.
        """
        ...

    def prepare(
        self, task_args: Any, tokenizer: PreTrainedTokenizerBase, training_args: TrainingArguments
    ) -> TaskData:
        """Returns the data of one run, as the flags say. Raises `ValueError` or `OSError` on a user's mistake."""
        ...
