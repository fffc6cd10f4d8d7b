"""A tiny tokenizer, a few questions of our own and writers for every file form, shared by the SQuAD tests."""

from __future__ import annotations

import csv
import json
import string
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast

SHARED = Path(__file__).parents[1].parent / "shared" / "data"

CONTEXT = "The miller of Arden kept nine geese. In spring he sold three geese to a baker, who lived by the river."
WORDS = ["the", "miller", "geese", "who", "river", "how", "many", "of", "baker", "kept", "did", "?", ".", ","]


def record(key: str, question: str, *answers: str, context: str = CONTEXT) -> dict[str, Any]:
    """A flat record; each answer stands where its text first occurs."""
    starts = [context.index(answer) for answer in answers]
    return {
        "id": key,
        "title": "Arden",
        "context": context,
        "question": question,
        "answers": {"text": list(answers), "answer_start": starts},
    }


RECORDS = [
    record("q1", "How many geese did the miller keep?", "nine", "nine geese"),
    record("q2", "Who bought geese?", "a baker"),
    record("q3", "Where did the baker live?", "by the river", "river"),
]
UNANSWERABLE = record("q4", "Who painted the mill?")


def nested(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The official form: one article, one paragraph."""
    questions = [
        {
            "id": row["id"],
            "question": row["question"],
            "answers": [
                {"text": text, "answer_start": start}
                for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
            ],
            "is_impossible": not row["answers"]["text"],
            "plausible_answers": [{"text": "miller", "answer_start": 4}],
        }
        for row in records
    ]
    return {"version": "v2.0", "data": [{"title": "Arden", "paragraphs": [{"context": CONTEXT, "qas": questions}]}]}


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in records), encoding="utf-8")
    return path


def write_csv(path: Path, records: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    return path


def write_parquet(path: Path, records: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    return path


def tiny_tokenizer(padding_side: str = "right", model_max_length: int = 512) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer: a few whole words, every other word in letters."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    pieces += [*string.ascii_lowercase, *string.digits, *("##" + letter for letter in string.ascii_lowercase)]
    backend = Tokenizer(WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        padding_side=padding_side,
        model_max_length=model_max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
