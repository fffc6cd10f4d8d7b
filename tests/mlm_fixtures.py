"""A few lines of invented text and a tiny masked language model, shared by the tests of that task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from conftest import tiny_config
from squad_fixtures import tiny_tokenizer
from transformers import BertForMaskedLM, PreTrainedTokenizerBase

from cram_hf import CrAMArguments
from cram_hf.tasks.base import TaskData
from cram_hf.tasks.mlm import MaskedLM

LINES = [
    "The miller of the river kept many geese.",
    "Who kept the geese?",
    "",
    "The baker did.",
    "How did the baker of the river, who kept geese, know the miller?",
    "the geese the geese the geese the geese",
]


def write_lines(path: Path, lines: list[str] | None = None, times: int = 1) -> str:
    """Writes a text file and returns its name."""
    path.write_text("".join(line + "\n" for line in (LINES if lines is None else lines) * times), encoding="utf-8")
    return str(path)


def arguments(folder: Path, **changes: Any) -> CrAMArguments:
    settings: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "max_steps": 2,
        "learning_rate": 0.01,
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 7,
    }
    return CrAMArguments(**settings | changes)


def prepare(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
    training: dict[str, Any] | None = None,
    **flags: Any,
) -> TaskData:
    """The data of a run that trains and evaluates, unless `training` says otherwise."""
    settings = {"do_train": True, "do_eval": True, **(training or {})}
    task_args = MaskedLM.Arguments(**{"max_seq_length": 16, **flags})
    return MaskedLM().prepare(task_args, tokenizer or tiny_tokenizer(), arguments(folder, **settings))


def tiny_model(vocabulary: int) -> BertForMaskedLM:
    """The same weights every time, dropout off, logits of some size."""
    torch.manual_seed(0)
    config = tiny_config()
    config.vocab_size, config.max_position_embeddings, config.initializer_range = vocabulary, 64, 0.5
    return BertForMaskedLM(config)
