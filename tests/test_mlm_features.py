"""Rows hold every token of the text in its order, framed as the model's tokenizer frames a text."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset
from mlm_fixtures import LINES
from squad_fixtures import tiny_tokenizer

from cram_hf.tasks.mlm_features import RowMaker, frame_of, make_rows, special_ids, tokenise

CLS, SEP = 2, 3
TEXTS = [line for line in LINES if line]


def rows(length: int, texts: list[str] | None = None, *, blocks: bool = True, words: bool = False, **how: Any) -> Any:
    """Rows of the texts; `stream=True` streams them, `batch` is the number of texts handed on at a time."""
    tokenizer = tiny_tokenizer()
    stored = Dataset.from_dict({"text": TEXTS if texts is None else texts})
    source = stored.to_iterable_dataset() if how.pop("stream", False) else stored
    maker = RowMaker(frame_of(tokenizer, length), blocks)
    return list(make_rows(source, tokenizer, maker, words=words, **how))


def tokens(texts: list[str]) -> list[list[int]]:
    return tiny_tokenizer()(texts, add_special_tokens=False)["input_ids"]


class TestBlocks:
    @pytest.mark.parametrize("length", [3, 8, 16, 31])
    def test_lose_no_token_but_the_remainder(self, length):
        whole: list[int] = []
        for ids in tokens(TEXTS):
            whole += [SEP, *ids] if whole else ids
        found = rows(length)
        assert all(row["input_ids"][0] == CLS and row["input_ids"][-1] == SEP for row in found)
        assert {row["length"] for row in found} == {length} == {len(row["input_ids"]) for row in found}
        inside = [id for row in found for id in row["input_ids"][1:-1]]
        assert inside == whole[: len(inside)]
        assert len(whole) - len(inside) < length - 2

    def test_do_not_change_with_streaming_processes_or_batches(self):
        usual = rows(8, TEXTS * 300)
        assert len(usual) > 2000
        assert rows(8, TEXTS * 300, stream=True) == usual
        assert rows(8, TEXTS * 300, num_proc=2) == usual

    def test_of_a_stream_are_the_same_in_every_epoch(self):
        tokenizer = tiny_tokenizer()
        stream = Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()
        found = make_rows(stream, tokenizer, RowMaker(frame_of(tokenizer, 8), True), words=False)
        assert list(found) == list(found) == rows(8)

    def test_know_where_words_start_even_when_cut(self):
        row = rows(7, ["the cat kept", "geese"], words=True)[0]
        assert tiny_tokenizer().convert_ids_to_tokens(row["input_ids"]) == [
            *("[CLS]", "the", "c", "##a", "##t", "kept", "[SEP]")
        ]
        assert row["starts_word"] == [True, True, True, False, False, True, True]


class TestLines:
    def test_are_rows_cut_at_the_length(self):
        found = [row["input_ids"] for row in rows(8, blocks=False)]
        assert found == [[CLS, *ids[:6], SEP] for ids in tokens(TEXTS)]
        assert [row["length"] for row in rows(8, blocks=False)] == [min(len(ids), 6) + 2 for ids in tokens(TEXTS)]

    def test_with_nothing_to_predict_are_left_out(self):
        assert [row["input_ids"] for row in rows(8, ["the", "\u200b", "[SEP] [MASK]", "of"], blocks=False)] == [
            [CLS, *ids, SEP] for ids in tokens(["the", "of"])
        ]

    def test_must_be_texts_but_may_be_missing(self):
        assert len(rows(8, ["the", None, "of"], blocks=False)) == 2
        with pytest.raises(ValueError, match="the column 'text' holds 3, but must hold texts"):
            rows(8, [3], blocks=False)


class TestFrame:
    def test_is_what_the_tokenizer_puts_around_a_text(self):
        frame = frame_of(tiny_tokenizer(), 16)
        assert (frame.prefix, frame.suffix, frame.separator, frame.room) == ([CLS], [SEP], [SEP], 14)

    def test_must_leave_room(self):
        with pytest.raises(ValueError, match="--max_seq_length 2: 2 of its tokens are special ones; 128 is usual"):
            frame_of(tiny_tokenizer(), 2)


def test_unknown_words_can_be_predicted_and_special_tokens_cannot():
    tokenizer = tiny_tokenizer()
    assert special_ids(tokenizer) == {0, 2, 3, 4}
    assert tokenise({"text": ["\u4e00"]}, tokenizer, words=True) == {"input_ids": [[1]], "starts_word": [[True]]}


def test_making_rows_leaves_the_tokenizer_as_it_was():
    tokenizer = tiny_tokenizer()
    before = tokenizer.backend_tokenizer.to_str()
    make_rows(Dataset.from_dict({"text": TEXTS}), tokenizer, RowMaker(frame_of(tokenizer, 8), True), words=False)
    assert tokenizer.backend_tokenizer.to_str() == before
