"""The data flags of `run_squad.py`: those of Hugging Face's `run_qa.py`, checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from cram_hf.tasks.files import SQUAD_FILES, count_problems, source_problems


@dataclass
class SquadArguments:
    """
    Which questions to train and evaluate on, and how contexts are cut and answers chosen.

    Defaults are those of `run_qa.py`, except that batches are padded to their longest feature rather than to
    `max_seq_length`. Every field's help says what it does.

    Raises:
        ValueError: if values are out of range or contradict each other; all problems are named at once.
    """

    dataset_name: str | None = field(
        default=None, metadata={"help": "Data set on the Hub, such as rajpurkar/squad or rajpurkar/squad_v2."}
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "Configuration of the data set on the Hub, where it has several."}
    )
    train_file: str | None = field(
        default=None, metadata={"help": "Training questions: SQuAD JSON, flat JSON, JSON lines, CSV or parquet."}
    )
    validation_file: str | None = field(default=None, metadata={"help": "Evaluation questions, in the same forms."})
    test_file: str | None = field(
        default=None, metadata={"help": "Questions to predict answers for (--do_predict); answers may be missing."}
    )
    overwrite_cache: bool = field(default=False, metadata={"help": "Make the features anew, even if cached."})
    preprocessing_num_workers: int | None = field(
        default=None, metadata={"help": "Processes that make features. The tokenizer is multi-threaded already."}
    )
    max_seq_length: int = field(
        default=384, metadata={"help": "Tokens of a feature: question, special tokens and a part of the context."}
    )
    pad_to_max_length: bool = field(
        default=False,
        metadata={"help": "Pad every feature to --max_seq_length rather than each batch to its longest feature."},
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first so many questions."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on the first so many questions."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Predict the first so many questions."})
    interim_eval_samples: int | None = field(
        default=None,
        metadata={
            "help": "During training, evaluate on a fixed sample of so many of the evaluation questions (always the "
            "same ones, chosen by a hash of their ids); at the end on all of them."
        },
    )
    version_2_with_negative: bool = field(
        default=False, metadata={"help": "Some questions have no answer (SQuAD v2.0)."}
    )
    null_score_diff_threshold: float = field(
        default=0.0,
        metadata={
            "help": "Answer nothing if the score of 'no answer' exceeds that of the best span by more than this. "
            "Only with --version_2_with_negative."
        },
    )
    doc_stride: int = field(
        default=128, metadata={"help": "Tokens that neighbouring windows over a long context share."}
    )
    n_best_size: int = field(
        default=20, metadata={"help": "How many start and end positions are paired, and answers listed."}
    )
    max_answer_length: int = field(default=30, metadata={"help": "Longest answer, in tokens."})

    def __post_init__(self) -> None:
        """Raises `ValueError` with all problems."""
        problems = [*self._range_problems(), *self._source_problems()]
        if problems:
            raise ValueError("\n".join(problems))

    def _range_problems(self) -> list[str]:
        """Returns a sentence for every number out of range."""
        counts = ["max_seq_length", "n_best_size", "max_answer_length", "preprocessing_num_workers"]
        counts += ["max_train_samples", "max_eval_samples", "max_predict_samples", "interim_eval_samples"]
        values = {name: getattr(self, name) for name in counts}
        problems = count_problems(values)
        if self.doc_stride < 0 or self.doc_stride >= self.max_seq_length:
            problems.append(
                f"--doc_stride {self.doc_stride}: must be at least 0 and less than --max_seq_length "
                f"{self.max_seq_length} minus the question; a third of --max_seq_length is usual"
            )
        return problems

    def _source_problems(self) -> list[str]:
        """Returns a sentence for every contradiction about where the questions come from."""
        files = {name: getattr(self, name) for name in ("train_file", "validation_file", "test_file")}
        given = {name: path for name, path in files.items() if path is not None}
        return source_problems(given, SQUAD_FILES, self.dataset_name, self.dataset_config_name, "questions")
