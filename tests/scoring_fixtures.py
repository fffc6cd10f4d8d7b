"""Tiny trained-looking models and the data they are scored on, shared by the tests of `sweep` and `choose`."""

from __future__ import annotations

from pathlib import Path

import torch
from conftest import tiny_config
from glue_fixtures import write_glue
from mlm_fixtures import LINES, tiny_model, write_lines
from squad_fixtures import RECORDS, nested, tiny_tokenizer, write_json
from transformers import BertForQuestionAnswering, BertForSequenceClassification, PreTrainedModel


def save_model(model: PreTrainedModel, folder: Path) -> str:
    """Saves the model with a tokenizer that has all words; returns the folder as a user types it."""
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def qa_folder(folder: Path, seed: int = 0) -> str:
    """A model whose answers depend on its weights: large ones, so that pruning changes scores."""
    torch.manual_seed(seed)
    config = tiny_config()
    config.vocab_size, config.max_position_embeddings, config.initializer_range = len(tiny_tokenizer()), 128, 0.5
    return save_model(BertForQuestionAnswering(config), folder)


def classifier_folder(folder: Path, labels: tuple[str, ...]) -> str:
    torch.manual_seed(0)
    config = tiny_config(len(labels))
    config.vocab_size, config.max_position_embeddings = len(tiny_tokenizer()), 128
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    return save_model(BertForSequenceClassification(config), folder)


def mlm_folder(folder: Path) -> str:
    return save_model(tiny_model(len(tiny_tokenizer())), folder)


def squad_flags(folder: Path) -> list[str]:
    """The flags of three questions; the file is written."""
    path = write_json(folder / "squad.json", nested(RECORDS))
    return ["--task", "squad", "--validation_file", str(path), "--max_seq_length", "64", "--doc_stride", "16"]


def rte_flags(folder: Path) -> list[str]:
    return ["--task", "rte", "--glue_dir", str(write_glue(folder / "glue")), "--max_seq_length", "32"]


def mlm_flags(folder: Path) -> list[str]:
    path = write_lines(folder / "dev.txt", LINES[::-1], times=4)
    return ["--task", "mlm", "--validation_file", path, "--max_seq_length", "16"]
