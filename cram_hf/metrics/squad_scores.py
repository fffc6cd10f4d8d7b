"""Exact match and F1 of answers in text, equal to the official SQuAD v1.1 and v2.0 evaluation scripts."""

from __future__ import annotations

import logging
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import compress

import numpy as np

logger = logging.getLogger(__name__)

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """
    Returns the text as the scorers compare it: lower case, no ASCII punctuation, no articles, single spaces.

    >>> normalize("The  U.S. Senate!")
    'us senate'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def token_f1(prediction: list[str], gold: list[str]) -> float:
    """Returns the F1 of two bags of words in [0, 1]: 0 where they share nothing, also where both are empty."""
    shared = sum((Counter(prediction) & Counter(gold)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(gold)
    return 2 * precision * recall / (precision + recall)


def _token_f1_v2(prediction: list[str], gold: list[str]) -> float:
    """Returns `token_f1`, except that two empty answers agree: saying nothing is right if there is no answer."""
    return token_f1(prediction, gold) if prediction and gold else float(prediction == gold)


def _best(prediction: str, golds: Sequence[str], f1: Callable[[list[str], list[str]], float]) -> tuple[float, float]:
    """Returns exact match (0 or 1) and F1, each the best over the gold answers."""
    words = normalize(prediction).split()
    gold_words = [normalize(gold).split() for gold in golds]
    return float(words in gold_words), max(f1(words, gold) for gold in gold_words)


def squad_scores(predictions: Mapping[str, str], golds: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """
    Returns `exact_match` and `f1` of SQuAD v1.1, each the mean over all questions, in [0, 100].

    Args:
        predictions (`Mapping[str, str]`):
            Question id to the predicted text. A question without one counts as wrong and is reported by a warning.
        golds (`Mapping[str, Sequence[str]]`):
            Question id to the accepted texts, at least one each.

    Raises:
        ValueError: if there are no questions, or one of them has no accepted text.

    >>> round(squad_scores({"q": "in Paris"}, {"q": ["Paris", "the city of Rome"]})["f1"], 2)
    66.67
    """
    _check_golds(golds)
    if empty := next((key for key, texts in golds.items() if not texts), None):
        raise ValueError(
            f"question '{empty}' has no gold answer, but SQuAD v1.1 scores need at least one a question; "
            "score sets with unanswerable questions as v2.0 (--version_2_with_negative)"
        )
    missing = len(golds.keys() - predictions.keys())
    if missing:
        logger.warning("%d of %d questions have no prediction: they count as wrong", missing, len(golds))
    scores = [_best(predictions[key], texts, token_f1) for key, texts in golds.items() if key in predictions]
    return {
        "exact_match": 100.0 * sum(exact for exact, _ in scores) / len(golds),
        "f1": 100.0 * sum(f1 for _, f1 in scores) / len(golds),
    }


def squad_v2_scores(
    predictions: Mapping[str, str],
    golds: Mapping[str, Sequence[str]],
    no_answer: Mapping[str, float] | None = None,
    no_answer_threshold: float = 1.0,
) -> dict[str, float]:
    """
    Returns the scores of SQuAD v2.0, in [0, 100], under the official script's keys.

    `exact`, `f1`, `total`; the same over the answerable (`HasAns_`) and the unanswerable (`NoAns_`) questions where
    there are any; and, if `no_answer` is given, `best_exact`, `best_exact_thresh`, `best_f1` and `best_f1_thresh`: the
    scores that the best choice of the threshold would have reached. Their sweep takes the questions one by one in the
    order of `no_answer` (equal values in the order of the mapping), as the official script does; where answering
    nothing at all is best, the threshold is given as 0.

    Args:
        predictions (`Mapping[str, str]`):
            Question id to the predicted text, `""` for "no answer".
        golds (`Mapping[str, Sequence[str]]`):
            Question id to the accepted texts, none for an unanswerable question.
        no_answer (`Mapping[str, float]`, *optional*):
            Question id to how likely it is that there is no answer, on any scale. All 0 if not given.
        no_answer_threshold (`float`, *optional*, defaults to 1.0):
            A question whose `no_answer` is greater counts as answered with "no answer".

    Raises:
        ValueError: if there are no questions, or `predictions` or `no_answer` lack one.
    """
    _check_golds(golds)
    odds = dict.fromkeys(golds, 0.0) if no_answer is None else no_answer
    for name, given in (("predictions", predictions), ("no_answer", odds)):
        if missing := golds.keys() - given.keys():
            raise ValueError(
                f"{name} lack {len(missing)} of {len(golds)} questions, such as '{min(missing)}'; "
                'give every question one, "" for no answer'
            )
    texts = [[text for text in golds[key] if normalize(text)] or [""] for key in golds]
    raw = np.array([_best(predictions[key], gold, _token_f1_v2) for key, gold in zip(golds, texts, strict=True)])
    answerable = np.array([bool(gold) for gold in golds.values()])
    values = np.array([odds[key] for key in golds], dtype=np.float64)
    final = np.where((values > no_answer_threshold)[:, None], ~answerable[:, None], raw)
    scores = _means(final, "")
    for prefix, chosen in (("HasAns_", answerable), ("NoAns_", ~answerable)):
        if chosen.any():
            scores |= _means(final[chosen], prefix)
    if no_answer is not None:
        # Answering an unanswerable question costs the point that silence would have earned.
        loses = np.array([bool(predictions[key]) for key in golds])
        order = _mapping_order(no_answer, golds)
        for column, name in enumerate(("exact", "f1")):
            gains = np.where(answerable, raw[:, column], -loses.astype(np.float64))
            best, threshold = _best_threshold(gains[order], values[order], int((~answerable).sum()))
            scores |= {f"best_{name}": best, f"best_{name}_thresh": threshold}
    return scores


def _check_golds(golds: Mapping[str, Sequence[str]]) -> None:
    """Raises `ValueError` if there is nothing to score."""
    if not golds:
        raise ValueError("there are no questions to score; give at least one gold answer")


def _means(scores: np.ndarray, prefix: str) -> dict[str, float]:
    """Returns the mean exact match and F1 of the rows, in [0, 100], and their number."""
    exact, f1 = 100.0 * scores.mean(axis=0)
    return {f"{prefix}exact": float(exact), f"{prefix}f1": float(f1), f"{prefix}total": len(scores)}


def _mapping_order(no_answer: Mapping[str, float], golds: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Returns the questions' indices sorted by `no_answer`, equal values in the order of that mapping."""
    position = {key: index for index, key in enumerate(golds)}
    keys = list(compress(no_answer, (key in position for key in no_answer)))
    rank = np.argsort([no_answer[key] for key in keys], kind="stable")
    return np.array([position[key] for key in keys])[rank]


def _best_threshold(gains: np.ndarray, values: np.ndarray, silent: int) -> tuple[float, float]:
    """Returns the best mean score in [0, 100] over "answer the first k questions", and the last answered's value."""
    totals = np.cumsum(np.concatenate([[float(silent)], gains]))
    answered = int(np.argmax(totals))
    threshold = float(values[answered - 1]) if answered else 0.0
    return float(100.0 * totals[answered] / len(gains)), threshold
