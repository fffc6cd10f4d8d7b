"""Which tokens a masked language model has to predict: drawn anew for each training batch, once for evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerState

from cram_hf.tasks.mlm_features import Columns, special_ids


@dataclass(frozen=True)
class Masking:
    """
    How tokens are chosen and hidden, as in BERT (Devlin et al., 2019, section 3.1 and appendix A.1).

    Args:
        mask_id (`int`): the id of `[MASK]`.
        special (`list[int]`): ids that are never chosen.
        vocabulary (`int`): number of tokens from which random ones are drawn.
        probability (`float`): with which each word is chosen, or each token where words are not known.
    """

    mask_id: int
    special: list[int]
    vocabulary: int
    probability: float

    def __call__(
        self, ids: Tensor, starts: Tensor | None = None, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """
        Returns inputs and labels, both (rows, length): labels hold the chosen tokens and -100 elsewhere.

        Of the chosen tokens 80 % become `[MASK]`, 10 % a random token, 10 % stay. A row in which chance chooses none
        gets one word at random, so that it always counts and no loss is a mean of nothing; only a row of nothing but
        special tokens has no label. Without `starts`, and where every row has a chosen token, random numbers are used
        as in `DataCollatorForLanguageModeling`: the same seed gives the same masks.

        Args:
            ids (`Tensor`): token ids, (rows, length). Not mutated.
            starts (`Tensor`, *optional*): whether a word begins with a token, (rows, length); whole words are chosen.
            generator (`Generator`, *optional*): on the CPU; torch's own if not given.
        """
        free = ~torch.isin(ids, torch.tensor(self.special))
        first = free if starts is None else _first_tokens(free, starts)
        chosen = torch.bernoulli(free * self.probability, generator=generator).bool() & first
        chosen |= _one_each(first & ~chosen.any(1, keepdim=True), generator)
        if starts is not None:
            chosen = chosen.gather(1, _position_of_first(first)) & free
        return self._hidden(ids, chosen, generator), torch.where(chosen, ids, -100)

    def _hidden(self, ids: Tensor, chosen: Tensor, generator: Generator | None) -> Tensor:
        """Returns the ids with the chosen ones replaced, or not."""
        as_mask = torch.bernoulli(torch.full(ids.shape, 0.8), generator=generator).bool() & chosen
        as_random = torch.bernoulli(torch.full(ids.shape, 0.5), generator=generator).bool() & chosen & ~as_mask
        random = torch.randint(self.vocabulary, ids.shape, generator=generator)
        return torch.where(as_random, random, torch.where(as_mask, self.mask_id, ids))


def _first_tokens(free: Tensor, starts: Tensor) -> Tensor:
    """Returns where words begin; a word that was cut, or stands behind a special token, begins with what is left."""
    before = torch.nn.functional.pad(free, (1, 0))[:, :-1]
    return free & (starts | ~before)


def _position_of_first(first: Tensor) -> Tensor:
    """Returns for each token the position of the first token of its word."""
    return torch.where(first, torch.arange(first.shape[1]), 0).cummax(1).values


def _one_each(candidates: Tensor, generator: Generator | None) -> Tensor:
    """Returns one of the candidates of each row that has some, at random. Draws nothing if no row has any."""
    picked = torch.zeros_like(candidates)
    rows = candidates.any(1)
    if rows.any():
        order = (1 + torch.rand(candidates.shape, generator=generator)) * candidates
        picked[rows, order.argmax(1)[rows]] = True
    return picked


def masking_of(tokenizer: PreTrainedTokenizerBase, probability: float) -> Masking:
    """Returns the masking with a tokenizer's ids. Raises `ValueError` if it has no `[MASK]` or padding token."""
    for name in ("mask_token", "pad_token"):
        if getattr(tokenizer, f"{name}_id") is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no {name}, which masked language modelling needs; give the tokenizer "
                "of a masked language model such as google-bert/bert-base-uncased, or --train_tokenizer"
            )
    return Masking(int(tokenizer.mask_token_id), sorted(special_ids(tokenizer)), len(tokenizer), probability)


def mask_once(batch: Columns, indices: list[int], masking: Masking) -> Columns:
    """
    Returns the rows with masks that stay: `input_ids` and `labels`, for `Dataset.map` in batches with indices.

    The generator of a row is seeded with its position in the set and nothing else. So masks depend neither on `--seed`
    nor on the size of batches or the number of rows, and scores of any two runs on the same text compare.
    """
    inputs, labels = [], []
    for number, row in enumerate(indices):
        ids = torch.tensor([batch["input_ids"][number]])
        starts = torch.tensor([batch["starts_word"][number]]) if "starts_word" in batch else None
        hidden, wanted = masking(ids, starts, Generator().manual_seed(row))
        inputs.append(hidden[0].tolist())
        labels.append(wanted[0].tolist())
    return {"input_ids": inputs, "labels": labels}


@dataclass
class MaskingCollator(TrainerCallback):
    """
    Makes a batch: rows with `labels` are only padded, the others masked.

    The masks are a function of the seed, the epoch and the batch's tokens. No random number of torch's own is used,
    since batches are made ahead of the update that takes them, by several workers maybe, and a run that goes on from a
    checkpoint needs the same. Given to a Trainer as a callback too, it learns the epoch.

    Args:
        masking ([`Masking`]): how rows without labels are masked.
        pad_id (`int`): the id of the padding token.
        seed (`int`): of the masks.
        left (`bool`, *optional*, defaults to `False`): whether padding stands on the left.
        width (`int`, *optional*): length of every batch; that of its longest row if not given.
        multiple (`int`, *optional*, defaults to 1): the length is rounded up to a multiple of it.
        epoch (`int`, *optional*, defaults to 0): passes over the data that are done.
    """

    masking: Masking
    pad_id: int
    seed: int
    left: bool = False
    width: int | None = None
    multiple: int = 1
    epoch: int = 0

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Draws other masks from here on, the same as ever in this epoch."""
        self.epoch = int(state.epoch or 0)

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Returns `input_ids`, `attention_mask` and `labels`, (rows, length)."""
        ids = self._padded([row["input_ids"] for row in rows], self.pad_id)
        attention = self._padded([[1] * len(row["input_ids"]) for row in rows], 0)
        if "labels" in rows[0]:
            labels = self._padded([row["labels"] for row in rows], -100)
        else:
            words = "starts_word" in rows[0]
            starts = self._padded([row["starts_word"] for row in rows], 1).bool() if words else None
            ids, labels = self.masking(ids, starts, self._generator(ids))
        return {"input_ids": ids, "attention_mask": attention, "labels": labels}

    def _generator(self, ids: Tensor) -> Generator:
        """Returns the random numbers of a batch with these tokens."""
        known = b"".join(number.to_bytes(8, "little") for number in (self.seed, self.epoch))
        digest = hashlib.blake2b(ids.numpy().tobytes(), digest_size=8, salt=known)
        return Generator().manual_seed(int.from_bytes(digest.digest(), "little", signed=True))

    def _padded(self, values: list[list[int]], filler: int) -> Tensor:
        """Returns the values as one tensor of numbers."""
        width = self.width or max(map(len, values))
        width = -(-width // self.multiple) * self.multiple
        gaps = [[filler] * (width - len(row)) for row in values]
        pairs = zip(gaps, values, strict=True) if self.left else zip(values, gaps, strict=True)
        return torch.tensor([[*a, *b] for a, b in pairs], dtype=torch.long)
