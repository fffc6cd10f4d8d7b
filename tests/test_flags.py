"""The flags of Hugging Face's own scripts are ours too, with their defaults, and a token among them stays secret."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from conftest import tiny_config
from glue_fixtures import write_glue
from squad_fixtures import tiny_tokenizer
from transformers import BertModel

from cram_hf import CrAMArguments
from cram_hf.config import Parser
from cram_hf.loading import ModelArguments, ScratchArguments, load_tokenizer
from cram_hf.report import OutputArguments
from cram_hf.runner import main
from cram_hf.tasks.glue import Glue
from cram_hf.tasks.mlm import MaskedLM
from cram_hf.tasks.squad import Squad

# ModelArguments and DataTrainingArguments of run_qa.py, run_glue.py and run_mlm.py in transformers' repository, in the
# form they have since --overwrite_output_dir is gone. The flags of TrainingArguments are inherited.
MODEL: dict[str, Any] = {
    "model_name_or_path": None,
    "config_name": None,
    "tokenizer_name": None,
    "cache_dir": None,
    "model_revision": "main",
    "token": None,
    "trust_remote_code": False,
}
SETS: dict[str, Any] = {
    "dataset_name": None,
    "dataset_config_name": None,
    "train_file": None,
    "validation_file": None,
    "overwrite_cache": False,
    "max_train_samples": None,
    "max_eval_samples": None,
}
QA: dict[str, Any] = {
    "test_file": None,
    "preprocessing_num_workers": None,
    "max_seq_length": 384,
    "pad_to_max_length": True,
    "max_predict_samples": None,
    "version_2_with_negative": False,
    "null_score_diff_threshold": 0.0,
    "doc_stride": 128,
    "n_best_size": 20,
    "max_answer_length": 30,
}
GLUE: dict[str, Any] = {
    "use_fast_tokenizer": True,
    "ignore_mismatched_sizes": False,
    "task_name": None,
    "max_seq_length": 128,
    "pad_to_max_length": True,
    "max_predict_samples": None,
    "test_file": None,
}
MLM: dict[str, Any] = {
    "model_type": None,
    "config_overrides": None,
    "use_fast_tokenizer": True,
    "dtype": None,
    "validation_split_percentage": 5,
    "max_seq_length": None,
    "preprocessing_num_workers": None,
    "mlm_probability": 0.15,
    "line_by_line": False,
    "pad_to_max_length": False,
    "streaming": False,
}

# What differs on purpose. No flag is left out.
OTHER_DEFAULT = {
    "pad_to_max_length": False,  # most of a padded row is padding; the scores are the same
    "dtype": "float32",  # theirs is the checkpoint's: one in half precision would be trained in half precision
}


@pytest.mark.parametrize(
    ("task", "model", "flags"),
    [(Squad, ModelArguments, QA), (Glue, ModelArguments, GLUE), (MaskedLM, ScratchArguments, MLM)],
)
def test_every_flag_of_the_hf_script_is_known_with_its_default(task: Any, model: type, flags: dict[str, Any]) -> None:
    parser = Parser((model, task.Arguments, CrAMArguments, OutputArguments), description="")
    theirs = MODEL | SETS | flags
    assert {f"--{name}" for name in theirs} <= parser._flags.keys()
    ours = {name: parser._flags[f"--{name}"].default for name in theirs}
    changed = {name: value for name, value in OTHER_DEFAULT.items() if name in theirs}
    assert {name: None if value == "" else value for name, value in ours.items()} == theirs | changed


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A folder with a tiny model and GLUE's files."""
    tokenizer, config = tiny_tokenizer(), tiny_config()
    config.vocab_size = len(tokenizer)
    BertModel(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    write_glue(tmp_path / "glue")
    return tmp_path


@pytest.mark.parametrize("seeds", [[], ["--seeds", "1", "2"]], ids=["one", "seeds"])
def test_a_token_reaches_the_hub_and_no_file_and_no_output(
    start: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], seeds: list[str]
) -> None:
    token = "hf_" + "y" * 34
    words = ["--model_name_or_path", str(start / "model"), "--output_dir", str(start / "out"), "--token", token]
    words += ["--task_name", "rte", "--glue_dir", str(start / "glue"), "--max_steps", "1", "--max_seq_length", "32"]
    words += ["--do_train", "--do_eval", "--compressors", "topk:0.5", "--export", "topk:0.5", *seeds]
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr(sys, "argv", ["run_glue.py", *words])
    assert main(Glue(), words) == 0
    assert os.environ["HF_TOKEN"] == token
    assert token not in "".join(capfd.readouterr())
    files = [path for path in (start / "out").rglob("*") if path.is_file()]
    assert {"results.json", "training_args.bin", "README.md", "model.safetensors"} <= {path.name for path in files}
    for path in files:
        assert token.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(("kind", "flag"), [(ModelArguments, "model_name_or_path"), (ScratchArguments, "config_name")])
def test_a_token_is_in_no_object(monkeypatch: pytest.MonkeyPatch, kind: type[ModelArguments], flag: str) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    assert "hf_secret" not in str(vars(kind(**{flag: "x", "token": "hf_secret"})))
    assert os.environ["HF_TOKEN"] == "hf_secret"


def test_the_cache_folder_is_that_of_data_sets_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_DATASETS_CACHE", "DOWNLOADED_DATASETS_PATH"):  # so that they are put back
        monkeypatch.setattr(datasets.config, name, tmp_path / "usual")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.csv").write_text("text,label\ngeese,1\nmill,0\n")
    ModelArguments("x", cache_dir=str(tmp_path / "cache"))
    builder = datasets.load_dataset_builder(str(tmp_path / "set"))
    assert Path(builder.cache_dir).is_relative_to(tmp_path / "cache")
    assert Path(builder._cache_downloaded_dir).is_relative_to(tmp_path / "cache")


def test_a_slow_tokenizer_is_not_to_be_had_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    load_tokenizer(ModelArguments(str(tmp_path)))
    assert not caplog.records
    load_tokenizer(ModelArguments(str(tmp_path), use_fast_tokenizer=False))
    assert "--use_fast_tokenizer false has no effect: transformers 5 has one tokenizer" in caplog.text


def test_another_type_of_weights_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(Squad(), ["--model_name_or_path", "x", "--train_file", "a.json", "--dtype", "half"]) == 2
    assert "--dtype half: invalid choice: 'half' (choose from" in capsys.readouterr().err
