"""A whole run of run_squad.py on a tiny model: what it writes, what it refuses, how it goes on after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_config
from safetensors.torch import load_file
from squad_fixtures import RECORDS, UNANSWERABLE, nested, tiny_tokenizer, write_json
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, BertForQuestionAnswering, pipeline

from cram_hf.results import Results
from cram_hf.runner import main
from cram_hf.sparsity import measure
from cram_hf.tasks.squad import Squad

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, a set of three questions and a config file."""
    folder = tmp_path_factory.mktemp("workshop")
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = tiny_config()
    config.vocab_size, config.max_position_embeddings = len(tokenizer), 128
    BertForQuestionAnswering(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_json(folder / "squad.json", nested(RECORDS))
    write_json(folder / "squad2.json", nested([*RECORDS, UNANSWERABLE]))
    (folder / "tiny.yaml").write_text(
        f"model_name_or_path: {folder / 'model'}\n"
        f"train_file: {folder / 'squad.json'}\nvalidation_file: {folder / 'squad.json'}\n"
        "do_train: true\ndo_eval: true\nmax_steps: 4\nlearning_rate: 1e-3\nmax_seq_length: 64\ndoc_stride: 16\n"
        "per_device_train_batch_size: 2\ncompressors: [topk:0.5]\neval_compressors: [topk:0.5, nm:2:4]\n"
        "logging_steps: 1\n"
        "save_strategy: 'no'\ndisable_tqdm: true\n"
    )
    return folder


def run(workshop: Path, output: Path, *flags: str) -> int:
    return main(Squad(), [str(workshop / "tiny.yaml"), "--output_dir", str(output), *flags])


@pytest.fixture(scope="module")
def finished(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, with a baseline and two exports."""
    folder = tmp_path_factory.mktemp("runs")
    assert run(workshop, folder / "adamw", "--compressors", "--label", "AdamW") == 0
    flags = ["--baseline", str(folder / "adamw" / "results.json"), "--export", "topk:0.5", "--export", "nm:2:4"]
    assert run(workshop, folder / "cram", *flags) == 0
    return folder / "cram"


class TestFinishedRun:
    def test_results_hold_dense_and_each_compression_with_both_sparsities(self, finished):
        results = Results.load(finished / "results.json")
        assert [row.spec for row in results.rows] == ["dense", "topk:0.5", "nm:2:4"]
        assert [row.sparsity for row in results.rows] == [0.0, 0.5, 0.5]
        assert all(0 < row.model_sparsity < row.sparsity for row in results.rows[1:])
        assert all({"f1", "exact_match", "loss"} <= row.metrics.keys() for row in results.rows)
        assert (results.label, results.training["updates"], results.rows[0].examples) == ("tiny", 4, 3)
        assert [results.config[name] for name in ("compressors", "rho", "plus")] == [["topk:0.5"], 0.005, True]
        assert Results.load(finished.parent / "adamw" / "results.json").label == "AdamW"

    def test_picture_card_and_prediction_files_are_there(self, finished):
        assert (finished / "curve.png").read_bytes()[:4] == b"\x89PNG"
        assert "topk:0.5" in (finished / "README.md").read_text(encoding="utf-8")
        answers = json.loads((finished / "eval_predictions.json").read_text(encoding="utf-8"))
        assert answers.keys() == {"q1", "q2", "q3"}
        assert (finished / "eval_nbest_predictions.json").exists()

    @pytest.mark.parametrize("key", ["topk_0.5", "nm_2_4"])
    def test_exports_load_with_no_code_of_ours(self, finished, key):
        folder = finished / "export" / key
        model = AutoModelForQuestionAnswering.from_pretrained(folder)
        weights = {name: p for name, p in model.named_parameters() if ".layer." in name and p.dim() == 2}
        assert measure(model, weights).compressible == pytest.approx(0.5, abs=1e-3)
        assert not list(folder.glob("*.bin"))

    def test_an_export_answers_a_question(self, finished):
        folder = finished / "export" / "topk_0.5"
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForQuestionAnswering.from_pretrained(folder)
        output = model(**tokenizer("Who?", RECORDS[0]["context"], return_tensors="pt"))
        assert output.start_logits.isfinite().all()

    def test_an_export_answers_in_the_pipeline_where_transformers_has_one(self, finished):
        try:
            answers = pipeline("question-answering", model=str(finished / "export" / "topk_0.5"))
        except KeyError as error:
            pytest.skip(f"this transformers has no question-answering pipeline: {error}")
        answer = answers(question="Who?", context=RECORDS[0]["context"])
        assert answer["answer"] in RECORDS[0]["context"]

    def test_the_saved_model_stays_dense(self, finished):
        zeros = sum(
            int((tensor == 0).sum())
            for name, tensor in load_file(finished / "model.safetensors").items()
            if ".layer." in name and tensor.dim() == 2
        )
        assert zeros == 0

    def test_is_not_overwritten(self, workshop, finished, capsys):
        assert run(workshop, finished) == 2
        assert "holds the results of a finished run" in capsys.readouterr().err

    def test_can_be_scored_again_elsewhere(self, workshop, finished, tmp_path, capsys):
        flags = ["--model_name_or_path", str(finished), "--do_train", "false", "--eval_compressors", "topk:0.5"]
        assert run(workshop, tmp_path / "again", *flags) == 0
        again, first = Results.load(tmp_path / "again" / "results.json"), Results.load(finished / "results.json")
        assert again.training is None
        assert [row.metrics for row in again.rows] == [row.metrics for row in first.rows[:2]]
        assert "| topk:0.5" in capsys.readouterr().out


class TestRefusals:
    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--roh", "0.1"], "Unknown flag --roh. Did you mean --rho?"),
            (["--compressors", "tokp:0.5"], "Did you mean 'topk'?"),
            (["--export", "topk:7"], "--export"),
            (["--do_train", "false", "--do_eval", "false"], "Nothing to do"),
            (["--train_file", "absent.json"], "absent.json"),
            (["--model_name_or_path", "no/such-model"], "no/such-model"),
            (["--baseline", "absent.json"], "absent.json"),
            (["--dropout", "1.5"], "--dropout 1.5"),
            (["--do_eval", "false"], "need scores"),
            (["--export", "topk:0.8", "topk:0.80"], "named twice"),
            (["--export", "nm:2:7"], "multiple of 7"),
            (["--eval_compressors", "nm:2:7"], "multiple of 7"),
            (["--compress_exclude", "quary"], "quary"),
            (["--optim", "lomo"], "lomo"),
        ],
    )
    def test_say_what_was_given_and_leave_no_traceback(self, workshop, tmp_path, capsys, flags, message):
        assert run(workshop, tmp_path / "out", *flags) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") or "\nerror: " in error
        assert message in error
        assert "Traceback" not in error

    def test_unanswerable_questions_without_the_flag(self, workshop, tmp_path, capsys):
        assert run(workshop, tmp_path / "out", "--validation_file", str(workshop / "squad2.json")) == 2
        assert "--version_2_with_negative" in capsys.readouterr().err

    def test_a_folder_with_other_contents(self, workshop, tmp_path, capsys):
        (tmp_path / "thesis.tex").write_text("precious")
        assert run(workshop, tmp_path) == 2
        assert "is not empty" in capsys.readouterr().err
        assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_squad_v2_with_null_odds_and_predictions_for_a_test_file(workshop, tmp_path):
    file = str(workshop / "squad2.json")
    flags = [
        "--version_2_with_negative",
        "--train_file",
        file,
        "--validation_file",
        file,
        "--test_file",
        file,
        "--do_predict",
    ]
    assert run(workshop, tmp_path / "out", *flags) == 0
    assert {"exact", "f1", "NoAns_f1"} <= Results.load(tmp_path / "out" / "results.json").rows[0].metrics.keys()
    assert (tmp_path / "out" / "eval_null_odds.json").exists()
    assert json.loads((tmp_path / "out" / "predict_predictions.json").read_text(encoding="utf-8")).keys() == {
        "q1",
        "q2",
        "q3",
        "q4",
    }


def test_goes_on_from_the_last_checkpoint_and_ends_with_the_uninterrupted_weights(
    workshop, tmp_path, monkeypatch, capsys
):
    from cram_hf.trainer import CrAMTrainer

    saves = ["--save_strategy", "steps", "--save_steps", "1", "--do_eval", "false", "--eval_compressors"]
    assert run(workshop, tmp_path / "whole", *saves) == 0
    usual = CrAMTrainer.training_step

    def killed_at_update_2(self, *args, **kwargs):
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return usual(self, *args, **kwargs)

    monkeypatch.setattr(CrAMTrainer, "training_step", killed_at_update_2)
    assert run(workshop, tmp_path / "killed", *saves) == 130
    assert "stopped by Ctrl-C; the same command goes on" in capsys.readouterr().err
    monkeypatch.undo()
    (tmp_path / "killed" / "checkpoint-9").mkdir()  # a save that was cut off before its last file
    assert run(workshop, tmp_path / "killed", *saves) == 0
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_token_reaches_no_file(workshop, tmp_path, monkeypatch):
    token = "hf_" + "x" * 34
    monkeypatch.setenv("HF_TOKEN", "")  # so that it is put back afterwards
    monkeypatch.setattr(sys, "argv", ["run_squad.py", "--hub_token", token])
    assert run(workshop, tmp_path / "out", "--hub_token", token) == 0
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes(), path


def test_help_teaches_without_loading_a_model():
    done = subprocess.run(
        [sys.executable, "run_squad.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    for flag in ("--compressors", "--rho", "--export", "--baseline", "--train_file", "--learning_rate"):
        assert flag in done.stdout
