"""Turns texts into rows of tokens for a masked language model: full blocks, or a row a text."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from cram_hf.tasks.mlm_sources import AnyDataset

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Frame:
    """
    What a tokenizer puts around a text, and the length of a row with it.

    Args:
        prefix, suffix (`list[int]`): ids before and after the text, such as `[CLS]` and `[SEP]`.
        separator (`list[int]`): ids between two texts of a block, such as `[SEP]`.
        length (`int`): tokens of a row, prefix and suffix included.
    """

    prefix: list[int]
    suffix: list[int]
    separator: list[int]
    length: int

    @property
    def room(self) -> int:
        """Tokens of text in a row."""
        return self.length - len(self.prefix) - len(self.suffix)


def frame_of(tokenizer: PreTrainedTokenizerBase, length: int) -> Frame:
    """Returns the tokenizer's frame. Raises `ValueError` if it leaves no room for text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = list(encoded["input_ids"]), list(encoded["special_tokens_mask"])
    first, last = special.index(0), len(ids) - special[::-1].index(0)
    separator = [] if tokenizer.sep_token_id is None else [tokenizer.sep_token_id]
    frame = Frame(ids[:first], ids[last:], separator, length)
    if frame.room < 1:
        raise ValueError(
            f"--max_seq_length {length}: {length - frame.room} of its tokens are special ones; 128 is usual"
        )
    return frame


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Returns the ids that are never predicted: all special ones but that of unknown words, which stand for text."""
    ids = set(tokenizer.all_special_ids)
    if tokenizer.unk_token_id not in (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id):
        ids.discard(tokenizer.unk_token_id)
    return ids


def tokenise(batch: Columns, tokenizer: PreTrainedTokenizerBase, words: bool) -> Columns:
    """
    Returns the tokens of texts without special ones; texts with nothing to predict are left out.

    Args:
        batch (`dict`): the column `text`.
        tokenizer (`PreTrainedTokenizerBase`): must be fast for `words`.
        words (`bool`): whether to add `starts_word`, which tells of each token whether a word begins with it.

    Raises:
        ValueError: if something in the column is neither a text nor missing.
    """
    wrong = next((text for text in batch["text"] if not isinstance(text, str | None)), None)
    if wrong is not None:
        raise ValueError(
            f"the column 'text' holds {str(wrong)[:60]}, but must hold texts; name the right column 'text'"
        )
    encoded = tokenizer(
        [text or "" for text in batch["text"]],
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # about texts that are longer than the model's limit: they are cut afterwards
    )
    special = special_ids(tokenizer)
    kept = [i for i, ids in enumerate(encoded["input_ids"]) if not special.issuperset(ids)]
    columns: Columns = {"input_ids": [encoded["input_ids"][i] for i in kept]}
    if words:
        columns["starts_word"] = [_starts(encoded.word_ids(i)) for i in kept]
    return columns


def _starts(words: list[int | None]) -> list[bool]:
    """Returns which tokens begin a word, from the number of each token's word."""
    return [here is None or here != before for before, here in zip([None, *words], words, strict=False)]


@dataclass
class RowMaker:
    """
    Makes rows from tokenised texts, for `map` in batches with indices over a stored or a streamed set.

    In blocks, texts follow each other with a separator between them, and every row is full; no token is lost but those
    after the last full block. Otherwise each text is a row, cut at the row's length.

    Args:
        frame ([`Frame`]): what goes around the text of a row.
        blocks (`bool`): whether rows are blocks.
    """

    frame: Frame
    blocks: bool
    _waiting: Columns = field(default_factory=dict)

    def __call__(self, batch: Columns, indices: list[int]) -> Columns:
        """Returns the rows that this batch completes, with their `length`. Keeps what remains for the next batch."""
        if indices[0] == 0:  # a stream begins anew with every epoch
            self._waiting = {column: [] for column in batch}
        texts = {column: self._blocks(column, values) for column, values in batch.items()}
        rows = {column: [self._framed(column, text) for text in found] for column, found in texts.items()}
        return {**rows, "length": [len(ids) for ids in rows["input_ids"]]}

    def _blocks(self, column: str, values: list[list[Any]]) -> list[list[Any]]:
        """Returns the pieces of text that become rows."""
        room = self.frame.room
        if not self.blocks:
            return [text[:room] for text in values]
        waiting = self._waiting[column]
        separator = self.frame.separator if column == "input_ids" else [True] * len(self.frame.separator)
        for text in values:
            waiting += [*separator, *text] if waiting else text
        cut = len(waiting) - len(waiting) % room
        pieces = [waiting[start : start + room] for start in range(0, cut, room)]
        del waiting[:cut]
        return pieces

    def _framed(self, column: str, text: list[Any]) -> list[Any]:
        """Returns the row; special tokens count as words of their own."""
        before, after = self.frame.prefix, self.frame.suffix
        if column == "starts_word":
            return [*[True] * len(before), *text, *[True] * len(after)]
        return [*before, *text, *after]


def make_rows(
    texts: AnyDataset, tokenizer: PreTrainedTokenizerBase, maker: RowMaker, *, words: bool, **options: Any
) -> AnyDataset:
    """
    Returns rows with `input_ids`, `length` and, with `words`, `starts_word`; streamed if the texts are.

    Args:
        texts (`Dataset` or `IterableDataset`): the column `text`.
        tokenizer (`PreTrainedTokenizerBase`): it is not changed.
        maker ([`RowMaker`]): a new one; it is used up.
        words (`bool`): whether words are masked whole.
        options (`Any`): of `Dataset.map`, where texts are stored; `num_proc` only serves the tokeniser.
    """
    # Calling a fast tokenizer changes it, and with it the key under which Dataset.map finds its cache.
    settings = {"tokenizer": copy.deepcopy(tokenizer), "words": words}
    columns = ["input_ids", "starts_word"] if words else ["input_ids"]
    tokens = texts.map(tokenise, batched=True, remove_columns=["text"], fn_kwargs=settings, **options)
    if isinstance(tokens, Dataset) and not len(tokens):
        return tokens  # a set that became empty keeps its old columns
    options.pop("num_proc", None)
    return tokens.map(maker, batched=True, with_indices=True, remove_columns=columns, **options)
