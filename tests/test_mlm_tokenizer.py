"""A tokenizer made from text is BERT's in all but its vocabulary, and the same whenever it is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mlm_fixtures import LINES, tiny_model
from transformers import AutoTokenizer, BertTokenizer

from cram_hf.tasks.mlm_tokenizer import SPECIAL, train_wordpiece

TEXTS = [line for line in LINES if line] + ["Ärger über Geese & Müller 漢字"]


def made(size: int = 80, texts: list[str] | None = None) -> BertTokenizer:
    return train_wordpiece(lambda: TEXTS if texts is None else texts, size, "some.txt")


def test_the_vocabulary_begins_with_special_tokens_and_characters_in_order():
    tokens = made().convert_ids_to_tokens(range(len(made())))
    assert tokens[:5] == SPECIAL == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [token for token in tokens[5:] if len(token.removeprefix("##")) == 1]
    first = [token for token in letters if len(token) == 1]
    assert tokens[5 : 5 + len(letters)] == letters
    assert letters == sorted(first) + sorted(token for token in letters if len(token) > 1)
    assert "geese" in tokens
    assert len(tokens) == len(set(tokens)) <= 80


def test_it_splits_words_and_lower_cases_as_bert_does():
    tokenizer = made()
    assert tokenizer.tokenize("The GEESE, Über") == ["the", "geese", ",", *tokenizer.tokenize("uber")]
    assert tokenizer.decode(tokenizer("the geese")["input_ids"]) == "[CLS] the geese [SEP]"
    assert tokenizer("a", "b")["token_type_ids"] == [0, 0, 0, 1, 1]
    assert tokenizer.tokenize("☃") == ["[UNK]"]


def test_a_small_text_gives_fewer_tokens_than_asked_for():
    assert len(made(30522)) < 200


def test_every_process_makes_the_same_file(tmp_path):
    code = (
        "import sys; from test_mlm_tokenizer import made; from mlm_fixtures import LINES\n"
        "made(120, [a + b for a in LINES for b in LINES]).save_pretrained(sys.argv[1])"
    )
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], cwd=Path(__file__).parent, check=True)
    made(120, [a + b for a in LINES for b in LINES]).save_pretrained(tmp_path / "here")
    one, two, here = ((tmp_path / name / "tokenizer.json").read_text() for name in ("one", "two", "here"))
    assert one == two == here


def test_it_can_be_saved_and_loaded_beside_a_model(tmp_path):
    tokenizer = made()
    tokenizer.save_pretrained(tmp_path)
    for beside_a_model in (False, True):
        if beside_a_model:
            tiny_model(len(tokenizer)).save_pretrained(tmp_path)
        loaded = AutoTokenizer.from_pretrained(tmp_path)
        assert loaded.is_fast
        assert loaded.model_max_length == 512
        assert loaded.get_vocab() == tokenizer.get_vocab()
        assert loaded(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]


def test_only_the_most_frequent_characters_are_kept(monkeypatch):
    monkeypatch.setattr("cram_hf.tasks.mlm_tokenizer.ALPHABET", 3)
    assert made(50, ["ab ab ba c ☃", "c ac d"]).get_vocab().keys() - set(SPECIAL) == {
        *("a", "b", "c", "##a", "##b", "##c", "ab")
    }


def test_a_vocabulary_smaller_than_the_alphabet_is_refused():
    with pytest.raises(ValueError, match=r"--vocab_size 20: the special tokens and the characters of some\.txt alone"):
        made(20)
