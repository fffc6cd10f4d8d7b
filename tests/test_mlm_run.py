"""A whole run of run_mlm.py on a tiny model: from scratch with its own tokenizer, from a checkpoint, and streamed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mlm_fixtures import LINES, tiny_model, write_lines
from squad_fixtures import tiny_tokenizer
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from cram_hf import CrAMArguments
from cram_hf.config import Parser
from cram_hf.loading import ScratchArguments
from cram_hf.report import OutputArguments
from cram_hf.results import Results
from cram_hf.runner import main
from cram_hf.tasks.mlm import MaskedLM
from cram_hf.trainer import CrAMTrainer

ROOT = Path(__file__).parents[1]
SHAPE = "hidden_size=16,num_hidden_layers=2,num_attention_heads=2,intermediate_size=32"
SCRATCH = ["--model_type", "bert", "--config_overrides", SHAPE, "--train_tokenizer", "--vocab_size", "90"]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, a text to train on, one to evaluate on, and a config file."""
    folder = tmp_path_factory.mktemp("workshop")
    tokenizer = tiny_tokenizer()
    tiny_model(len(tokenizer)).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    train, dev = write_lines(folder / "train.txt", times=20), write_lines(folder / "dev.txt", LINES[::-1], times=4)
    (folder / "tiny.yaml").write_text(
        f"train_file: {train}\nvalidation_file: {dev}\ndo_train: true\ndo_eval: true\nmax_steps: 3\n"
        "learning_rate: 1e-3\nmax_seq_length: 16\nper_device_train_batch_size: 4\ncompressors: [topk:0.5]\n"
        "eval_compressors: [topk:0.5, nm:2:4]\nlogging_steps: 1\nsave_strategy: 'no'\ndisable_tqdm: true\n"
    )
    return folder


def run(workshop: Path, output: Path, *flags: str) -> int:
    words = [str(workshop / "tiny.yaml"), "--output_dir", str(output), *flags]
    return main(MaskedLM(), words, ScratchArguments)


def scores(output: Path) -> list[dict[str, float | None]]:
    return [row.metrics for row in Results.load(output / "results.json").rows]


