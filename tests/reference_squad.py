"""The rules of the official SQuAD evaluation, v1.1 and v2.0, literally and slowly: the oracle of the scorers.

Words are found character by character, shared words crossed off one by one, and every threshold is tried by scoring
all questions anew.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

Scores = dict[str, float]


def normalize(text: str) -> str:
    """Lower case; then no ASCII punctuation; then a space for each article that stands alone; then single spaces."""
    kept = "".join(ch for ch in text.lower() if ch not in string.punctuation)
    out, i = "", 0
    while i < len(kept):
        for article in ("a", "an", "the"):
            after = kept[i + len(article) : i + len(article) + 1]
            if kept.startswith(article, i) and not kept[:i][-1:].isalnum() and not after.isalnum():
                out, i = out + " ", i + len(article)
                break
        else:
            out, i = out + kept[i], i + 1
    return " ".join(out.split())


def f1(prediction: str, gold: str, *, version_2: bool) -> float:
    """Harmonic mean of precision and recall of words; a word counts as often as both have it."""
    words, left = normalize(prediction).split(), normalize(gold).split()
    if version_2 and (not words or not left):
        return float(words == left)
    total, shared = len(left), 0
    for word in words:
        if word in left:
            left.remove(word)
            shared += 1
    if shared == 0:
        return 0.0
    precision, recall = shared / len(words), shared / total
    return 2 * precision * recall / (precision + recall)


def exact(prediction: str, gold: str) -> float:
    return float(normalize(prediction) == normalize(gold))


def v1(predictions: dict[str, str], golds: dict[str, Sequence[str]]) -> Scores:
    """Each question scores as the best of its gold answers, 0 without a prediction; the mean of all, times 100."""
    found = {"exact_match": 0.0, "f1": 0.0}
    for question, answers in golds.items():
        if question in predictions:
            found["exact_match"] += max(exact(predictions[question], gold) for gold in answers)
            found["f1"] += max(f1(predictions[question], gold, version_2=False) for gold in answers)
    return {name: 100 * value / len(golds) for name, value in found.items()}


def v2(
    predictions: dict[str, str], golds: dict[str, Sequence[str]], odds: dict[str, float], threshold: float
) -> Scores:
    """The scores with "no answer" wherever the odds are above the threshold, of all questions and of both kinds."""
    raw = raw_v2(predictions, golds)
    kinds = {"": list(golds), "HasAns_": [q for q in golds if golds[q]], "NoAns_": [q for q in golds if not golds[q]]}
    found: Scores = {}
    for prefix, questions in kinds.items():
        for column, name in enumerate(("exact", "f1")):
            points = [float(not golds[q]) if odds[q] > threshold else raw[q][column] for q in questions]
            if questions:
                found[prefix + name] = 100 * sum(points) / len(points)
        if questions:
            found[f"{prefix}total"] = len(questions)
    return found


def raw_v2(predictions: dict[str, str], golds: dict[str, Sequence[str]]) -> dict[str, tuple[float, float]]:
    """Question -> exact match and F1; gold answers of nothing but articles and punctuation do not count."""
    found = {}
    for question, answers in golds.items():
        usable = [answer for answer in answers if normalize(answer)] or [""]
        text = predictions[question]
        found[question] = (
            max(exact(text, gold) for gold in usable),
            max(f1(text, gold, version_2=True) for gold in usable),
        )
    return found


def swept(
    predictions: dict[str, str], golds: dict[str, Sequence[str]], odds: dict[str, float], column: int
) -> list[tuple[float, float]]:
    """(score, threshold) of answering the first k questions by their odds, for every k from 0, at which it is 0.

    Answering costs the point that silence earns at an unanswerable question, whatever the text is, unless it is "".
    """
    raw = raw_v2(predictions, golds)
    order = sorted((q for q in odds if q in golds), key=odds.__getitem__)  # equal odds: as they were given
    tried = []
    for k in range(len(order) + 1):
        points = 0.0
        for place, question in enumerate(order):
            if golds[question]:
                points += raw[question][column] if place < k else 0.0
            else:
                points += 0.0 if place < k and predictions[question] else 1.0
        tried.append((100 * points / len(golds), odds[order[k - 1]] if k else 0.0))
    return tried
