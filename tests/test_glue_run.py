"""A whole run of run_glue.py on a tiny model: training, scores, pictures, submissions, exports and refusals."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_config
from glue_fixtures import killed_at, write_glue
from safetensors.torch import load_file
from squad_fixtures import tiny_tokenizer, write_csv
from transformers import AutoModelForSequenceClassification, BertModel, pipeline

from cram_hf.results import Results
from cram_hf.runner import main
from cram_hf.tasks.glue import Glue

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model without a head, GLUE's tasks and a config file."""
    folder = tmp_path_factory.mktemp("workshop")
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = tiny_config()
    config.vocab_size, config.max_position_embeddings = len(tokenizer), 128
    BertModel(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_glue(folder / "glue")
    (folder / "tiny.yaml").write_text(
        f"model_name_or_path: {folder / 'model'}\nglue_dir: {folder / 'glue'}\n"
        "do_train: true\ndo_eval: true\nmax_steps: 2\nlearning_rate: 1e-3\nmax_seq_length: 32\n"
        "per_device_train_batch_size: 2\ncompressors: [topk:0.5]\neval_compressors: [topk:0.5]\n"
        "train_sampling_strategy: group_by_length\nlogging_steps: 1\nsave_strategy: 'no'\ndisable_tqdm: true\n"
    )
    return folder


def run(workshop: Path, output: Path, *flags: str) -> int:
    return main(Glue(), [str(workshop / "tiny.yaml"), "--output_dir", str(output), *flags])


@pytest.fixture(scope="module")
def finished(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on MNLI, with predictions and an export."""
    folder = tmp_path_factory.mktemp("runs") / "mnli"
    assert run(workshop, folder, "--task_name", "mnli", "--do_predict", "--export", "topk:0.5") == 0
    return folder


class TestFinishedRun:
    def test_results_are_the_task_s(self, finished: Path) -> None:
        results = Results.load(finished / "results.json")
        assert (results.task, results.main_metric) == ("mnli", "accuracy")
        assert [row.spec for row in results.rows] == ["dense", "topk:0.5"]
        assert all({"accuracy", "accuracy_mm", "loss"} <= row.metrics.keys() for row in results.rows)
        assert results.rows[0].examples == 5
        assert results.rows[1].sparsity == 0.5

    def test_submissions_lie_beside_the_results(self, finished: Path) -> None:
        for name, rows in [("MNLI-m", 3), ("MNLI-mm", 3), ("AX", 3), ("eval_MNLI-m", 3), ("eval_MNLI-mm", 2)]:
            lines = (finished / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
            assert lines[0] == "index\tprediction"
            assert len(lines) == rows + 1
            assert {line.split("\t")[1] for line in lines[1:]} <= {"entailment", "neutral", "contradiction"}

    @pytest.mark.parametrize("part", ["", "export/topk_0.5"])
    def test_models_name_their_labels(self, finished: Path, part: str) -> None:
        config = json.loads((finished / part / "config.json").read_text(encoding="utf-8"))
        assert config["id2label"] == {"0": "entailment", "1": "neutral", "2": "contradiction"}
        assert config["problem_type"] == "single_label_classification"

    def test_an_export_answers_in_the_pipeline(self, finished: Path) -> None:
        classify = pipeline("text-classification", model=str(finished / "export" / "topk_0.5"))
        answer = classify({"text": "Geese swim.", "text_pair": "They swim."})
        assert answer["label"] in {"entailment", "neutral", "contradiction"}


def test_scores_train_a_model_with_one_output_in_bf16(workshop: Path, tmp_path: Path) -> None:
    assert run(workshop, tmp_path / "out", "--task_name", "stsb", "--bf16", "--do_predict") == 0
    results = Results.load(tmp_path / "out" / "results.json")
    assert {"pearson", "spearmanr", "combined_score"} <= results.rows[0].metrics.keys()
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").num_labels == 1
    assert (tmp_path / "out" / "STS-B.tsv").read_text().startswith("index\tprediction\n0\t")


def run_own(workshop: Path, folder: Path, rows: list[dict[str, object]], *flags: str) -> list[str]:
    """Trains on, evaluates on and predicts these rows; returns the predictions."""
    file = str(write_csv(folder / "own.csv", rows))
    files = [word for flag in ("train", "validation", "test") for word in (f"--{flag}_file", file)]
    (folder / "own.yaml").write_text(
        "".join(line for line in (workshop / "tiny.yaml").open() if not line.startswith("glue_dir"))
    )
    words = [str(folder / "own.yaml"), "--output_dir", str(folder / "out"), *files, "--do_predict", *flags]
    assert main(Glue(), words) == 0
    lines = (folder / "out" / "predict_predictions.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    return [line.split("\t")[1] for line in lines[1:]]


def test_own_classes_train_evaluate_and_predict(workshop: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{word} geese", "label": label} for word, label in [("nine", "many"), ("no", "none")] * 3]
    predictions = run_own(workshop, tmp_path, rows, "--pad_to_max_length")
    assert Results.load(tmp_path / "out" / "results.json").task == "classification"
    assert len(predictions) == 6
    assert set(predictions) <= {"many", "none"}


def test_own_scores_are_learnt_evaluated_and_predicted(workshop: Path, tmp_path: Path) -> None:
    wanted = [("The miller kept geese.", -0.75), ("Who did?", 1.2), ("The baker of the river.", 0)]
    rows = [{"text": text, "label": label} for text, label in wanted]
    steps = ["--max_steps", "40", "--learning_rate", "1e-2", "--per_device_train_batch_size", "3"]
    predictions = run_own(workshop, tmp_path, rows, *steps)
    results = Results.load(tmp_path / "out" / "results.json")
    assert (results.task, results.main_metric) == ("regression", "spearmanr")
    dense = results.rows[0].metrics
    assert {"pearson", "spearmanr", "mse"} <= dense.keys()
    assert dense["spearmanr"] == pytest.approx(1)
    assert dense["mse"] == pytest.approx(
        sum((float(given) - label) ** 2 for given, (_, label) in zip(predictions, wanted, strict=True)) / 3, rel=1e-3
    )
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config.problem_type == "regression"


@pytest.mark.parametrize("compressors", [["topk:0.5", "nm:2:4"], []], ids=["cram", "plain"])
def test_a_run_that_was_cut_off_ends_with_the_weights_of_one_that_was_not(
    workshop: Path, tmp_path: Path, compressors: list[str]
) -> None:
    flags = ["--task_name", "rte", "--compressors", *compressors, "--max_steps", "5", "--dropout", "0.1"]
    flags += ["--save_strategy", "steps", "--save_steps", "1", "--per_device_train_batch_size", "1"]
    assert run(workshop, tmp_path / "whole", *flags) == 0
    with killed_at(2):  # of three in an epoch
        assert run(workshop, tmp_path / "cut", *flags) == 130
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert run(workshop, tmp_path / "cut", *flags) == 0
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert "classifier.weight" in whole
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    first, again = (Results.load(tmp_path / name / "results.json") for name in ("whole", "cut"))
    assert [row.metrics for row in first.rows] == [row.metrics for row in again.rows]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task_name", "mlni"], "--task_name mlni: unknown"),
        ([], "needs --task_name"),
        (["--task_name", "rte", "--train_file", "a.csv"], "take the rows either from GLUE"),
        (["--task_name", "rte", "--glue_dir", "absent"], "--glue_dir absent: no such folder"),
        (["--taskname", "rte"], "Unknown flag --taskname. Did you mean --task_name?"),
    ],
)
def test_refusals_are_one_clear_message(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert run(workshop, tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_the_script_s_help_teaches_without_loading_a_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run_glue.py", "--help"])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(ROOT / "run_glue.py"), run_name="__main__")
    assert done.value.code == 0
    shown = capsys.readouterr().out
    for flag in ("--task_name", "--glue_dir", "--train_file", "--interim_eval_samples", "--compressors"):
        assert flag in shown
