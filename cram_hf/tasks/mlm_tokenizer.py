"""Makes a lower-casing WordPiece tokenizer from text; the same text always gives the same tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.trainers import WordPieceTrainer
from transformers import BertTokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ALPHABET = 1000
"""Characters kept at most, the most frequent ones, as in BERT's own vocabularies; words with others are unknown."""


def train_wordpiece(
    texts: Callable[[], Iterable[str]], vocab_size: int, source: str, max_length: int = 512
) -> BertTokenizer:
    """
    Returns a tokenizer like BERT's uncased one with a vocabulary learnt from the texts.

    The vocabulary begins with the special tokens and the characters, alone and as continuations, in the order of their
    code points. Their ids decide which of two equally frequent pairs is merged first, and the library alone would
    number the continuations in the order of a hash table, another one in every process.

    Args:
        texts (`Callable`): gives the texts; called twice.
        vocab_size (`int`): tokens at most; fewer if no pair is left that occurs twice.
        source (`str`): where the texts come from, for messages.
        max_length (`int`, *optional*, defaults to 512): tokens that a model with this tokenizer takes.

    Raises:
        ValueError: if `vocab_size` has no room for the characters.
    """
    pieces = BertTokenizer()  # its way of cleaning and splitting text is taken as it is
    backend = pieces.backend_tokenizer
    letters = _letters(backend, texts())
    base = [*SPECIAL, *letters]
    if vocab_size < len(base):
        raise ValueError(
            f"--vocab_size {vocab_size}: the special tokens and the characters of {source} alone are {len(base)}; "
            "30522 is usual, and a few thousand do for small texts"
        )
    alphabet = [letter for letter in letters if len(letter) == 1]
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=base,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner = Tokenizer(WordPiece(unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    learner.train_from_iterator(texts(), trainer=trainer)
    return BertTokenizer(vocab=learner.get_vocab(), model_max_length=max_length)


def _letters(backend: Tokenizer, texts: Iterable[str]) -> list[str]:
    """Returns the most frequent characters and, with "##", those of them that stand inside words."""
    words: Counter[str] = Counter()
    for text in texts:
        clean = backend.normalizer.normalize_str(text)
        words.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(clean))
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            counts[letter] += count
    kept = set(sorted(counts, key=lambda letter: (-counts[letter], letter))[:ALPHABET])
    inside = {letter for word in words for letter in word[1:]} & kept
    return [*sorted(kept), *(f"##{letter}" for letter in sorted(inside))]
