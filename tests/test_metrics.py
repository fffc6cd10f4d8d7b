"""The scorers against hand-worked values, brute force, the real sets and the interface of `evaluate`."""

from __future__ import annotations

import random
from pathlib import Path

import evaluate
import pytest
from squad_fixtures import SHARED

from cram_hf.metrics import squad_scores as module
from cram_hf.metrics.squad.squad import SquadMetric
from cram_hf.metrics.squad_scores import normalize, squad_scores, squad_v2_scores, token_f1
from cram_hf.metrics.squad_v2.squad_v2 import SquadV2Metric
from cram_hf.tasks.squad_files import read_squad

METRICS = Path(module.__file__).parent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Old  Mill!", "old mill"),
        ("an apple a day", "apple day"),
        ("U.S.-born", "usborn"),
        ("Theatre", "theatre"),
        ("\u2014the\u2014", "\u2014 \u2014"),  # only ASCII punctuation goes, before the articles
        ("a.", ""),
        ("\u00a0tea\tpot\n", "tea pot"),
    ],
)
def test_normalize_drops_case_punctuation_articles_and_spaces(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_token_f1_counts_repeated_words_once_each() -> None:
    assert token_f1(["x", "x", "y"], ["x", "z"]) == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert token_f1([], []) == 0.0


def test_v1_takes_the_best_gold_and_the_mean_over_questions() -> None:
    golds = {"q1": ["nine", "nine geese"], "q2": ["a baker"], "q3": ["the river"]}
    predictions = {"q1": "Nine geese.", "q2": "the baker of Arden", "q3": "sea"}
    # q1: exact. q2: 1 shared word, precision 1/3, recall 1, F1 1/2. q3: nothing.
    assert squad_scores(predictions, golds) == {"exact_match": pytest.approx(100 / 3), "f1": pytest.approx(50.0)}


def test_v1_keeps_the_official_quirk_that_two_empty_answers_match_but_have_no_f1() -> None:
    assert squad_scores({"q": "The"}, {"q": ["a"]}) == {"exact_match": 100.0, "f1": 0.0}


def test_v1_counts_a_missing_prediction_as_wrong_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    scores = squad_scores({"q1": "tea", "other": "x"}, {"q1": ["tea"], "q2": ["tea"]})
    assert scores == {"exact_match": 50.0, "f1": 50.0}
    assert "1 of 2 questions have no prediction" in caplog.text


def test_questions_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(ValueError, match="there are no questions to score"):
        squad_scores({}, {})
    with pytest.raises(ValueError, match=r"question 'q' has no gold answer.*--version_2_with_negative"):
        squad_scores({"q": "x"}, {"q": []})
    with pytest.raises(ValueError, match="predictions lack 1 of 2 questions, such as 'b'"):
        squad_v2_scores({"a": ""}, {"a": [], "b": []})
    with pytest.raises(ValueError, match="no_answer lack 1 of 1 questions, such as 'a'"):
        squad_v2_scores({"a": ""}, {"a": []}, {})


GOLDS_V2 = {"h1": ["red mill"], "h2": ["two", "two geese"], "n1": [], "n2": []}
PREDICTIONS_V2 = {"h1": "mill", "h2": "two geese", "n1": "", "n2": "a horse"}


def test_v2_scores_answerable_and_unanswerable_questions() -> None:
    assert squad_v2_scores(PREDICTIONS_V2, GOLDS_V2) == {
        "exact": 50.0,
        "f1": pytest.approx(100 * (2 / 3 + 1 + 1) / 4),
        "total": 4,
        "HasAns_exact": 50.0,
        "HasAns_f1": pytest.approx(100 * (2 / 3 + 1) / 2),
        "HasAns_total": 2,
        "NoAns_exact": 50.0,
        "NoAns_f1": 50.0,
        "NoAns_total": 2,
    }


def test_v2_silence_above_the_threshold_replaces_the_prediction() -> None:
    odds = {"h1": 0.9, "h2": 0.1, "n1": 0.2, "n2": 0.8}
    scores = squad_v2_scores(PREDICTIONS_V2, GOLDS_V2, odds, no_answer_threshold=0.5)
    assert scores["exact"] == 75.0  # h1 lost, n2 won
    assert scores["HasAns_f1"] == 50.0
    assert scores["NoAns_f1"] == 100.0


def test_v2_best_thresholds_are_worked_by_hand() -> None:
    # Silence alone: 2 of 4. In the order of the odds: h2 +1 (3), n1 silent (3), n2 -1 (2), h1 +2/3.
    odds = {"h1": 0.9, "h2": 0.1, "n1": 0.2, "n2": 0.8}
    scores = squad_v2_scores(PREDICTIONS_V2, GOLDS_V2, odds)
    assert scores["best_exact"] == 75.0
    assert scores["best_exact_thresh"] == 0.1
    assert scores["best_f1"] == 75.0
    assert scores["best_f1_thresh"] == 0.1


def test_v2_best_threshold_is_zero_where_silence_is_best() -> None:
    scores = squad_v2_scores({"h": "wrong", "n": "wrong"}, {"h": ["right"], "n": []}, {"h": 3.0, "n": 2.0})
    assert scores["best_f1"] == 50.0
    assert scores["best_f1_thresh"] == 0.0


def test_v2_groups_without_questions_are_left_out() -> None:
    scores = squad_v2_scores({"h": "tea"}, {"h": ["tea"]})
    assert "NoAns_f1" not in scores
    assert scores["HasAns_f1"] == 100.0


@pytest.mark.parametrize("seed", range(5))
def test_v2_best_scores_equal_rescoring_at_every_threshold(seed: int) -> None:
    draw = random.Random(seed)
    words = ["tea", "pot", "red", "mill"]
    golds = {f"q{i}": [" ".join(draw.choices(words, k=2))] if draw.random() < 0.5 else [] for i in range(40)}
    predictions = {key: " ".join(draw.choices(words, k=draw.randint(0, 2))) for key in golds}
    odds = {key: draw.uniform(1, 5) for key in golds}
    best = squad_v2_scores(predictions, golds, odds)
    rescored = [squad_v2_scores(predictions, golds, odds, threshold) for threshold in [0.0, *odds.values()]]
    assert best["best_exact"] == pytest.approx(max(scores["exact"] for scores in rescored))
    assert best["best_f1"] == pytest.approx(max(scores["f1"] for scores in rescored))
    at_best = squad_v2_scores(predictions, golds, odds, best["best_f1_thresh"])
    assert at_best["f1"] == pytest.approx(best["best_f1"])


@pytest.fixture(autouse=True)
def _metric_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", tmp_path)
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)


