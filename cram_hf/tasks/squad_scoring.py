"""Scores the answers a model gives to one set of questions, and writes them to files."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction

from cram_hf.metrics.squad_scores import squad_scores, squad_v2_scores
from cram_hf.tasks.base import Logits
from cram_hf.tasks.squad_arguments import SquadArguments
from cram_hf.tasks.squad_features import Windows
from cram_hf.tasks.squad_spans import SquadAnswers, find_answers


@dataclass(frozen=True)
class SquadScorer:
    """
    Scores and writes the answers to one set of questions.

    Args:
        args ([`SquadArguments`]): how answers are chosen.
        examples (`Dataset`): the questions.
        windows ([`Windows`]): their features, in the order of the questions.
        order (`np.ndarray`): rows of `windows` in the order in which the model gets the features.
        labels (`tuple`): start and end positions of the features, in the model's order.
    """

    args: SquadArguments
    examples: Dataset
    windows: Windows
    order: np.ndarray
    labels: tuple[np.ndarray, np.ndarray]

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Returns the scores of the logits, which must come in the order of the features."""
        self._check_order(prediction.label_ids)
        answers = self.answers(tuple(prediction.predictions))
        golds = dict(zip(self.examples["id"], (row["text"] for row in self.examples["answers"]), strict=True))
        if not self.args.version_2_with_negative:
            return squad_scores(answers.predictions, golds)
        # The official script's rule "no answer above the threshold" makes answers.predictions of best_texts.
        threshold = self.args.null_score_diff_threshold
        return squad_v2_scores(answers.best_texts, golds, answers.null_odds, threshold)

    def answers(self, logits: Logits) -> SquadAnswers:
        """Returns the answers of logits in the order of the features."""
        restored = []
        for values in logits[:2]:
            self._check_number(len(values))
            rows = np.empty_like(values)
            rows[self.order] = values
            restored.append(rows)
        return find_answers(
            self.examples["id"][:],
            self.examples["context"][:],
            self.windows,
            *restored,
            n_best_size=self.args.n_best_size,
            max_answer_length=self.args.max_answer_length,
            version_2_with_negative=self.args.version_2_with_negative,
            null_score_diff_threshold=self.args.null_score_diff_threshold,
        )

    def write_predictions(self, logits: Logits, folder: Path, prefix: str) -> None:
        """
        Writes `{prefix}_predictions.json`, `{prefix}_nbest_predictions.json` and, for v2.0, `{prefix}_null_odds.json`.

        An empty prefix gives `predictions.json` and so on. Files of the same names are replaced.
        """
        answers = self.answers(logits)
        folder.mkdir(parents=True, exist_ok=True)
        start = f"{prefix}_" if prefix else ""
        _write_json(folder / f"{start}predictions.json", answers.predictions)
        _write_json(folder / f"{start}nbest_predictions.json", answers.nbest)
        if self.args.version_2_with_negative:
            _write_json(folder / f"{start}null_odds.json", answers.null_odds)

    def _check_number(self, given: int) -> None:
        """Raises `ValueError` unless there is one prediction a feature."""
        if given != len(self.order):
            raise ValueError(
                f"there are {given} predictions for {len(self.order)} features of {len(self.examples)} questions; "
                "use the features, compute_metrics and write_predictions of one EvalSet together"
            )

    def _check_order(self, labels: Any) -> None:
        """Raises `ValueError` if the labels show that the predictions came in another order than the features."""
        self._check_number(len(labels[0]))
        if not all(np.array_equal(given, known) for given, known in zip(labels, self.labels, strict=True)):
            raise ValueError(
                "the predictions came in another order than the features, but must come in theirs. The plain Trainer "
                "shuffles evaluation with --train_sampling_strategy group_by_length; use CrAMTrainer, or leave it out"
            )


def _write_json(path: Path, content: Any) -> None:
    """Writes the file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
    os.replace(temporary, path)
