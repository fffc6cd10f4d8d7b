"""Texts to calibrate on: which columns are read, what is drawn, how batches are padded."""

from __future__ import annotations

import json

import pytest
from cli_fixtures import WORDS
from transformers import BertTokenizerFast

from cram_hf.oneshot.calibration import batches, read_calibration, sample


@pytest.fixture
def tokenizer():
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}, model_max_length=12)


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


class TestReading:
    def test_a_text_file_holds_one_text_a_line(self, tmp_path):
        assert read_calibration(write(tmp_path / "a.txt", "one\n\ntwo\n")) == [("one",), ("two",)]

    def test_squad_gives_question_and_context_and_needs_no_answers(self, tmp_path):
        paragraph = {"context": "the ferry", "qas": [{"id": "1", "question": "where?"}]}
        nested = {"version": "1.1", "data": [{"title": "t", "paragraphs": [paragraph]}]}
        assert read_calibration(write(tmp_path / "a.json", nested)) == [("where?", "the ferry")]
        flat = [{"id": "1", "question": "where?", "context": "the ferry"}]
        assert read_calibration(write(tmp_path / "b.json", flat)) == [("where?", "the ferry")]

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ("sentence1\tsentence2\tlabel", ("a", "b")),
            ("hypothesis\tpremise\tlabel", ("b", "a")),
            ("question\tsentence\tlabel", ("a", "b")),
            ("sentence\tx\tlabel", ("a",)),
            ("x\ttext\tlabel", ("b",)),
        ],
    )
    def test_the_columns_of_tasks_are_known(self, header, expected, tmp_path):
        assert read_calibration(write(tmp_path / "a.tsv", f"{header}\na\tb\t1\n")) == [expected]

    def test_other_columns_are_named(self, tmp_path):
        path = write(tmp_path / "a.csv", "title,body\na,b\nc,\n")
        assert read_calibration(path, ["title"]) == [("a",), ("c",)]
        assert read_calibration(path, ["body", "title"]) == [("b", "a")]
        with pytest.raises(ValueError, match=r"title, body hold text is not known\. Name one or two: --text_columns "):
            read_calibration(path)
        with pytest.raises(ValueError, match="there is no column 'boddy'"):
            read_calibration(path, ["boddy"])

    def test_a_missing_file_is_told(self, tmp_path):
        write(tmp_path / "train.txt", "x")
        with pytest.raises(FileNotFoundError, match=r"did you mean .*train\.txt"):
            read_calibration(tmp_path / "trian.txt")


class TestSampling:
    def test_rows_are_drawn_once_in_the_order_of_the_file_and_the_same_for_a_seed(self):
        texts = [(str(i),) for i in range(100)]
        drawn = sample(texts, 10, seed=1)
        assert len(set(drawn)) == 10
        assert drawn == sorted(drawn, key=texts.index)
        assert drawn == sample(texts, 10, seed=1) != sample(texts, 10, seed=2)

    def test_all_are_taken_where_there_are_no_more(self):
        assert sample([("a",), ("b",)], 2, seed=1) == sample([("a",), ("b",)], 9, seed=1) == [("a",), ("b",)]


class TestBatches:
    def test_longest_first_padded_to_the_longest_of_a_batch_and_masked(self, tokenizer):
        texts = [("the",), ("the ferry is",), ("where is",)]
        first, second = batches(texts, tokenizer, max_length=50, batch_size=2)
        assert first["input_ids"].tolist() == [[2, 7, 8, 6, 3], [2, 5, 6, 3, 0]]
        assert first["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
        assert second["input_ids"].tolist() == [[2, 7, 3]]
        assert set(first) == {"input_ids", "attention_mask", "token_type_ids"}

    def test_pairs_are_told_apart_and_long_texts_are_cut(self, tokenizer):
        (batch,) = batches([("where", "the ferry is in the harbour .")], tokenizer, max_length=8)
        assert batch["input_ids"].tolist() == [[2, 5, 3, 7, 8, 6, 10, 3]]
        assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]]
        (batch,) = batches([("the " * 40,)], tokenizer, max_length=100)
        assert batch["input_ids"].shape == (1, 12)

    def test_no_text_is_refused(self, tokenizer):
        with pytest.raises(ValueError, match="no text to calibrate on"):
            batches([], tokenizer, max_length=8)
