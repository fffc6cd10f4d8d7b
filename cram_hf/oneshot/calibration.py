"""Texts to calibrate on: a few hundred rows of a file, without labels, as padded batches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..tasks.glue_readers import read_table
from ..tasks.mlm_text import read_texts
from ..tasks.squad_files import read_squad

Text = tuple[str, ...]
"""One text, or a pair as the model was trained on it."""

COLUMNS = (
    ("question", "context"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("sentence",),
    ("text",),
)


def read_calibration(path: str | Path, columns: Sequence[str] = ()) -> list[Text]:
    """Returns the texts of a file; labels and answers are not read.

    `.txt` holds one text a line. `.json`, `.jsonl`, `.csv`, `.tsv` and `.parquet` hold records: SQuAD in any of its
    forms, or one or two columns of text, by default the first of `COLUMNS` that are there.

    Args:
        path: the file.
        columns: one or two names of columns, in the order the tokenizer takes them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is malformed or has no such columns.
    """
    if Path(path).suffix.lower() == ".txt":
        return [(text,) for text in read_texts(path)]
    table = read_table(path)
    if "paragraphs" in table.columns and not columns:
        questions = read_squad(path, need_answers=False)
        return list(zip(questions["question"], questions["context"], strict=True))
    names = tuple(columns) or next((names for names in COLUMNS if set(names) <= table.columns.keys()), ())
    if not names:
        raise ValueError(
            f"{path}: which of its columns {', '.join(table.columns)} hold text is not known. Name one or two: "
            "--text_columns COLUMN [COLUMN]."
        )
    table.require(names)
    rows = zip(*(table.columns[name] for name in names), strict=True)
    return [row for row in rows if all(isinstance(text, str) and text.strip() for text in row)]


def sample(texts: Sequence[Text], count: int, seed: int) -> list[Text]:
    """Returns `count` different rows drawn with `seed`, in the order of the file; all of them if there are fewer."""
    if count >= len(texts):
        return list(texts)
    return [texts[i] for i in sorted(random.Random(seed).sample(range(len(texts)), count))]


def batches(
    texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase, *, max_length: int, batch_size: int = 16
) -> list[dict[str, Tensor]]:
    """Returns the texts as arguments of a forward pass, longest first so that batches need little padding.

    Args:
        texts: what `read_calibration` or `sample` gives.
        tokenizer: the model's.
        max_length: tokens after which a text is cut, of a pair the longer one; lowered to what the tokenizer allows.
        batch_size: texts of a batch.

    Raises:
        ValueError: there is no text.
    """
    if not texts:
        raise ValueError("There is no text to calibrate on: the file must hold at least one row with text.")
    limit = min(max_length, tokenizer.model_max_length)
    encoded = [dict(tokenizer(*text, truncation=True, max_length=limit)) for text in texts]
    encoded.sort(key=lambda row: -len(row["input_ids"]))
    parts = (encoded[start : start + batch_size] for start in range(0, len(encoded), batch_size))
    return [dict(tokenizer.pad(part, return_tensors="pt", return_attention_mask=True)) for part in parts]
