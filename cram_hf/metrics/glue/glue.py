"""GLUE's scores behind the interface of `evaluate`; loads offline by the path of this folder or by import."""

from __future__ import annotations

import datasets
import evaluate

from cram_hf.metrics.glue_scores import SCORES, glue_scores

_DESCRIPTION = "The official scores of GLUE's nine tasks; the configuration is the task: cola, sst2, ..., wnli."
_CITATION = (
    "Wang et al. (2019), GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding."
)
_INPUTS = """
Args:
    predictions: list of int (float for stsb and regression)
    references: list of int (float for stsb and regression)
Returns:
    the task's scores as fractions, such as accuracy, f1, matthews_correlation, pearson, spearmanr
"""


class GlueMetric(evaluate.Metric):
    """The scores of one task; `cram_hf.metrics.glue_scores.glue_scores` says the rules."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in SCORES:
            raise ValueError(
                f"the metric glue has no configuration '{self.config_name}'; give the task as the second argument, "
                f"one of {', '.join(SCORES)}"
            )
        value = datasets.Value("float64" if self.config_name in ("stsb", "regression") else "int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": value, "references": value}),
        )

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
        return glue_scores(self.config_name, predictions, references)
