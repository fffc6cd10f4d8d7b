"""GLUE's scores against hand-worked values, against formulas written out, and behind the interface of `evaluate`."""

from __future__ import annotations

import builtins
import importlib
import math
import random
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest

from cram_hf.metrics import glue_scores as module
from cram_hf.metrics.glue.glue import GlueMetric
from cram_hf.metrics.glue_scores import SCORES, check_installed, glue_scores

METRICS = Path(module.__file__).parent

# 3 true positives, 1 false positive, 2 true negatives, 2 false negatives.
WANTED = [1, 1, 1, 1, 1, 0, 0, 0]
GIVEN = [1, 1, 1, 0, 0, 1, 0, 0]


@pytest.mark.parametrize(
    "task", ["sst2", "mnli", "mnli_matched", "mnli_mismatched", "qnli", "rte", "wnli", "classification"]
)
def test_accuracy_is_the_share_of_equal_labels(task: str) -> None:
    assert glue_scores(task, [2, 0, 1, 1], [2, 0, 0, 1]) == {"accuracy": 0.75}


@pytest.mark.parametrize("task", ["mrpc", "qqp"])
def test_f1_is_that_of_label_1_and_the_mean_is_added(task: str) -> None:
    # precision 3/4, recall 3/5
    assert glue_scores(task, GIVEN, WANTED) == {
        "f1": pytest.approx(2 / 3),
        "accuracy": 0.625,
        "combined_score": pytest.approx((2 / 3 + 0.625) / 2),
    }


def test_matthews_correlation_is_worked_by_hand() -> None:
    expected = (3 * 2 - 1 * 2) / math.sqrt((3 + 1) * (3 + 2) * (2 + 1) * (2 + 2))
    assert glue_scores("cola", GIVEN, WANTED) == {"matthews_correlation": pytest.approx(expected)}
    assert glue_scores("cola", WANTED, WANTED) == {"matthews_correlation": 1.0}


def test_correlations_are_worked_by_hand_with_ties_at_their_mean_rank() -> None:
    scores = glue_scores("stsb", [1.0, 2.0, 2.0, 10.0], [0.0, 1.0, 3.0, 4.0])
    # deviations: (-2.75, -1.75, -1.75, 6.25) and (-2, -1, 1, 2); ranks: (1, 2.5, 2.5, 4) and (1, 2, 3, 4)
    pearson = (5.5 + 1.75 - 1.75 + 12.5) / math.sqrt((2.75**2 + 2 * 1.75**2 + 6.25**2) * 10)
    spearman = (1.5 * 1.5 + 0 + 0 + 1.5 * 1.5) / math.sqrt(4.5 * 5)
    assert scores["pearson"] == pytest.approx(pearson)
    assert scores["spearmanr"] == pytest.approx(spearman)
    assert scores["combined_score"] == pytest.approx((pearson + spearman) / 2)


def test_regression_adds_the_mean_squared_error() -> None:
    scores = glue_scores("regression", [1.0, 2.0, 4.0], [1.0, 3.0, 2.0])
    assert scores["mse"] == pytest.approx(5 / 3)
    assert scores.keys() == {"pearson", "spearmanr", "mse"}


def ranks(values: list[float]) -> np.ndarray:
    """Places from 1 on, equal values at the mean of theirs."""
    array = np.array(values)
    return np.array([(array < value).sum() + ((array == value).sum() + 1) / 2 for value in values])


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_the_formulas_written_out(seed: int) -> None:
    draw = random.Random(seed)
    given, wanted = (np.array([draw.random() < share for _ in range(60)], int) for share in (0.3, 0.6))
    both, one, two = ((given * wanted).sum(), given.sum(), wanted.sum())
    assert glue_scores("mrpc", given, wanted)["f1"] == pytest.approx(2 * both / (one + two))
    assert glue_scores("rte", given, wanted)["accuracy"] == pytest.approx(np.mean(given == wanted))
    phi = glue_scores("cola", given, wanted)["matthews_correlation"]
    assert phi == pytest.approx(np.corrcoef(given, wanted)[0, 1])  # of two classes it is Pearson's correlation
    logits, scores = ([round(draw.gauss(2, 1), 1) for _ in range(50)] for _ in range(2))
    assert len(set(scores)) < 50  # there are ties
    found = glue_scores("stsb", logits, scores)
    assert found["pearson"] == pytest.approx(np.corrcoef(logits, scores)[0, 1])
    assert found["spearmanr"] == pytest.approx(np.corrcoef(ranks(logits), ranks(scores))[0, 1])


@pytest.mark.filterwarnings("error")
def test_a_model_that_always_answers_the_same_has_no_correlation_and_gives_no_warning() -> None:
    assert glue_scores("stsb", [2.5, 2.5, 2.5], [1, 2, 3])["spearmanr"] == 0.0
    assert glue_scores("cola", [1, 1, 1], [1, 0, 1]) == {"matthews_correlation": 0.0}
    assert glue_scores("mrpc", [0, 0], [0, 0])["f1"] == 0.0


def test_a_model_that_diverged_scores_nan() -> None:
    assert math.isnan(glue_scores("stsb", [math.nan, 1.0, 2.0], [1, 2, 3])["pearson"])


def test_float32_logits_lose_no_digits() -> None:
    given = np.array([1000.001, 1000.002, 1000.003, 1000.005], dtype=np.float32)
    exact = glue_scores("stsb", given.astype(np.float64), [1, 2, 3, 5])
    assert glue_scores("stsb", given, [1, 2, 3, 5]) == exact


@pytest.mark.parametrize(
    ("task", "given", "wanted", "message"),
    [
        ("rte", [1], [1, 0], "there are 1 predictions for 2 references; give one for each"),
        ("rte", [], [], "there are no rows to score; give at least one"),
        ("sst-2", [1], [1], "there are no scores for the task 'sst-2'; it must be one of cola, sst2, "),
    ],
)
def test_what_cannot_be_scored_is_refused(task: str, given: list[int], wanted: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        glue_scores(task, given, wanted)


@pytest.fixture
def _metric_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", tmp_path)
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)


@pytest.mark.usefixtures("_metric_cache")
@pytest.mark.parametrize("load", [lambda task: evaluate.load(str(METRICS / "glue"), task), GlueMetric])
def test_the_metric_loads_by_path_and_by_import_and_equals_the_function(load: Any) -> None:
    assert load("mrpc").compute(predictions=GIVEN, references=WANTED) == glue_scores("mrpc", GIVEN, WANTED)
    similar = {"predictions": [0.5, 1.5, 1.25], "references": [0, 5, 2.5]}
    assert load("stsb").compute(**similar) == glue_scores("stsb", *similar.values())


@pytest.mark.usefixtures("_metric_cache")
def test_the_metric_takes_every_task_and_refuses_other_words() -> None:
    for task in SCORES:
        assert GlueMetric(task).config_name == task
    with pytest.raises(ValueError, match="no configuration 'default'; give the task as the second argument"):
        GlueMetric()


def test_without_scikit_learn_the_message_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()

    def missing(name: str, *args: Any) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"'sklearn\.metrics'\): pip install \"cram-hf\[glue\]\""):
        check_installed()


def test_the_module_itself_needs_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.partition(".")[0] in ("sklearn", "scipy"):
            raise ImportError(name)
        return usual(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    assert importlib.reload(module) is module
