"""The data flags of `run_mlm.py`: those of Hugging Face's `run_mlm.py` and those of a new tokenizer, checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from cram_hf.tasks.files import MLM_FILES, count_problems, source_problems


@dataclass
class MlmArguments:
    """
    Which text to train and evaluate on, how it is cut into rows, and how much of a row is masked.

    Defaults are those of Hugging Face's script. A row is a block of `max_seq_length` tokens, or one text (a line of a
    text file, a record of any other) with `line_by_line`.

    Raises:
        ValueError: if values are out of range or contradict each other; all problems are named at once.
    """

    dataset_name: str | None = field(
        default=None, metadata={"help": "Data set on the Hub with a column 'text', such as Salesforce/wikitext."}
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "Configuration of the data set on the Hub, such as wikitext-2-raw-v1."}
    )
    train_file: str | None = field(
        default=None,
        metadata={"help": "Training text: .txt, one text a line; or JSON, JSON lines, CSV, parquet with a 'text'."},
    )
    validation_file: str | None = field(default=None, metadata={"help": "Evaluation text, in the same forms."})
    overwrite_cache: bool = field(default=False, metadata={"help": "Make the rows anew, even if cached."})
    validation_split_percentage: int = field(
        default=5,
        metadata={"help": "Without a validation set, so many of every 100 training texts are kept for evaluation."},
    )
    max_seq_length: int | None = field(
        default=None,
        metadata={"help": "Tokens of a row, special ones included. Default: the tokenizer's limit, at most 1024."},
    )
    preprocessing_num_workers: int | None = field(
        default=None, metadata={"help": "Processes that tokenise. The tokenizer is multi-threaded already."}
    )
    mlm_probability: float = field(
        default=0.15, metadata={"help": "Share of the tokens (or words) to predict, in training and evaluation."}
    )
    line_by_line: bool = field(
        default=False, metadata={"help": "A row for each text, cut at --max_seq_length, instead of full blocks."}
    )
    pad_to_max_length: bool = field(
        default=False, metadata={"help": "Pad to --max_seq_length rather than each batch to its longest row."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first so many rows."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on the first so many rows."})
    streaming: bool = field(
        default=False, metadata={"help": "Read the training text while training, for sets too large to store."}
    )
    shuffle_buffer_size: int = field(
        default=10_000, metadata={"help": "With --streaming, rows among which the next one is drawn at random."}
    )
    whole_word_mask: bool = field(
        default=False, metadata={"help": "Mask all tokens of a word together instead of single tokens."}
    )
    train_tokenizer: bool = field(
        default=False, metadata={"help": "Make a lower-casing WordPiece tokenizer from the training text."}
    )
    vocab_size: int | None = field(
        default=None, metadata={"help": "Tokens of the new tokenizer, fewer if the text is small. Default: 30522."}
    )

    def __post_init__(self) -> None:
        """Raises `ValueError` with all problems."""
        problems = [*self._range_problems(), *self._source_problems(), *self._contradictions()]
        if problems:
            raise ValueError("\n".join(problems))

    def _range_problems(self) -> list[str]:
        """Returns a sentence for every number out of range."""
        counts = ["max_seq_length", "preprocessing_num_workers", "max_train_samples", "max_eval_samples"]
        counts += ["shuffle_buffer_size", "vocab_size"]
        values = {name: getattr(self, name) for name in counts}
        problems = count_problems(values)
        if not 0 < self.mlm_probability < 1:
            problems.append(f"--mlm_probability {self.mlm_probability}: must be between 0 and 1; 0.15 is usual")
        if not 0 < self.validation_split_percentage < 100:
            problems.append(
                f"--validation_split_percentage {self.validation_split_percentage}: must be from 1 to 99; "
                "5 keeps every twentieth text"
            )
        return problems

    def _source_problems(self) -> list[str]:
        """Returns a sentence for every contradiction about where the text comes from."""
        files = {"train_file": self.train_file, "validation_file": self.validation_file}
        given = {name: path for name, path in files.items() if path is not None}
        return source_problems(given, MLM_FILES, self.dataset_name, self.dataset_config_name, "text")

    def _contradictions(self) -> list[str]:
        """Returns a sentence for every flag that another one makes meaningless or impossible."""
        problems = []
        if self.vocab_size is not None and not self.train_tokenizer:
            problems.append(f"--vocab_size {self.vocab_size} needs --train_tokenizer; other tokenizers keep theirs")
        if self.train_tokenizer and self.streaming and self.dataset_name:
            problems.append(
                "--train_tokenizer with --streaming would read the whole data set first; make the tokenizer once from "
                "a text file of a fair part of it, and give its folder as --tokenizer_name"
            )
        if self.train_tokenizer and not (self.dataset_name or self.train_file):
            problems.append("--train_tokenizer needs training text; give --train_file text.txt or --dataset_name")
        return problems
