"""Makes the training rows and the evaluation set of a masked language model from texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase, TrainingArguments

from cram_hf.tasks.base import EvalSet
from cram_hf.tasks.mlm_arguments import MlmArguments
from cram_hf.tasks.mlm_features import Frame, RowMaker, make_rows
from cram_hf.tasks.mlm_masking import Masking, MaskingCollator, mask_once
from cram_hf.tasks.mlm_scoring import MaskedScorer
from cram_hf.tasks.mlm_sources import AnyDataset, Part, Texts, load_texts


@dataclass(frozen=True)
class MlmSets:
    """
    Makes the sets of one run from its flags.

    Args:
        args ([`MlmArguments`]): the flags.
        tokenizer (`PreTrainedTokenizerBase`): it is not changed.
        training_args (`TrainingArguments`): for the seed, the order of processes and the form of batches.
        frame ([`Frame`]): what goes around the text of a row, and its length.
        masking ([`Masking`]): how tokens are chosen and hidden.
    """

    args: MlmArguments
    tokenizer: PreTrainedTokenizerBase
    training_args: TrainingArguments
    frame: Frame
    masking: Masking

    def train_rows(self, report: dict[str, Any]) -> AnyDataset:
        """Returns the rows to train on, streamed ones in the order of a shuffling buffer, and reports them."""
        texts, limit = load_texts(self.args, "train"), self.args.max_train_samples
        rows = self._rows(texts, "train")
        report["train"] = {"source": texts.source}
        if isinstance(rows, IterableDataset):
            if next(iter(rows), None) is None:
                raise self._no_row(texts)
            report["train"]["streamed"] = True
            seed = self.training_args.seed if self.training_args.data_seed is None else self.training_args.data_seed
            rows = rows if limit is None else rows.take(limit)
            return rows.shuffle(seed=seed, buffer_size=self.args.shuffle_buffer_size)
        rows = self._limited(rows, texts, limit)
        report["train"] |= _counts(texts, rows)
        return rows

    def eval_set(self, report: dict[str, Any]) -> EvalSet:
        """Returns the rows to evaluate on, masked once, longest first, with what scores them."""
        texts, limit = load_texts(self.args, "evaluation"), self.args.max_eval_samples
        rows = self._rows(texts, "evaluation")
        if isinstance(rows, IterableDataset):
            rows = Dataset.from_list(list(rows if limit is None else rows.take(limit)))
        rows = self._limited(rows, texts, limit)
        with self.training_args.main_process_first(desc="evaluation masks"):
            rows = rows.map(
                mask_once,
                batched=True,
                with_indices=True,
                remove_columns=[column for column in rows.column_names if column != "length"],
                fn_kwargs={"masking": self.masking},
                load_from_cache_file=not self.args.overwrite_cache,
                desc="Masking evaluation rows",
            )
        rows = rows.select(np.argsort(-np.asarray(rows["length"]), kind="stable"))
        masked = sum(label != -100 for labels in rows["labels"] for label in labels)
        report["evaluation"] = {"source": texts.source, **_counts(texts, rows), "masked_tokens": masked}
        return EvalSet(rows, MaskedScorer(len(rows), masked), _write_nothing, len(rows))

    def longest(self, *sets: AnyDataset) -> int:
        """Returns the tokens of the longest row: of the stored sets, or what a stream or padding may give."""
        if self.args.pad_to_max_length or any(isinstance(rows, IterableDataset) for rows in sets):
            return self.frame.length
        return max((max(rows["length"]) for rows in sets), default=0)

    def collator(self) -> MaskingCollator:
        """Returns what makes batches; on GPUs with half precision their length is a multiple of 8."""
        half = self.training_args.fp16 or self.training_args.bf16
        # Several processes are handed the batches of a stream by the first one, in one piece.
        fixed = self.args.pad_to_max_length or (self.args.streaming and self.training_args.world_size > 1)
        return MaskingCollator(
            self.masking,
            pad_id=int(self.tokenizer.pad_token_id),
            seed=self.training_args.seed,
            left=self.tokenizer.padding_side == "left",
            width=self.frame.length if fixed else None,
            multiple=8 if half and self.training_args.device.type == "cuda" else 1,
        )

    def _rows(self, texts: Texts, part: Part) -> AnyDataset:
        """Returns the rows of the texts, not yet masked."""
        maker = RowMaker(self.frame, blocks=not self.args.line_by_line)
        words = self.args.whole_word_mask
        if isinstance(texts.rows, IterableDataset):
            return make_rows(texts.rows, self.tokenizer, maker, words=words)
        with self.training_args.main_process_first(desc=f"{part} rows"):
            return make_rows(
                texts.rows,
                self.tokenizer,
                maker,
                words=words,
                num_proc=self.args.preprocessing_num_workers,
                load_from_cache_file=not self.args.overwrite_cache,
                desc=f"Making {part} rows",
            )

    def _limited(self, rows: Dataset, texts: Texts, limit: int | None) -> Dataset:
        """Returns the first rows. Raises `ValueError` if there is none."""
        if not len(rows):
            raise self._no_row(texts)
        return rows.select(range(min(len(rows), limit or len(rows))))

    def _no_row(self, texts: Texts) -> ValueError:
        """Returns the error for text that makes no row."""
        if self.args.line_by_line:
            return ValueError(f"{texts.source}: no text has a token that could be masked; check the file")
        return ValueError(
            f"{texts.source}: the text is too short to fill one block of {self.frame.length} tokens; "
            "give more text or a smaller --max_seq_length, or add --line_by_line for a row a text"
        )


def _counts(texts: Texts, rows: Dataset) -> dict[str, int]:
    """Returns what the report says of the numbers of texts, unknown when streamed, and of rows."""
    examples = {} if isinstance(texts.rows, IterableDataset) else {"examples": len(texts.rows)}
    return {**examples, "features": len(rows)}


def _write_nothing(predictions: Any, folder: Path, prefix: str) -> None:
    """Writes no file: numbers of masked tokens are no answers that anyone would read."""
