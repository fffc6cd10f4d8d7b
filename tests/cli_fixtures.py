"""A model folder as users have one, shared by the tests of the command line."""

from __future__ import annotations

from pathlib import Path

from transformers import BertTokenizerFast, PreTrainedModel

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "where", "is", "the", "ferry", "?", "in", "harbour", "."]


def saved(model: PreTrainedModel, folder: Path, tokenizer: bool = True) -> str:
    """Saves the model, and a tokenizer of a few words; returns the folder as a user types it."""
    model.save_pretrained(folder)
    if tokenizer:
        BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    return str(folder)
