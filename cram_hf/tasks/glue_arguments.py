"""The data flags of `run_glue.py`: those of Hugging Face's `run_glue.py` and `--glue_dir`, checked."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from cram_hf.tasks.files import GLUE_FILES, count_problems, extension_problems
from cram_hf.tasks.glue_tasks import GLUE_TASKS, HUB

_NAMES = ", ".join(GLUE_TASKS)


def _usual(name: str) -> str:
    """Returns a task's word for its name in any form: `sst2` for SST-2."""
    return name.lower().replace("-", "")


@dataclass
class GlueArguments:
    """
    Which sentences to train and evaluate on, from where, and how many tokens of them.

    The data are one of GLUE's tasks (`task_name`, from the Hub or from `glue_dir`), another set on the Hub
    (`dataset_name`), or files. Defaults are those of Hugging Face's `run_glue.py`, except that batches are padded to
    their longest row rather than to `max_seq_length`. Every field's help says what it does.

    Raises:
        ValueError: if values are out of range or contradict each other; all problems are named at once.
    """

    task_name: str | None = field(default=None, metadata={"help": f"One of GLUE's tasks: {_NAMES}."})
    glue_dir: str | None = field(
        default=None,
        metadata={"help": "Folder with the task in GLUE's official files: DIR/RTE/train.tsv, or DIR/train.tsv."},
    )
    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": f"Data set on the Hub. With --task_name by default {HUB}; alone, one with a column 'label' and "
            "one or two columns of text."
        },
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "Configuration of the data set on the Hub. Default: the task's name."}
    )
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "Training rows of your own: CSV, TSV (without quoting, as GLUE's), JSON, JSON lines or parquet, "
            "with a column 'label' and the texts in 'sentence1' (and 'sentence2') or the first one or two columns of "
            "text. Labels that are numbers with a fraction are scores to predict, others are classes."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "Evaluation rows, in the same forms."})
    test_file: str | None = field(
        default=None, metadata={"help": "Rows to predict (--do_predict); the label may be missing and is not used."}
    )
    max_seq_length: int = field(default=128, metadata={"help": "Tokens of a row, special tokens included."})
    overwrite_cache: bool = field(default=False, metadata={"help": "Make the features anew, even if cached."})
    pad_to_max_length: bool = field(
        default=False,
        metadata={"help": "Pad every row to --max_seq_length rather than each batch to its longest row."},
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first so many rows."})
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Evaluate on the first so many rows (of each of MNLI's two sets)."}
    )
    max_predict_samples: int | None = field(
        default=None, metadata={"help": "Predict the first so many rows (of each of MNLI's sets)."}
    )
    interim_eval_samples: int | None = field(
        default=None,
        metadata={
            "help": "During training, evaluate on a fixed sample of so many of the evaluation rows (of each of MNLI's "
            "two sets; always the same ones, chosen by a hash of their place); at the end on all of them."
        },
    )

    def __post_init__(self) -> None:
        """Brings the task's name into its usual form; raises `ValueError` with all problems."""
        problems = [*self._range_problems(), *self._task_problems(), *self._source_problems()]
        if problems:
            raise ValueError("\n".join(problems))
        self.task_name = self.task_name and _usual(self.task_name)
        if self.task_name and not self.glue_dir and not self.dataset_name:
            self.dataset_name = HUB

    def _range_problems(self) -> list[str]:
        """Returns a sentence for every number out of range."""
        samples = [f"max_{part}_samples" for part in ("train", "eval", "predict")]
        values = {name: getattr(self, name) for name in ["max_seq_length", *samples, "interim_eval_samples"]}
        return count_problems(values)

    def _task_problems(self) -> list[str]:
        """Returns a sentence if the task is unknown, or missing where it is needed."""
        if self.task_name is None:
            return [f"--glue_dir {self.glue_dir} needs --task_name: one of {_NAMES}"] if self.glue_dir else []
        name = _usual(self.task_name)
        if name in GLUE_TASKS:
            return []
        near = difflib.get_close_matches(name, GLUE_TASKS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        return [f"--task_name {self.task_name}: unknown; it must be one of {_NAMES}{hint}"]

    def _source_problems(self) -> list[str]:
        """Returns a sentence for every contradiction about where the rows come from."""
        names = ("train_file", "validation_file", "test_file")
        files = {name: path for name in names if (path := getattr(self, name)) is not None}
        problems = extension_problems(files, GLUE_FILES)
        flags = ("glue_dir", "dataset_name") if self.glue_dir or self.dataset_name else ("task_name",)
        given = [f"--{flag} {value}" for flag in flags if (value := getattr(self, flag)) is not None]
        given += [f"--{name} {path}" for name, path in list(files.items())[:1]]
        if len(given) > 1:
            problems.append(f"{' and '.join(given)} are given; take the rows either from GLUE, or the Hub, or files")
        if not given:
            problems.append(
                "No data: give --task_name rte (from the Hub, or with --glue_dir DIR from files), or --train_file "
                "train.csv --validation_file dev.csv, or --dataset_name NAME"
            )
        if self.dataset_config_name and not (self.dataset_name or (self.task_name and not self.glue_dir)):
            problems.append(f"--dataset_config_name {self.dataset_config_name} needs --dataset_name or --task_name")
        return problems
