"""Turns start and end logits of many features into answers, n-best lists and no-answer odds, all questions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cram_hf.tasks.squad_candidates import Spans, candidates, clean_logits, lowest_nulls
from cram_hf.tasks.squad_features import Windows


@dataclass(frozen=True)
class SquadAnswers:
    """
    The answers to all questions, each a mapping from question id in the order of the questions.

    Args:
        predictions (`dict[str, str]`):
            The answer; `""` for "no answer" (v2.0 only).
        nbest (`dict[str, list[dict]]`):
            The best spans, best first: `text`, `start_logit`, `end_logit`, `probability` (softmax over the list).
        null_odds (`dict[str, float]`):
            v2.0: score of "no answer" minus score of the best span with text; greater means rather no answer. Empty
            for v1.1.
        best_texts (`dict[str, str]`):
            The best span with text, whatever the odds.
    """

    predictions: dict[str, str]
    nbest: dict[str, list[dict[str, Any]]]
    null_odds: dict[str, float]
    best_texts: dict[str, str]


def find_answers(
    ids: Sequence[str],
    contexts: Sequence[str],
    windows: Windows,
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    *,
    n_best_size: int = 20,
    max_answer_length: int = 30,
    version_2_with_negative: bool = False,
    null_score_diff_threshold: float = 0.0,
) -> SquadAnswers:
    """
    Returns the answers to the questions, with the semantics of Hugging Face's `postprocess_qa_predictions`.

    In each feature the `n_best_size` highest start and end logits are paired; pairs of context tokens, in order and at
    most `max_answer_length` tokens long, are candidates, with the sum of the two logits (float32) as score. The
    `n_best_size` best over all features of a question make its list. v2.0 adds "no answer", scored by the lowest sum
    of the two logits at `[CLS]` over the features (as one entry more if it is not among the best), and predicts it
    where its odds exceed `null_score_diff_threshold`. A question without a candidate gets the text `empty`, score 0.

    Ties: of equal logits, the earlier token; of equal scores, the earlier feature, then the higher start logit, then
    the higher end logit, and "no answer" last. Padding takes no place among the n best. NaN and infinite logits count
    as very low (positive infinity: very high) finite ones, with a warning. Nothing is mutated.

    Args:
        windows ([`Windows`]):
            The features; feature `i` belongs to question `windows.example[i]`.
        start_logits, end_logits (`np.ndarray` of shape `(features, width)`):
            In the order of `windows`; columns beyond the longest feature are not read.

    Raises:
        ValueError: if the logits do not have one row a feature, or are narrower than the longest feature.
    """
    start, end = clean_logits(start_logits, windows, "start"), clean_logits(end_logits, windows, "end")
    spans = candidates(windows, start, end, n_best_size, max_answer_length)
    bounds = np.searchsorted(spans.question, np.arange(len(ids) + 1))
    stops = np.minimum(bounds[1:], bounds[:-1] + n_best_size)
    nulls = lowest_nulls(len(ids), windows, start, end) if version_2_with_negative else None
    answers = SquadAnswers({}, {}, {}, {})
    for index, key in enumerate(ids):
        rows = _rows(spans, slice(bounds[index], stops[index]), contexts[index])
        if nulls is not None:
            rows = _with_null(rows, nulls[index], n_best_size)
        best = next((row for row in rows if row["text"]), None)
        if best is None:
            best = {"text": "empty", "start_logit": 0.0, "end_logit": 0.0}
            rows.insert(0, best)
        answers.nbest[key] = _with_probabilities(rows)
        answers.best_texts[key] = best["text"]
        answers.predictions[key] = rows[0]["text"]
        if nulls is not None:
            odds = float(
                np.float32(nulls[index].sum()) - np.float32(best["start_logit"]) - np.float32(best["end_logit"])
            )
            answers.null_odds[key] = odds
            answers.predictions[key] = "" if odds > null_score_diff_threshold else best["text"]
    return answers


def _rows(spans: Spans, cut: slice, context: str) -> list[dict[str, Any]]:
    """Returns n-best entries, without probabilities."""
    columns = (spans.first[cut], spans.stop[cut], spans.start_logit[cut], spans.end_logit[cut])
    return [
        {"text": context[first:stop], "start_logit": start_logit, "end_logit": end_logit}
        for first, stop, start_logit, end_logit in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _with_null(rows: list[dict[str, Any]], null: np.ndarray, n_best: int) -> list[dict[str, Any]]:
    """Returns the list with "no answer" in its place: behind better and equal spans, and never left out."""
    score = np.float32(null.sum())
    better = sum(bool(np.float32(row["start_logit"]) + np.float32(row["end_logit"]) >= score) for row in rows)
    entry = {"text": "", "start_logit": float(null[0]), "end_logit": float(null[1])}
    listed = [*rows[:better], entry, *rows[better:]]
    return listed[: n_best + (better >= n_best)]


def _with_probabilities(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows with `probability`, the softmax of their scores, added to each (in place)."""
    scores = np.array([np.float32(row["start_logit"]) + np.float32(row["end_logit"]) for row in rows], np.float64)
    weights = np.exp(scores - scores.max())
    for row, probability in zip(rows, (weights / weights.sum()).tolist(), strict=True):
        row["probability"] = probability
    return rows
