"""SQuAD v1.1 scores behind the interface of `evaluate`; loads offline by the path of this folder or by import."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from cram_hf.metrics.squad_scores import squad_scores

_DESCRIPTION = "Exact match and F1 of SQuAD v1.1, in [0, 100], equal to the official evaluation script."
_CITATION = "Rajpurkar et al. (2016), SQuAD: 100,000+ Questions for Machine Comprehension of Text."
_INPUTS = """
Args:
    predictions: list of {"id": str, "prediction_text": str}
    references: list of {"id": str, "answers": {"text": list[str], "answer_start": list[int]}}
Returns:
    exact_match, f1: means over the references, in [0, 100]
"""


class SquadMetric(evaluate.Metric):
    """Exact match and F1 of SQuAD v1.1; `cram_hf.metrics.squad_scores.squad_scores` says the rules."""

    def _info(self) -> evaluate.MetricInfo:
        answers = {"text": [datasets.Value("string")], "answer_start": [datasets.Value("int32")]}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": {"id": datasets.Value("string"), "prediction_text": datasets.Value("string")},
                    "references": {"id": datasets.Value("string"), "answers": answers},
                }
            ),
        )

    def _compute(self, predictions: list[dict[str, Any]], references: list[dict[str, Any]]) -> dict[str, float]:
        return squad_scores(
            {row["id"]: row["prediction_text"] for row in predictions},
            {row["id"]: row["answers"]["text"] for row in references},
        )
