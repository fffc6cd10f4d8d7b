"""Finds the best answer spans of all questions at once, as arrays: the fast half of post-processing."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from cram_hf.tasks.squad_features import NO_TOKEN, Windows

logger = logging.getLogger(__name__)

_CHUNK = 2048
_LOW_32_BITS = np.uint64(0xFFFFFFFF)
_EXTREME = float(np.finfo(np.float32).max) / 4  # two of them still add up to a finite number


@dataclass(frozen=True)
class Spans:
    """Candidate answers, one entry of each array a span, sorted by question and then from best to worst."""

    question: np.ndarray
    first: np.ndarray
    stop: np.ndarray
    start_logit: np.ndarray
    end_logit: np.ndarray


def clean_logits(logits: np.ndarray, windows: Windows, name: str) -> np.ndarray:
    """
    Returns a float32 copy as wide as the longest feature: -inf where there is no token, finite elsewhere.

    Raises:
        ValueError: if there is not one row a feature, or they are narrower than the longest feature.
    """
    features, width = windows.offsets.shape[:2]
    if logits.ndim != 2 or len(logits) != features or logits.shape[1] < width:
        raise ValueError(
            f"the {name} logits have the shape {logits.shape}, but there are {features} features of up to {width} "
            "tokens; give the predictions of exactly these features"
        )
    clean = logits[:, :width].astype(np.float32)
    inside = windows.offsets[:, :, 0] != NO_TOKEN
    if bad := int((~np.isfinite(clean[inside])).sum()):
        logger.warning("%d %s logits are not finite: the model has probably diverged", bad, name)
    clean = np.nan_to_num(clean, nan=-_EXTREME, posinf=_EXTREME, neginf=-_EXTREME)
    clean[~inside] = -np.inf
    return clean


def _top(values: np.ndarray, count: int) -> np.ndarray:
    """Returns the positions of each row's `count` highest values, best first, the earlier of equal ones first."""
    width = values.shape[1]
    count = min(count, width)
    # One sortable integer a value: its bits in ascending order (adding 0 makes -0 equal to 0), then its position.
    bits = (values + np.float32(0)).view(np.uint32)
    bits = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    keys = (bits << np.uint64(32)) | (_LOW_32_BITS - np.arange(width, dtype=np.uint64))
    best = np.sort(np.partition(keys, width - count, axis=1)[:, width - count :], axis=1)[:, ::-1]
    positions: np.ndarray = (_LOW_32_BITS - (best & _LOW_32_BITS)).astype(np.int64)
    return positions


def candidates(windows: Windows, start: np.ndarray, end: np.ndarray, n_best: int, longest: int) -> Spans:
    """Returns at least the `n_best` best spans of each question that has so many, in tie order."""
    parts = []
    for begin in range(0, len(start), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        parts.append(_chunk_candidates(windows, rows, start[rows], end[rows], n_best, longest))
    spans = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.lexsort((-(spans[3] + spans[4]), spans[0]))  # stable: equal scores keep the order of features
    return Spans(*(column[order] for column in spans))


def _chunk_candidates(
    windows: Windows, rows: slice, start: np.ndarray, end: np.ndarray, n_best: int, longest: int
) -> tuple[np.ndarray, ...]:
    """Returns the columns of `Spans` for some features, from the first feature to the last and best first in each."""
    first, last = _top(start, n_best), _top(end, n_best)
    start_logit, end_logit = np.take_along_axis(start, first, 1), np.take_along_axis(end, last, 1)
    begins = np.take_along_axis(windows.offsets[rows, :, 0], first, 1)
    stops = np.take_along_axis(windows.offsets[rows, :, 1], last, 1)
    tokens = last[:, None, :] - first[:, :, None] + 1
    valid = (tokens >= 1) & (tokens <= longest) & (begins >= 0)[:, :, None] & (stops >= 0)[:, None, :]
    scores = np.where(valid, start_logit[:, :, None] + end_logit[:, None, :], np.float32(-np.inf))
    scores = scores.reshape(len(start), -1)
    best = _top(scores, n_best)
    feature, rank = np.nonzero(np.take_along_axis(scores, best, 1) > -np.inf)
    from_start, to_end = np.divmod(best[feature, rank], last.shape[1])
    return (
        windows.example[rows][feature],
        begins[feature, from_start],
        stops[feature, to_end],
        start_logit[feature, from_start],
        end_logit[feature, to_end],
    )


def lowest_nulls(questions: int, windows: Windows, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Returns the logits at `[CLS]` (questions, 2) of each question's feature where their sum is lowest."""
    rows = np.arange(len(start))
    logits = np.stack([start[rows, windows.null], end[rows, windows.null]], axis=1)
    order = np.lexsort((logits.sum(axis=1), windows.example))
    return logits[order[np.searchsorted(windows.example, np.arange(questions))]]
