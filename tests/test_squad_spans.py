"""Features hold the right windows, and the vectorised post-processing equals a literal, slow one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from squad_fixtures import CONTEXT, RECORDS, UNANSWERABLE, record, tiny_tokenizer

from cram_hf.tasks.squad_candidates import _top
from cram_hf.tasks.squad_features import NO_TOKEN, Windows, make_features, windows
from cram_hf.tasks.squad_records import FEATURES
from cram_hf.tasks.squad_spans import SquadAnswers, find_answers

ALL = [*RECORDS, UNANSWERABLE]


def features_of(records: list[dict[str, Any]], length: int = 48, stride: int = 8, **options: Any) -> Dataset:
    settings = {"tokenizer": tiny_tokenizer(), "pad": False, "training": False, **options}
    settings |= {"max_seq_length": length, "doc_stride": stride}
    dataset = Dataset.from_list(records, features=FEATURES)
    return dataset.map(
        make_features, batched=True, with_indices=True, remove_columns=dataset.column_names, fn_kwargs=settings
    )


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pad", [False, True])
def test_label_positions_cover_exactly_the_first_answer_or_are_cls(side: str, pad: bool) -> None:
    features = features_of(ALL, tokenizer=tiny_tokenizer(side), pad=pad)
    found = windows(features)
    covered = dict.fromkeys(range(len(ALL)), 0)
    for number, row in enumerate(features):
        answers = ALL[row["example"]]["answers"]
        start, end = row["start_positions"], row["end_positions"]
        if start == found.null[number]:
            assert end == start
            continue
        text = CONTEXT[found.offsets[number, start, 0] : found.offsets[number, end, 1]]
        assert text == answers["text"][0]
        covered[row["example"]] += 1
    assert all(covered[index] >= 1 for index in range(3))
    assert covered[3] == 0


def test_windows_of_a_long_context_overlap_by_the_stride_and_cover_it() -> None:
    found = windows(features_of(RECORDS[:1], length=36))
    tokens = [found.offsets[number][found.offsets[number, :, 0] >= 0] for number in range(len(found.example))]
    assert len(tokens) > 2
    for before, after in itertools.pairwise(tokens):
        assert before[-8:].tolist() == after[:8].tolist()
    assert (tokens[0][0, 0], tokens[-1][-1, 1]) == (0, len(CONTEXT))


def test_a_tokenizer_that_pads_left_gets_the_context_first() -> None:
    row = features_of(RECORDS[:1], length=200, tokenizer=tiny_tokenizer("left"), pad=True)[0]
    text = tiny_tokenizer().decode(row["input_ids"], skip_special_tokens=True)
    assert row["input_ids"][0] == 0
    assert text.index("miller") < text.index("how many")
    assert len(row["input_ids"]) == 200
    assert row["length"] == sum(row["attention_mask"])


def test_offsets_tell_context_other_tokens_and_padding_apart() -> None:
    found = windows(features_of(RECORDS[:1], length=200, pad=True))
    kinds = found.offsets[0, :, 0]
    assert kinds[0] == -1
    assert kinds[-1] == NO_TOKEN
    assert (kinds >= 0).sum() > 20


def test_training_features_have_no_columns_for_post_processing() -> None:
    expected = {"input_ids", "token_type_ids", "attention_mask", "start_positions", "end_positions", "length"}
    assert set(features_of(RECORDS, training=True).column_names) == expected


def test_leading_blanks_of_a_question_take_no_room() -> None:
    spaced = {**RECORDS[0], "question": " " * 500 + RECORDS[0]["question"]}
    assert features_of([spaced])["input_ids"][:] == features_of(RECORDS[:1])["input_ids"][:]


def test_a_question_that_leaves_no_room_for_the_stride_is_named_with_the_length_to_type() -> None:
    records = [record("long", "who " * 30, "nine"), record("short", "who ?", "nine")]
    with pytest.raises(
        ValueError,
        match=r"--max_seq_length 40 --doc_stride 8: question 'long' has 30 tokens, which with 3 special tokens .*"
        r"give --max_seq_length of at least 42",
    ):
        features_of(records, length=40)
    assert len(features_of(records, length=42)) > 2


def test_a_long_question_with_a_context_that_fits_is_fine() -> None:
    assert len(features_of([record("long", "who " * 30, "the", context="the river")], length=40)) == 1


def literal(
    ids: list[str], contexts: list[str], found: Windows, start: np.ndarray, end: np.ndarray, **settings: Any
) -> SquadAnswers:
    """The rules of `find_answers`, one question, one feature and one pair at a time."""
    n_best, longest = settings["n_best_size"], settings["max_answer_length"]
    v2, answers = settings["version_2_with_negative"], SquadAnswers({}, {}, {}, {})
    for index, key in enumerate(ids):
        spans: list[dict[str, Any]] = []
        null = None
        for feature in np.flatnonzero(found.example == index):
            offsets, cls = found.offsets[feature], found.null[feature]
            real = [p for p in range(len(offsets)) if offsets[p][0] != NO_TOKEN]
            score = start[feature, cls] + end[feature, cls]
            if null is None or score < null["score"]:
                logits = {"start_logit": start[feature, cls], "end_logit": end[feature, cls]}
                null = {"score": score, "text": "", **logits}
            for s in sorted(real, key=lambda p: (-start[feature, p], p))[:n_best]:
                for e in sorted(real, key=lambda p: (-end[feature, p], p))[:n_best]:
                    if offsets[s][0] < 0 or offsets[e][0] < 0 or e < s or e - s + 1 > longest:
                        continue
                    logits = {"start_logit": start[feature, s], "end_logit": end[feature, e]}
                    text = contexts[index][offsets[s][0] : offsets[e][1]]
                    spans.append({"score": start[feature, s] + end[feature, e], "text": text, **logits})
        assert null is not None
        ranked = sorted([*spans, null] if v2 else spans, key=lambda span: span["score"], reverse=True)[:n_best]
        if v2 and all(span is not null for span in ranked):
            ranked.append(null)
        if all(span["text"] == "" for span in ranked):
            zero = np.float32(0)
            ranked.insert(0, {"score": zero, "text": "empty", "start_logit": zero, "end_logit": zero})
        weights = np.exp(np.array([span["score"] for span in ranked], np.float64) - max(s["score"] for s in ranked))
        answers.nbest[key] = [
            {
                "text": span["text"],
                "start_logit": float(span["start_logit"]),
                "end_logit": float(span["end_logit"]),
                "probability": pytest.approx(weight),
            }
            for span, weight in zip(ranked, weights / weights.sum(), strict=True)
        ]
        best = next(span for span in ranked if span["text"])
        answers.best_texts[key] = best["text"]
        answers.predictions[key] = ranked[0]["text"]
        if v2:
            odds = float(null["score"] - best["start_logit"] - best["end_logit"])
            answers.null_odds[key] = odds
            answers.predictions[key] = "" if odds > settings["null_score_diff_threshold"] else best["text"]
    return answers


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("version_2", [False, True])
@pytest.mark.parametrize(("n_best", "longest"), [(20, 30), (5, 4), (1, 1), (60, 200)])
@pytest.mark.parametrize("side", ["right", "left"])
def test_answers_equal_the_literal_ones(ties: bool, version_2: bool, n_best: int, longest: int, side: str) -> None:
    found = windows(features_of(ALL, tokenizer=tiny_tokenizer(side), pad=side == "left"))
    draw = np.random.default_rng(n_best)
    settings = {
        "n_best_size": n_best,
        "max_answer_length": longest,
        "version_2_with_negative": version_2,
        "null_score_diff_threshold": 0.5,
    }
    for _ in range(5):
        shape = (2, *found.offsets.shape[:2])
        logits = draw.integers(-2, 3, shape) if ties else draw.normal(size=shape)
        start, end = logits.astype(np.float32)
        arguments = ([row["id"] for row in ALL], [CONTEXT] * len(ALL), found, start, end)
        assert find_answers(*arguments, **settings) == literal(*arguments, **settings)


def hand_made() -> tuple[list[str], list[str], Windows, np.ndarray]:
    """One question, one feature: [CLS] who [SEP] red mill pond [SEP]."""
    offsets = np.array([[[-1, -1], [-1, -1], [-1, -1], [0, 3], [4, 8], [9, 13], [-1, -1]]], dtype=np.int32)
    return ["q"], ["red mill pond"], Windows(np.array([0]), offsets, np.array([0])), np.zeros((1, 7), np.float32)


def test_a_hand_worked_question_with_no_answer_odds() -> None:
    ids, contexts, found, zeros = hand_made()
    start, end = zeros.copy(), zeros.copy()
    start[0, [0, 3, 4]] = [1.0, 2.0, 1.0]
    end[0, [0, 4, 5]] = [1.5, 3.0, 1.0]
    answers = find_answers(ids, contexts, found, start, end, version_2_with_negative=True)
    assert answers.predictions == {"q": "red mill"}
    assert answers.null_odds == {"q": 1.0 + 1.5 - 2.0 - 3.0}
    assert [row["text"] for row in answers.nbest["q"][:4]] == ["red mill", "mill", "red mill pond", ""]
    threshold = find_answers(
        ids, contexts, found, start, end, version_2_with_negative=True, null_score_diff_threshold=-2.6
    )
    assert threshold.predictions == {"q": ""}
    assert threshold.best_texts == {"q": "red mill"}


def test_equal_logits_give_the_earlier_token() -> None:
    ids, contexts, found, zeros = hand_made()
    answers = find_answers(ids, contexts, found, zeros, zeros)
    assert [row["text"] for row in answers.nbest["q"]] == [
        *("red", "red mill", "red mill pond"),
        *("mill", "mill pond", "pond"),
    ]


def test_top_takes_minus_zero_as_zero_and_the_earlier_of_equals() -> None:
    values = np.array([[-0.0, 0.0, 1e-45, -1e-45, -np.inf, 3.0]], dtype=np.float32)
    assert _top(values, 10).tolist() == [[5, 2, 0, 1, 3, 4]]
    assert _top(values, 2).tolist() == [[5, 2]]


def test_a_question_without_a_candidate_gets_the_text_empty() -> None:
    ids, contexts, found, zeros = hand_made()
    start, end = zeros.copy(), zeros.copy()
    start[0, 5], end[0, 3] = 1.0, 1.0
    assert find_answers(ids, contexts, found, start, end, n_best_size=1).predictions == {"q": "empty"}


def test_logits_that_are_not_finite_are_warned_about_and_still_ranked(caplog: pytest.LogCaptureFixture) -> None:
    ids, contexts, found, zeros = hand_made()
    start = zeros.copy()
    start[0, 3:6] = [np.nan, np.inf, -np.inf]
    answers = find_answers(ids, contexts, found, start, zeros, version_2_with_negative=True)
    assert answers.predictions == {"q": "mill"}
    assert all(np.isfinite(row["probability"]) for row in answers.nbest["q"])
    assert "3 start logits are not finite" in caplog.text


def test_columns_behind_the_longest_feature_are_not_read_and_nothing_is_mutated() -> None:
    ids, contexts, found, zeros = hand_made()
    wide = np.concatenate([zeros, np.full((1, 3), 9.0, np.float32)], axis=1)
    kept = wide.copy()
    assert find_answers(ids, contexts, found, wide, wide) == find_answers(ids, contexts, found, zeros, zeros)
    assert np.array_equal(wide, kept)


def test_logits_of_other_features_are_refused() -> None:
    ids, contexts, found, zeros = hand_made()
    with pytest.raises(
        ValueError, match=r"the end logits have the shape \(1, 6\), but there are 1 features of up to 7"
    ):
        find_answers(ids, contexts, found, zeros, zeros[:, :6])