@pytest.mark.parametrize("load", [lambda: evaluate.load(str(METRICS / "squad")), SquadMetric])
def test_the_v1_metric_loads_by_path_and_by_import_and_equals_the_function(load) -> None:
    references = [{"id": "q", "answers": {"text": ["the river"], "answer_start": [5]}}]
    scores = load().compute(predictions=[{"id": "q", "prediction_text": "by the river"}], references=references)
    assert scores == squad_scores({"q": "by the river"}, {"q": ["the river"]})


@pytest.mark.parametrize("load", [lambda: evaluate.load(str(METRICS / "squad_v2")), SquadV2Metric])
def test_the_v2_metric_loads_by_path_and_by_import_and_equals_the_function(load) -> None:
    odds = {"h1": 0.9, "h2": 0.1, "n1": 0.2, "n2": 0.8}
    predictions = [
        {"id": key, "prediction_text": text, "no_answer_probability": odds[key]}
        for key, text in PREDICTIONS_V2.items()
    ]
    references = [
        {"id": key, "answers": {"text": texts, "answer_start": [0] * len(texts)}} for key, texts in GOLDS_V2.items()
    ]
    scores = load().compute(predictions=predictions, references=references, no_answer_threshold=0.5)
    assert scores == squad_v2_scores(PREDICTIONS_V2, GOLDS_V2, odds, 0.5)


def real(name: str):
    if not (SHARED / "squad" / name).is_file():
        pytest.skip(f"needs {SHARED / 'squad' / name}")
    dataset = read_squad(SHARED / "squad" / name)
    return dict(zip(dataset["id"], (answers["text"] for answers in dataset["answers"]), strict=True))


def test_gold_answers_score_100_on_the_real_v1_dev_set() -> None:
    golds = real("dev-v1.1.json")
    assert len(golds) == 10570
    assert squad_scores({key: texts[0] for key, texts in golds.items()}, golds) == {"exact_match": 100.0, "f1": 100.0}


def test_gold_answers_score_100_on_the_real_v2_dev_set() -> None:
    golds = real("dev-v2.0-16articles.json")
    scores = squad_v2_scores({key: texts[0] if texts else "" for key, texts in golds.items()}, golds)
    assert (scores["exact"], scores["f1"], scores["NoAns_total"]) == (100.0, 100.0, 3168)
