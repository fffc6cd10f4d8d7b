"""Finds answers whose offset does not match the context, and repairs them for training."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from cram_hf.tasks.squad_records import FEATURES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alignment:
    """
    What was found, and done, about answers whose text does not stand at their offset.

    Args:
        misaligned (`int`): number of such answers.
        realigned (`int`): those moved to the one place where their text occurs in the context.
        dropped (`int`): those taken out, because their text occurs nowhere or more than once.
        dropped_questions (`int`): questions taken out with their last answer.
    """

    misaligned: int = 0
    realigned: int = 0
    dropped: int = 0
    dropped_questions: int = 0


def align_answers(dataset: Dataset, source: str, *, repair: bool) -> tuple[Dataset, Alignment]:
    """
    Returns the questions with answers that match their contexts, and a count of those that did not.

    An answer matches if `context[start : start + len(text)] == text`. With `repair` (training) a wrong one is moved to
    where its text occurs, if that is exactly one place, and dropped otherwise; a question that loses all its answers
    is dropped too, for it must not pass for an unanswerable one. Without (evaluation) nothing changes: the scores
    compare texts only. Misaligned answers are logged as one warning with the first as an example. `dataset` itself
    is not changed.
    """
    rows = dataset[:]
    found = fixed = dropped = 0
    example = ""
    kept: list[int] = []
    answers: list[dict[str, list[Any]]] = []
    for index, (context, given) in enumerate(zip(rows["context"], rows["answers"], strict=True)):
        pairs = []
        for text, start in zip(given["text"], given["answer_start"], strict=True):
            if context[start : start + len(text)] == text:
                pairs.append((text, start))
                continue
            found += 1
            example = example or (
                f"question '{rows['id'][index]}' has the answer {text!r:.60} at {start}, "
                f"where the context says {context[start : start + len(text)]!r:.60}"
            )
            place = _only_place(context, text)
            fixed, dropped = fixed + (place is not None), dropped + (place is None)
            if place is not None:
                pairs.append((text, place))
        if pairs or not given["text"]:
            kept.append(index)
            answers.append({"text": [text for text, _ in pairs], "answer_start": [start for _, start in pairs]})
    if not found:
        return dataset, Alignment()
    if not repair:
        logger.warning("%s: %d answers are not at their offset: %s. Scores are not affected.", source, found, example)
        return dataset, Alignment(misaligned=found)
    lost = len(dataset) - len(kept)
    logger.warning(
        "%s: %d answers are not at their offset: %d moved to the only place of their text, %d dropped, and with them "
        "%d questions. The first: %s",
        *(source, found, fixed, dropped, lost, example),
    )
    columns = {name: [rows[name][index] for index in kept] for name in FEATURES if name != "answers"}
    repaired = Dataset.from_dict({**columns, "answers": answers}, features=FEATURES)
    return repaired, Alignment(found, fixed, dropped, lost)


def _only_place(context: str, text: str) -> int | None:
    """Returns where the text occurs in the context, if exactly once (overlaps count)."""
    first = context.find(text)
    return first if first >= 0 and context.find(text, first + 1) < 0 else None
