"""Cuts questions and long contexts into the overlapping token windows ("features") that a model can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import BatchEncoding, PreTrainedTokenizerBase

Rows = dict[str, list[Any]]

NO_TOKEN = -2
POST_PROCESSING = ("example", "null", "offset_starts", "offset_ends")


@dataclass(frozen=True)
class Windows:
    """
    What is needed to read answers off the logits of features, in features' order.

    Args:
        example (`np.ndarray` of shape `(features,)`):
            Row of the question each feature belongs to; not decreasing.
        offsets (`np.ndarray` of shape `(features, length, 2)`):
            First and past-the-last character of each context token; -1 for question and special tokens, -2 where
            there is no token (padding).
        null (`np.ndarray` of shape `(features,)`):
            Position of the token that stands for "no answer" (`[CLS]`).
    """

    example: np.ndarray
    offsets: np.ndarray
    null: np.ndarray


def make_features(
    rows: Rows,
    indices: list[int],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    doc_stride: int,
    pad: bool,
    training: bool,
) -> Rows:
    """
    Returns the features of a batch of questions, as columns; made for `Dataset.map(batched=True, with_indices=True)`.

    A context too long for one window gives several, each sharing `doc_stride` tokens with the one before. A tokenizer
    that pads on the left gets the context first, then the question. Leading blanks of questions are dropped.
    `start_positions` and `end_positions` are the token positions of the first answer, or of `[CLS]` where the window
    does not hold all of it or there is none. `length` is the number of tokens. Unless `training`, the columns that
    `windows` reads are added (`POST_PROCESSING`).

    Args:
        pad (`bool`):
            Pad every feature to `max_seq_length` here, rather than each batch to its longest later.

    Raises:
        ValueError: if a question leaves no room to move the window by `doc_stride`; names the questions.
    """
    questions = [question.lstrip() for question in rows["question"]]
    _check_room(rows["id"], questions, rows["context"], tokenizer, max_seq_length, doc_stride)
    context_part = 1 if tokenizer.padding_side == "right" else 0
    pair = (questions, rows["context"]) if context_part == 1 else (rows["context"], questions)
    encoding = tokenizer(
        *pair,
        truncation="only_second" if context_part == 1 else "only_first",
        max_length=max_seq_length,
        stride=doc_stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding="max_length" if pad else False,
    )
    features: Rows = {name: encoding[name] for name in tokenizer.model_input_names if name in encoding}
    spans = [_locate(encoding, number, context_part, tokenizer) for number in range(len(encoding["input_ids"]))]
    sources = encoding["overflow_to_sample_mapping"]
    positions = [span.tokens_of(rows["answers"][source]) for span, source in zip(spans, sources, strict=True)]
    features["start_positions"] = [start for start, _ in positions]
    features["end_positions"] = [end for _, end in positions]
    features["length"] = [sum(mask) for mask in encoding["attention_mask"]]
    if not training:
        features["example"] = [indices[source] for source in sources]
        features["null"] = [span.null for span in spans]
        features["offset_starts"] = [span.starts for span in spans]
        features["offset_ends"] = [span.ends for span in spans]
    return features


def windows(features: Dataset) -> Windows:
    """Returns the columns for post-processing of evaluation features, as arrays."""
    table = features.with_format("arrow")[:]
    starts, ends = (table[name].combine_chunks() for name in ("offset_starts", "offset_ends"))
    length = np.diff(starts.offsets.to_numpy())
    offsets = np.full((len(features), int(length.max(initial=0)), 2), NO_TOKEN, dtype=np.int32)
    inside = np.arange(offsets.shape[1]) < length[:, None]
    for side, column in enumerate((starts, ends)):
        offsets[inside, side] = column.flatten().to_numpy()
    return Windows(table["example"].to_numpy(), offsets, table["null"].to_numpy())


@dataclass(frozen=True)
class _Span:
    """One feature: its row of `Windows.offsets`, first and past-the-last position of the context, and of `[CLS]`."""

    starts: np.ndarray
    ends: np.ndarray
    first: int
    stop: int
    null: int

    def tokens_of(self, answers: dict[str, list[Any]]) -> tuple[int, int]:
        """Returns first and last token of the first answer, or twice `null` if the window does not hold it all."""
        if not answers["text"] or self.first == self.stop:
            return self.null, self.null
        begin = answers["answer_start"][0]
        end = begin + len(answers["text"][0])
        starts, ends = self.starts[self.first : self.stop], self.ends[self.first : self.stop]
        if starts[0] > begin or ends[-1] < end:
            return self.null, self.null
        start_token = int(np.searchsorted(starts, begin, side="right")) - 1
        return self.first + start_token, self.first + int(np.searchsorted(ends, end, side="left"))


def _locate(encoding: BatchEncoding, number: int, context_part: int, tokenizer: PreTrainedTokenizerBase) -> _Span:
    """Returns where the context stands in feature `number`."""
    parts = np.array([-1 if part is None else part for part in encoding.sequence_ids(number)])
    inside = np.flatnonzero(parts == context_part)
    first, stop = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
    offsets = np.array(encoding["offset_mapping"][number], dtype=np.int32).reshape(-1, 2)
    offsets[parts != context_part] = -1
    offsets[np.array(encoding["attention_mask"][number]) == 0] = NO_TOKEN
    ids = encoding["input_ids"][number]
    null = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0
    return _Span(offsets[:, 0], offsets[:, 1], first, stop, null)


def _check_room(
    ids: list[str],
    questions: list[str],
    contexts: list[str],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    doc_stride: int,
) -> None:
    """Raises `ValueError` if a context must be cut but the question leaves it no more than `doc_stride` tokens."""
    special = tokenizer.num_special_tokens_to_add(pair=True)
    lengths = [len(tokens) for tokens in tokenizer(questions, add_special_tokens=False)["input_ids"]]
    tight = [index for index, length in enumerate(lengths) if length + special + doc_stride >= max_seq_length]
    problems = []
    for index in tight:
        context = len(tokenizer(contexts[index], add_special_tokens=False)["input_ids"])
        if lengths[index] + special + context > max_seq_length:
            problems.append(f"question '{ids[index]}' has {lengths[index]} tokens")
    if problems:
        need = max(lengths[index] for index in tight) + special + 1
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ValueError(
            f"--max_seq_length {max_seq_length} --doc_stride {doc_stride}: {'; '.join(problems[:3])}{more}, which "
            f"with {special} special tokens leaves its context no more than the stride; "
            f"give --max_seq_length of at least {need + doc_stride}, or lower --doc_stride"
        )