@pytest.fixture(scope="module")
def scratch(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run from scratch, with an export."""
    folder = tmp_path_factory.mktemp("runs") / "scratch"
    assert run(workshop, folder, *SCRATCH, "--export", "topk:0.5") == 0
    return folder


class TestFromScratch:
    def test_results_hold_perplexity_and_accuracy_dense_and_compressed(self, scratch):
        results = Results.load(scratch / "results.json")
        assert (results.task, results.main_metric) == ("mlm", "perplexity")
        assert [row.spec for row in results.rows] == ["dense", "topk:0.5", "nm:2:4"]
        assert [row.sparsity for row in results.rows] == [0.0, 0.5, 0.5]
        assert all({"perplexity", "accuracy", "loss"} == row.metrics.keys() for row in results.rows)
        assert results.data["tokenizer"]["trained"] is True
        assert results.rows[0].metrics["perplexity"] == pytest.approx(90, rel=0.2)  # it has learnt next to nothing

    def test_the_model_has_the_vocabulary_of_the_tokenizer_made_for_it(self, scratch):
        tokenizer, model = AutoTokenizer.from_pretrained(scratch), AutoModelForMaskedLM.from_pretrained(scratch)
        assert model.config.vocab_size == len(tokenizer) <= 90
        assert model.config.pad_token_id == tokenizer.pad_token_id
        assert tokenizer.tokenize("Geese") == ["geese"]

    def test_the_export_fills_a_mask_with_no_code_of_ours(self, scratch):
        fill = pipeline("fill-mask", model=str(scratch / "export" / "topk_0.5"))
        assert len(fill("the [MASK] kept geese")) == 5

    def test_seeds_make_other_models_but_score_the_same_tokens(self, workshop, scratch, tmp_path):
        assert run(workshop, tmp_path / "two", *SCRATCH, "--seed", "2") == 0
        first, other = (Results.load(folder / "results.json") for folder in (scratch, tmp_path / "two"))
        assert first.data == other.data
        assert scores(scratch) != scores(tmp_path / "two")


class TestRobertaFromScratchWithATokenizerOfItsOwn:
    """Its positions begin behind the padding token, so it takes fewer tokens than it has positions."""

    def flags(self, workshop: Path, *more: str) -> list[str]:
        words = ["--model_type", "roberta", "--config_overrides", f"{SHAPE},max_position_embeddings=17"]
        return [*words, "--tokenizer_name", str(workshop / "model"), *more]

    def test_runs_on_rows_that_fill_it(self, workshop, tmp_path):
        folder = tmp_path / "out"
        assert run(workshop, folder, *self.flags(workshop)) == 0
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder)
        assert (model.config.model_type, model.config.vocab_size) == ("roberta", len(tokenizer))
        assert model.roberta.embeddings.position_embeddings.weight.shape == (17, 16)
        assert tokenizer.get_vocab() == tiny_tokenizer().get_vocab()
        assert scores(folder)[0]["perplexity"] == pytest.approx(len(tokenizer), rel=0.2)

    @pytest.mark.parametrize("more", [[], ["--streaming", "--do_eval", "false", "--eval_compressors"]])
    def test_rows_that_are_one_token_too_long_are_refused(self, workshop, tmp_path, capsys, more):
        assert run(workshop, tmp_path / "out", *self.flags(workshop, "--max_seq_length", "17", *more)) == 2
        expected = "error: RobertaForMaskedLM takes at most 16 tokens, but rows have 17. Type --max_seq_length 16, or "
        expected += "for a model from scratch --config_overrides max_position_embeddings=18."
        assert expected in capsys.readouterr().err


class TestFromACheckpoint:
    def test_streaming_with_whole_words(self, workshop, tmp_path):
        flags = ["--model_name_or_path", str(workshop / "model"), "--streaming", "--whole_word_mask"]
        assert run(workshop, tmp_path / "out", *flags) == 0
        results = Results.load(tmp_path / "out" / "results.json")
        assert results.data["train"] == {"source": str(workshop / "train.txt"), "streamed": True}
        assert results.training["updates"] == 3
        assert not list((tmp_path / "out").glob("*predictions*"))

    def test_a_saved_model_scores_the_same_again_at_any_batch_size(self, workshop, tmp_path):
        model = ["--model_name_or_path", str(workshop / "model"), "--line_by_line"]
        assert run(workshop, tmp_path / "one", *model) == 0
        flags = ["--model_name_or_path", str(tmp_path / "one"), "--line_by_line", "--do_train", "false"]
        flags += ["--per_device_eval_batch_size", "3", "--seed", "9"]
        assert run(workshop, tmp_path / "again", *flags) == 0
        for first, again in zip(scores(tmp_path / "one"), scores(tmp_path / "again"), strict=True):
            assert again == pytest.approx(first, rel=1e-5)

    def test_scores_during_training_are_logged(self, workshop, tmp_path):
        flags = ["--model_name_or_path", str(workshop / "model"), "--eval_strategy", "steps", "--eval_steps", "2"]
        assert run(workshop, tmp_path / "out", *flags, "--save_strategy", "no") == 0
        state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
        logged = [entry["eval_topk_0.5_perplexity"] for entry in state["log_history"] if "eval_loss" in entry]
        assert len(logged) == 2  # after update 2 and at the end


@pytest.mark.parametrize(
    "more", [["--streaming"], ["--max_train_samples", "12"]]
)  # the latter: three updates an epoch
def test_goes_on_from_the_last_checkpoint(workshop, tmp_path, monkeypatch, more):
    """Bit for bit: masks, weights, AdamW's state, rates and compressors are those of the uninterrupted run."""
    flags = ["--model_name_or_path", str(workshop / "model"), "--save_strategy", "steps", "--save_steps", "2"]
    flags += ["--max_steps", "5", "--compressors", "topk:0.5", "nm:2:4", "--dropout", "0.1", *more]
    rows = []
    for name, stop, code in (("whole", None, 0), ("killed", 3, 130), ("killed", None, 0)):
        with monkeypatch.context() as patch:
            rows.append(recorded(patch, stop))
            assert run(workshop, tmp_path / name, *flags) == code
    assert rows[2] == {update: rows[0][update] for update in (2, 3, 4)}
    whole, resumed = (outcome(tmp_path / name) for name in ("whole", "killed"))
    assert whole[:2] == resumed[:2]
    assert resumed[2]["resumed"] is True
    first, second = (tmp_path / name / "checkpoint-5" for name in ("whole", "killed"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    adamw = [torch.load(folder / "optimizer.pt")["state"] for folder in (first, second)]
    for before, after in zip(*(state.values() for state in adamw), strict=True):
        assert all(torch.equal(before[name], after[name]) for name in ("step", "exp_avg", "exp_avg_sq"))


def recorded(patch: pytest.MonkeyPatch, stop: int | None) -> dict[int, list[list[int]]]:
    """Fills in the inputs and labels of each update to come; Ctrl-C after so many."""
    usual, rows = CrAMTrainer.training_step, dict[int, list[list[int]]]()

    def step(self: CrAMTrainer, model: torch.nn.Module, inputs: dict[str, Any], *args: Any) -> torch.Tensor:
        if self.state.global_step == stop:
            raise KeyboardInterrupt
        rows[self.state.global_step] = inputs["input_ids"].tolist() + inputs["labels"].tolist()
        return usual(self, model, inputs, *args)

    patch.setattr(CrAMTrainer, "training_step", step)
    return rows


def outcome(output: Path) -> tuple[list[list[Any]], dict[str, Any], dict[str, Any]]:
    """Losses, rate and compressor of each update, data; and how the training went."""
    results = Results.load(output / "results.json")
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    kept = ("step", "epoch", "loss", "compressed_loss", "grad_norm", "learning_rate", "drawn_topk_0.5", "drawn_nm_2_4")
    return [[log.get(key) for key in kept] for log in history if "loss" in log], results.data, results.training


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_seq_length", "600"], "--max_seq_length 600: the model takes at most 512 tokens"),
        (["--streaming", "--max_steps", "-1"], "--streaming needs --max_steps"),
        (["--do_predict"], "--do_predict: a masked language model has no predictions to write"),
        (["--train_file", "absent.txt"], "absent.txt: no such file"),
        (["--mlm_probabilty", "0.3"], "Did you mean --mlm_probability?"),
        (["--metric_for_best_model", "perplexity"], "a lower perplexity is better; add --greater_is_better false"),
        (["--vocab_size", "90"], "--vocab_size 90 needs --train_tokenizer"),
    ],
)
def test_mistakes_are_told_in_one_message(workshop, tmp_path, capsys, flags, message):
    assert run(workshop, tmp_path / "out", "--model_name_or_path", str(workshop / "model"), *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "mlm").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_parse_and_comment_their_keys(path, tmp_path):
    parser = Parser((ScratchArguments, MaskedLM.Arguments, CrAMArguments, OutputArguments), description="")
    flags = ["--output_dir", str(tmp_path), "--bf16", "false"]
    flags += ["--train_file", "a.txt"] if path.stem == "scratch" else []
    model, task, args, _ = parser.parse([str(path), *flags])
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert bool(model.model_name_or_path) != bool(model.model_type)
    assert task.max_seq_length == raw["max_seq_length"]
    assert set(raw.get("compressors", [])) <= set(args.eval_compressors)
    assert all("#" in line for line in path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("stem", ["minilm", "bert_base"])
def test_adamw_makes_as_many_passes_as_cram(stem):
    folder = ROOT / "configs" / "mlm"
    adamw, cram = (
        yaml.safe_load((folder / f"{stem}_{kind}.yaml").read_text("utf-8")) for kind in ("adamw", "cram_plus_multi")
    )
    assert adamw["num_train_epochs"] == 2 * cram["num_train_epochs"]
    assert all(adamw[key] == cram[key] for key in set(adamw) - {"num_train_epochs", "label"})


def test_help_teaches_without_loading_a_model():
    done = subprocess.run(
        [sys.executable, "run_mlm.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for flag in ("--mlm_probability", "--streaming", "--train_tokenizer", "--model_type", "--compressors"):
        assert flag in done.stdout
