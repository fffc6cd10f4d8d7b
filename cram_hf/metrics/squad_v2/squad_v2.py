"""SQuAD v2.0 scores behind the interface of `evaluate`; loads offline by the path of this folder or by import."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from cram_hf.metrics.squad_scores import squad_v2_scores

_DESCRIPTION = "Exact match and F1 of SQuAD v2.0, in [0, 100], equal to the official evaluation script."
_CITATION = "Rajpurkar et al. (2018), Know What You Don't Know: Unanswerable Questions for SQuAD."
_INPUTS = """
Args:
    predictions: list of {"id": str, "prediction_text": str, "no_answer_probability": float}
    references: list of {"id": str, "answers": {"text": list[str], "answer_start": list[int]}}
    no_answer_threshold: a question whose no_answer_probability is greater counts as answered with "no answer"
Returns:
    exact, f1, total, and the same with HasAns_ and NoAns_ where there are such questions;
    best_exact, best_exact_thresh, best_f1, best_f1_thresh over all thresholds
"""


class SquadV2Metric(evaluate.Metric):
    """Scores of SQuAD v2.0; `cram_hf.metrics.squad_scores.squad_v2_scores` says the rules."""

    def _info(self) -> evaluate.MetricInfo:
        answers = {"text": [datasets.Value("string")], "answer_start": [datasets.Value("int32")]}
        prediction = {
            "id": datasets.Value("string"),
            "prediction_text": datasets.Value("string"),
            "no_answer_probability": datasets.Value("float64"),
        }
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": prediction, "references": {"id": datasets.Value("string"), "answers": answers}}
            ),
        )

    def _compute(
        self, predictions: list[dict[str, Any]], references: list[dict[str, Any]], no_answer_threshold: float = 1.0
    ) -> dict[str, float]:
        return squad_v2_scores(
            {row["id"]: row["prediction_text"] for row in predictions},
            {row["id"]: row["answers"]["text"] for row in references},
            {row["id"]: row["no_answer_probability"] for row in predictions},
            no_answer_threshold,
        )
