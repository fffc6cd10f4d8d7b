"""Sparse transfer by the scripts: an export is fine-tuned on another task, and its zeros are in the saved model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_config
from glue_fixtures import killed_at, write_glue
from mlm_fixtures import write_lines
from safetensors.torch import load_file
from squad_fixtures import tiny_tokenizer
from transformers import BertModel

from cram_hf.loading import ModelArguments, ScratchArguments
from cram_hf.runner import main
from cram_hf.tasks.glue import Glue
from cram_hf.tasks.mlm import MaskedLM

CRAM = ["--compressors", "topk:0.8", "--export", "topk:0.8"]


def run(task: Any, start: Path, output: Path, *flags: str) -> int:
    """Three updates of AdamW with weight decay."""
    words = ["--model_name_or_path", str(start), "--output_dir", str(output), "--do_train", "--do_eval"]
    words += ["--max_steps", "3", "--learning_rate", "1e-2", "--weight_decay", "0.1", "--max_seq_length", "32"]
    words += ["--per_device_train_batch_size", "2", "--disable_tqdm", "true", *flags]
    return main(task, words, ScratchArguments if isinstance(task, MaskedLM) else ModelArguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of two tasks and, in `export/topk_0.6`, a masked language model pruned after training."""
    folder = tmp_path_factory.mktemp("upstream")
    tokenizer, config = tiny_tokenizer(), tiny_config()
    config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_glue(folder / "glue")
    write_lines(folder / "text.txt", times=20)
    assert run(MaskedLM(), folder / "model", folder / "mlm", *mlm(folder), "--export", "topk:0.6") == 0
    return folder


def mlm(folder: Path) -> list[str]:
    return ["--train_file", str(folder / "text.txt"), "--validation_file", str(folder / "text.txt")]


def glue(folder: Path) -> list[str]:
    return ["--task_name", "rte", "--glue_dir", str(folder / "glue")]


def zeros(folder: Path) -> dict[str, torch.Tensor]:
    """Where the matrices of the blocks are zero in the file."""
    weights = load_file(folder / "model.safetensors")
    found = {name: w == 0 for name, w in weights.items() if ".layer." in name and w.dim() == 2}
    assert len(found) == 12
    return found


def share(found: dict[str, torch.Tensor]) -> float:
    return sum(int(mask.sum()) for mask in found.values()) / sum(mask.numel() for mask in found.values())


def are_kept(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return all(bool(after[name][mask].all()) for name, mask in before.items())


@pytest.mark.parametrize("cram", [[], CRAM], ids=["plain", "cram"])
@pytest.mark.parametrize(("task", "data"), [(Glue(), glue), (MaskedLM(), mlm)], ids=["glue", "mlm"])
def test_the_zeros_of_an_export_are_in_the_model_fine_tuned_from_it(
    folder: Path, tmp_path: Path, task: Any, data: Any, cram: list[str]
) -> None:
    start = folder / "mlm" / "export" / "topk_0.6"
    assert share(zeros(start)) == pytest.approx(0.6, abs=1e-3)
    assert run(task, start, tmp_path / "out", *data(folder), "--keep_sparsity", *cram) == 0
    after = zeros(tmp_path / "out")
    assert are_kept(zeros(start), after)
    assert share(after) == pytest.approx(0.6, abs=1e-3)  # the rest of it is trained
    if cram:  # denser to sparser
        sparser = zeros(tmp_path / "out" / "export" / "topk_0.8")
        assert are_kept(zeros(start), sparser)
        assert share(sparser) == pytest.approx(0.8, abs=1e-3)


def test_without_the_flag_they_are_lost(folder: Path, tmp_path: Path) -> None:
    start = folder / "mlm" / "export" / "topk_0.6"
    assert run(Glue(), start, tmp_path / "out", *glue(folder)) == 0
    assert share(zeros(tmp_path / "out")) < 0.1


def test_a_run_that_was_cut_off_keeps_them_and_ends_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    start = folder / "mlm" / "export" / "topk_0.6"
    flags = [*glue(folder), "--keep_sparsity", *CRAM, "--save_strategy", "steps", "--save_steps", "1"]
    assert run(Glue(), start, tmp_path / "whole", *flags) == 0
    with killed_at(1):  # of two in an epoch
        assert run(Glue(), start, tmp_path / "cut", *flags) == 130
    assert run(Glue(), start, tmp_path / "cut", *flags) == 0
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert are_kept(zeros(start), zeros(tmp_path / "cut"))


def test_a_model_that_is_not_pruned_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(Glue(), folder / "model", tmp_path / "out", *glue(folder), "--keep_sparsity") == 2
    assert "Start from a pruned checkpoint (--export topk:0.8 writes one)" in capsys.readouterr().err
