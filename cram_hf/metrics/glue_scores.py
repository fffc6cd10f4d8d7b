"""The scores of GLUE's nine tasks, and of classification and regression in general, on scikit-learn and scipy."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

Values = Sequence[float] | np.ndarray


def check_installed() -> None:
    """Raises `ImportError`, saying what to type, unless scikit-learn and scipy are there."""
    try:
        for name in ("sklearn.metrics", "scipy.stats"):
            importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'GLUE\'s scores need scikit-learn and scipy ({error}): pip install "cram-hf[glue]"'
        ) from error


def glue_scores(task: str, predictions: Values, references: Values) -> dict[str, float]:
    """
    Returns the official scores of a task, as fractions: in [0, 1], correlations in [-1, 1].

    `cola`: `matthews_correlation`. `stsb`: `pearson`, `spearmanr` and their mean, `combined_score`. `mrpc`, `qqp`:
    `f1` of label 1, `accuracy` and their mean, `combined_score`. `sst2`, `mnli` (also `mnli_matched`,
    `mnli_mismatched`), `qnli`, `rte`, `wnli`: `accuracy`. For other data, `classification`: `accuracy`; `regression`:
    `pearson`, `spearmanr` and the mean squared error, `mse`.

    A correlation with a constant, which is not defined, is 0: a model that always answers the same knows nothing. So
    is an F1 with neither right nor wrong positives.

    Args:
        task (`str`):
            One of the words above.
        predictions, references (`Sequence[float]` or `np.ndarray`):
            Labels, or scores for `stsb` and `regression`; one each a row.

    Raises:
        ValueError: if the task is unknown, there are no rows, or the two differ in number.

    >>> glue_scores("mrpc", [1, 1, 0, 0], [1, 0, 0, 0])
    {'f1': 0.6666666666666666, 'accuracy': 0.75, 'combined_score': 0.7083333333333333}
    """
    if task not in SCORES:
        raise ValueError(f"there are no scores for the task '{task}'; it must be one of {', '.join(SCORES)}")
    given, wanted = np.asarray(predictions), np.asarray(references)
    if len(given) != len(wanted):
        raise ValueError(f"there are {len(given)} predictions for {len(wanted)} references; give one for each")
    if not len(wanted):
        raise ValueError("there are no rows to score; give at least one")
    scores: dict[str, float] = SCORES[task](given, wanted)
    return scores


def _accuracy(given: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import accuracy_score

    return {"accuracy": float(accuracy_score(wanted, given))}


def _f1(given: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import f1_score

    return _combined({"f1": float(f1_score(wanted, given, zero_division=0.0)), **_accuracy(given, wanted)})


def _matthews(given: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import matthews_corrcoef

    return {"matthews_correlation": float(matthews_corrcoef(wanted, given))}


def _correlations(given: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr

    if np.ptp(given) == 0 or np.ptp(wanted) == 0:
        return {"pearson": 0.0, "spearmanr": 0.0}
    # float32 logits would be summed up in float32.
    pair = given.astype(np.float64), wanted.astype(np.float64)
    return {"pearson": float(pearsonr(*pair).statistic), "spearmanr": float(spearmanr(*pair).statistic)}


def _similarity(given: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    return _combined(_correlations(given, wanted))


def _regression(given: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    squares = (given.astype(np.float64) - wanted.astype(np.float64)) ** 2
    return {**_correlations(given, wanted), "mse": float(squares.mean())}


def _combined(scores: dict[str, float]) -> dict[str, float]:
    """Adds the mean of two scores."""
    return {**scores, "combined_score": float(np.mean(list(scores.values())))}


SCORES: dict[str, Any] = {
    "cola": _matthews,
    "sst2": _accuracy,
    "mrpc": _f1,
    "stsb": _similarity,
    "qqp": _f1,
    "mnli": _accuracy,
    "mnli_matched": _accuracy,
    "mnli_mismatched": _accuracy,
    "qnli": _accuracy,
    "rte": _accuracy,
    "wnli": _accuracy,
    "classification": _accuracy,
    "regression": _regression,
}
