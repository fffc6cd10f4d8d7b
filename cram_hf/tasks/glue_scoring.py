"""Scores the logits a model gives to one set of rows, and writes them as predictions in GLUE's format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import EvalPrediction

from cram_hf.metrics.glue_scores import glue_scores
from cram_hf.tasks.glue_predictions import predictions_file, write_files
from cram_hf.tasks.glue_tasks import Target


@dataclass(frozen=True)
class GlueScorer:
    """
    Scores and writes the predictions for one set, which may be two or three files one after the other.

    Args:
        target ([`Target`]): what is predicted.
        names (`tuple[str, ...]`): names of the files of predictions, one a file of the set.
        sizes (`tuple[int, ...]`): rows of each.
        order (`np.ndarray`): rows of the set in the order in which the model gets them.
        labels (`np.ndarray`, *optional*): labels in the model's order; `None` for rows to predict.
    """

    target: Target
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    order: np.ndarray
    labels: np.ndarray | None

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Returns the scores of logits in the model's order; those of MNLI's mismatched set end in `_mm`."""
        known = self.labels
        assert known is not None  # without labels the Trainer computes no metrics
        self._check_order(prediction.label_ids, known)
        scores: dict[str, float] = {}
        pieces = zip(self.predictions(prediction.predictions), self._by_file(known), strict=True)
        for number, (given, wanted) in enumerate(pieces):
            found = glue_scores(self.target.task, given, wanted)
            scores |= {f"{name}_mm" if number else name: value for name, value in found.items()}
        return scores

    def predictions(self, logits: Any) -> list[np.ndarray]:
        """Returns the label (its place) or the score of each row, for each file of the set in its order."""
        # Some models give more than the logits, such as hidden states.
        values = np.asarray(logits[0] if isinstance(logits, tuple) else logits)
        self._check_number(len(values))
        return self._by_file(values.argmax(axis=1) if self.target.labels else values[:, 0])

    def write_predictions(self, logits: Any, folder: Path, prefix: str) -> None:
        """
        Writes the predictions of logits in the model's order, one file of lines `index<TAB>prediction` each.

        Test sets of GLUE get the names that GLUE's server asks for, such as `MNLI-m.tsv`; all others carry the prefix:
        `eval_RTE.tsv`, `predict_predictions.tsv`. Files of the same names are replaced.
        """
        files = {}
        for name, given in zip(self.names, self.predictions(logits), strict=True):
            official = prefix == "predict" and name != "predictions"
            start = f"{prefix}_" if prefix and not official else ""
            files[f"{start}{name}.tsv"] = predictions_file(given, self.target)
        write_files(folder, files)

    def _by_file(self, values: np.ndarray) -> list[np.ndarray]:
        """Returns values in the model's order in that of the set, cut into its files."""
        rows = np.empty_like(values)
        rows[self.order] = values
        return np.split(rows, np.cumsum(self.sizes)[:-1])

    def _check_number(self, given: int) -> None:
        """Raises `ValueError` unless there is one prediction a row."""
        if given != len(self.order):
            raise ValueError(
                f"there are {given} predictions for {len(self.order)} rows; "
                "use the features, compute_metrics and write_predictions of one EvalSet together"
            )

    def _check_order(self, labels: Any, known: np.ndarray) -> None:
        """Raises `ValueError` if the labels show that the predictions came in another order than the features."""
        self._check_number(len(labels))
        if not np.allclose(labels, known):
            raise ValueError(
                "the predictions came in another order than the features, but must come in theirs. The plain Trainer "
                "shuffles evaluation with --train_sampling_strategy group_by_length; use CrAMTrainer, or leave it out"
            )
