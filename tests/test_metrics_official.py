"""The scorers equal the official rules, written out literally in `reference_squad`, on random predictions."""

from __future__ import annotations

import pytest
import reference_squad as official
from compressor_fixtures import thorough
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cram_hf.metrics.squad_scores import normalize, squad_scores, squad_v2_scores

# Articles alone and inside of words, punctuation of ASCII and of Unicode, letters that grow when they are lowered.
PIECES = ["the", "The", "a", "An", "a.", "theatre", "an-", "tea", "Tea", "tea.", "pot", "red", "U.S.", "1,000", "$5"]
PIECES += ["naïve", "ZÜRICH", "İzmir", "東京", "ﬁ", "a\u0301", "the\u2019s", "\u2014the\u2014", "_a_", "...", "½"]
GAPS = [" ", "  ", "\t", "\n", "\u00a0", "\u2003", "", "-", "\u2013"]

many = settings(thorough, max_examples=150)

texts = st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(GAPS)), max_size=5).map(
    lambda found: "".join(piece + gap for piece, gap in found)
)
odds_of_one = st.sampled_from([0.0, 0.1, 0.5, 0.5, 0.9, 1.0, 3.5, -2.0])  # many are equal


@st.composite
def sets(draw, fewest: int) -> tuple[dict[str, str], dict[str, list[str]], dict[str, float]]:
    """Predictions, gold answers and odds of up to 8 questions; half of the predictions resemble a gold answer."""
    golds = {f"q{i}": draw(st.lists(texts, min_size=fewest, max_size=3)) for i in range(draw(st.integers(1, 8)))}
    predictions = {}
    for question, answers in golds.items():
        near = [*answers, *(f"{answer} tea" for answer in answers), ""]
        predictions[question] = draw(st.sampled_from(near) | texts)
    order = draw(st.permutations([*golds, "of another set"]))
    return predictions | {"of another set": "tea"}, golds, {question: draw(odds_of_one) for question in order}


@many
@given(texts | st.text(max_size=20))
@example("a\u0301 the\u2014an")
@example("A")
def test_texts_are_normalised_alike(text):
    assert normalize(text) == official.normalize(text)


@many
@given(sets(fewest=1))
def test_v1(found):
    predictions, golds, _ = found
    assert squad_scores(predictions, golds) == pytest.approx(official.v1(predictions, golds), rel=1e-12)
    del predictions["q0"]
    assert squad_scores(predictions, golds) == pytest.approx(official.v1(predictions, golds), rel=1e-12)


@many
@given(sets(fewest=0), odds_of_one)
def test_v2_at_a_threshold(found, threshold):
    predictions, golds, odds = found
    scores = squad_v2_scores(predictions, golds, odds, threshold)
    without_best = {name: value for name, value in scores.items() if not name.startswith("best_")}
    assert without_best == pytest.approx(official.v2(predictions, golds, odds, threshold), rel=1e-12)


@many
@given(sets(fewest=0))
def test_v2_without_odds(found):
    predictions, golds, _ = found
    expected = official.v2(predictions, golds, dict.fromkeys(golds, 0.0), 1.0)
    assert squad_v2_scores(predictions, golds) == pytest.approx(expected, rel=1e-12)


def one_of_each(text: str, **odds: float) -> tuple[dict[str, str], dict[str, list[str]], dict[str, float]]:
    """A right answer to question h, and this text for question n, which has no answer."""
    return {"h": "tea", "n": text}, {"h": ["tea"], "n": []}, odds


@many
@given(sets(fewest=0))
@example(one_of_each("the", n=0.1, h=0.5))  # an article is an answer here, though it equals none when it is scored
@example(one_of_each("", n=0.1, h=0.5))
@example(one_of_each("pot", h=0.5, n=0.5))
@example(one_of_each("pot", n=0.5, h=0.5))  # of equal odds the first is answered first
def test_v2_best_thresholds_are_the_first_of_the_best_of_all_that_can_be_tried(found):
    predictions, golds, odds = found
    scores = squad_v2_scores(predictions, golds, odds)
    for column, name in enumerate(("exact", "f1")):
        tried = official.swept(predictions, golds, odds, column)
        best = max(score for score, _ in tried)
        thresholds = [threshold for score, threshold in tried if score > best - 1e-9]
        assert scores[f"best_{name}"] == pytest.approx(best, abs=1e-9)
        assert scores[f"best_{name}_thresh"] in (thresholds[:1] if name == "exact" else thresholds)  # F1 is rounded
