"""`cram-hf tune` lowers the loss, moves nothing but biases and scales of the blocks, and says that it used labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from scoring_fixtures import classifier_folder, mlm_flags, mlm_folder, qa_folder, rte_flags, squad_flags
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from cram_hf import compressible_weights
from cram_hf.cli import main
from cram_hf.cli import tune as command
from cram_hf.oneshot.tune import small_parameters
from cram_hf.publish.files import read_folder
from cram_hf.tasks.squad import Squad

STEPS = ["--max_steps", "4", "--learning_rate", "0.05", "--per_device_train_batch_size", "2"]


@pytest.fixture(scope="module")
def pruned(tmp_path_factory) -> str:
    """A model of which `cram-hf prune` took half the weights."""
    folder = tmp_path_factory.mktemp("models")
    assert main(["prune", qa_folder(folder / "dense"), "--to", "topk:0.5", "--out", str(folder / "pruned")]) == 0
    return str(folder / "pruned")


@pytest.fixture
def squad(tmp_path) -> list[str]:
    """The flags of three questions to train on."""
    return [word.replace("--validation_file", "--train_file") for word in squad_flags(tmp_path)]


def tuned(capsys, model: str, out: Path, *words: str) -> dict:
    capsys.readouterr()
    assert main(["tune", model, "--out", str(out), *words, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)  # nothing else is on stdout


def refused(capsys, *words: str) -> str:
    capsys.readouterr()
    assert main(["tune", *words]) == 2
    out, told = capsys.readouterr()
    assert (out, "Traceback" in told) == ("", False)
    return told[told.index("error: ") :]


def tensors(folder: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


def changed(before: str, after: Path) -> set[str]:
    old, new = tensors(before), tensors(after)
    assert old.keys() == new.keys()
    return {name for name, tensor in new.items() if tensor.dtype != old[name].dtype or not tensor.equal(old[name])}


def loss_of(folder: str | Path, squad: list[str]) -> float:
    """The mean loss on the questions, without dropout."""
    words = dict(zip(squad[2::2], squad[3::2], strict=True))
    args = Squad.Arguments(train_file=words["--train_file"], max_seq_length=64, doc_stride=16)
    data = Squad().prepare(args, AutoTokenizer.from_pretrained(folder), command.TrainingArguments(do_train=True))
    rows = [{name: value for name, value in row.items() if name != "length"} for row in data.train]
    with torch.inference_mode():
        return float(AutoModelForQuestionAnswering.from_pretrained(folder)(**data.collator(rows)).loss)


class TestWhatIsWritten:
    def test_the_loss_falls_by_biases_and_scales_alone(self, pruned, squad, tmp_path, capsys):
        result = tuned(capsys, pruned, tmp_path / "out", *squad, *STEPS, "--max_steps", "12")
        assert loss_of(tmp_path / "out", squad) < 0.8 * loss_of(pruned, squad)
        model = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out")
        small = small_parameters(model, compressible_weights(model))
        moved = changed(pruned, tmp_path / "out")
        assert moved <= small.keys()
        assert {
            "bert.encoder.layer.0.intermediate.dense.bias",
            "bert.encoder.layer.1.output.LayerNorm.weight",
        } <= moved
        assert result["trained_parameters"] == sum(p.numel() for p in small.values())
        assert result["sparsity"] == result["sparsity_before"] == 0.5

    def test_the_record_says_that_labels_were_used_and_the_one_of_pruning_stays(self, pruned, squad, tmp_path, capsys):
        result = tuned(capsys, pruned, tmp_path / "out", *squad, *STEPS)
        assert json.loads((tmp_path / "out" / "tuning.json").read_text()) == result
        facts = {"labels": True, "task": "squad", "steps": 4, "learning_rate": 0.05, "batch_size": 2, "seed": 42}
        assert {name: result[name] for name in facts} == facts
        assert (result["data"]["source"], result["data"]["examples"], result["rows"]) == (squad[3], 3, 5)
        assert result["loss"] > 0
        assert {"model", "seconds", "command", "versions", "machine", "commit"} <= result.keys()
        kept = (tmp_path / "out" / "pruning.json").read_bytes()
        assert kept == Path(pruned, "pruning.json").read_bytes()
        assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()["geese"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "squad.json"]

    def test_a_push_takes_the_record_and_a_card_that_tells_of_the_labels(self, pruned, squad, tmp_path, capsys):
        tuned(capsys, pruned, tmp_path / "out", *squad, *STEPS)
        files = read_folder(tmp_path / "out", "me/tuned").files
        card = files["README.md"].decode()
        assert card.index("## Pruning\n") < card.index("## Tuning\n")
        assert "4 steps on 5 rows of squad, **with labels**: a score of this model is no one-shot score" in card
        assert json.loads(files["tuning.json"])["labels"] is True
        assert str(tmp_path) not in card + files["tuning.json"].decode() + files["pruning.json"].decode()

    def test_later_commands_do_not_forget_that_labels_were_used(self, pruned, squad, tmp_path, capsys):
        first = tuned(capsys, pruned, tmp_path / "out", *squad, *STEPS)
        again = tuned(capsys, str(tmp_path / "out"), tmp_path / "again", *squad, *STEPS)
        assert (first["before"], again["before"]) == (None, first)
        assert main(["pack", str(tmp_path / "out"), "--out", str(tmp_path / "packed")]) == 0
        assert main(["prune", str(tmp_path / "out"), "--to", "topk:0.7", "--out", str(tmp_path / "more")]) == 0
        assert json.loads((tmp_path / "packed" / "tuning.json").read_text()) == first
        for folder in ("packed", "more"):
            card = read_folder(tmp_path / folder, "me/tuned").files["README.md"].decode()
            assert card.count("**with labels**") == 1
        assert card.index("## Tuning\n") < card.index("## Pruning\n")

    def test_a_seed_draws_the_rows_and_gives_the_same_model_again(self, pruned, squad, tmp_path, capsys):
        for name, seed in {"a": "1", "b": "1", "c": "2"}.items():
            tuned(capsys, pruned, tmp_path / name, *squad, *STEPS, "--seed", seed)
        assert changed(str(tmp_path / "a"), tmp_path / "b") == set()
        assert changed(str(tmp_path / "a"), tmp_path / "c")

    def test_no_more_rows_are_read_than_the_steps_draw_from(self, pruned, squad, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(command, "POOL", 1)
        words = ["--max_steps", "2", "--per_device_train_batch_size", "1"]
        result = tuned(capsys, pruned, tmp_path / "out", *squad, *words)
        assert (result["data"]["examples"], result["rows"]) == (2, 2)

    def test_half_precision_is_trained_in_full_and_written_in_half(self, pruned, squad, tmp_path, capsys):
        half = tmp_path / "half"
        shutil.copytree(pruned, half)
        AutoModelForQuestionAnswering.from_pretrained(pruned).bfloat16().save_pretrained(half)
        tuned(capsys, str(half), tmp_path / "out", *squad, "--max_steps", "12", "--learning_rate", "0.001")
        assert {tensor.dtype for tensor in tensors(tmp_path / "out").values()} == {torch.bfloat16}
        moved = changed(str(half), tmp_path / "out")
        assert "bert.encoder.layer.1.output.LayerNorm.weight" in moved  # near 1 a step of 0.001 alone rounds away
        assert all(tensors(half)[name].dim() == 1 for name in moved)

    @pytest.mark.parametrize("task", ["rte", "mlm", "mlm words"])
    def test_the_other_tasks(self, task, tmp_path, capsys):
        if task == "rte":
            model, words = classifier_folder(tmp_path / "model", ("entailment", "not_entailment")), rte_flags(tmp_path)
        else:
            model, words = mlm_folder(tmp_path / "model"), mlm_flags(tmp_path)
            words = [word.replace("--validation_file", "--train_file") for word in words]
            words += ["--whole_word_mask"] if task == "mlm words" else []
        result = tuned(capsys, model, tmp_path / "out", *words, *STEPS)
        assert result["task"] == task.split()[0]
        moved = changed(model, tmp_path / "out")
        assert moved
        assert all(name.startswith("bert.encoder.layer.") for name in moved)
        assert not (tmp_path / "out" / "pruning.json").exists()

    def test_people_are_told_that_it_is_no_one_shot_score(self, pruned, squad, tmp_path, capsys):
        assert main(["tune", pruned, "--out", str(tmp_path / "out"), *squad, *STEPS]) == 0
        first, second, third = capsys.readouterr().out.splitlines()
        assert first.endswith("out: 50.0 % of 4,096 compressible weights are zero, as before.")
        assert "biases and scales, were trained: 4 steps of 2 rows of squad, 5 different ones, mean loss " in second
        assert third.startswith("Labels were used for that, so a score of this model is no one-shot score")

    def test_a_model_that_is_not_pruned_is_taken_and_called_so(self, squad, tmp_path, capsys):
        assert main(["tune", qa_folder(tmp_path / "dense"), "--out", str(tmp_path / "out"), *squad, *STEPS]) == 0
        told = capsys.readouterr().out
        assert "out: none of 4,096 compressible weights is zero, so the model that was tuned is not a pruned" in told


class TestMistakes:
    def test_all_problems_of_the_flags_are_told_at_once(self, pruned, tmp_path, capsys):
        words = ["--max_steps", "0", "--learning_rate", "-1", "--per_device_train_batch_size", "0", "--task", "squad"]
        told = refused(capsys, pruned, "--out", str(tmp_path / "out"), *words)
        assert told.splitlines() == [
            "error: --max_steps 0: a whole number from 1 on.",
            "--per_device_train_batch_size 0: a whole number from 1 on.",
            "--learning_rate -1.0: a number above 0. Type e.g. --learning_rate 0.001.",
            "There is nothing to train on. Add --train_file FILE, --dataset_name NAME or --glue_dir FOLDER.",
        ]
        told = refused(capsys, pruned, "--out", str(tmp_path / "out"), *words, "--task", "sqaud")
        assert "\n--task sqaud: there are squad, mlm, glue" in told

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--learning_rate", "nan"], "--learning_rate nan: a number above 0."),
            (
                ["--learning_rate", "1e30"],
                "the training diverged (mean loss nan), so nothing was written: --learning_ra",
            ),
            (
                ["--learning_rate", "1e38", "--max_steps", "1"],
                "), so nothing was written: --learning_rate 1e+38 is too l",
            ),
            (["--task", "sqaud"], "--task sqaud: there are squad, mlm, glue"),
            (["--line_by_line"], "--line_by_line: no flag of the task squad."),
            (["--doc_stride", "70"], "--doc_stride 70: must be at least 0 and less than --max_seq_length 64"),
            (["--train_file", "no.json"], "no.json: no such file"),
            (["--compress_include", "querry"], "--compress_include 'querry' matches no weight"),
            (["--to", "topk:0.5"], "unknown flag --to"),
        ],
    )
    def test_one_message_and_nothing_is_written(self, words, sentence, pruned, squad, tmp_path, capsys):
        assert sentence in refused(capsys, pruned, "--out", str(tmp_path / "out"), *squad, *STEPS, *words)
        assert [path.name for path in tmp_path.iterdir()] == ["squad.json"]

    def test_a_folder_in_use_is_refused_before_the_model_is_read(self, squad, tmp_path, capsys):
        told = refused(capsys, "no-model", *squad, "--out", str(tmp_path))
        assert "exists and is not empty; an export needs a new or empty folder" in told

    def test_a_model_of_another_task_or_with_other_labels(self, squad, tmp_path, capsys):
        told = refused(capsys, mlm_folder(tmp_path / "bert"), *squad, "--out", str(tmp_path / "out"))
        assert "is a BertForMaskedLM, but the task squad needs a BertForQuestionAnswering." in told
        model = classifier_folder(tmp_path / "rte", ("not_entailment", "entailment"))
        told = refused(capsys, model, *rte_flags(tmp_path), "--out", str(tmp_path / "out"))
        assert "tells not_entailment, entailment apart, in this order; the data have entailment, not_entail" in told

    def test_rows_that_are_too_long_for_the_model(self, tmp_path, capsys):
        words = [word.replace("--validation_file", "--train_file") for word in mlm_flags(tmp_path)]
        words += ["--max_seq_length", "500", "--line_by_line", "--pad_to_max_length"]
        told = refused(capsys, mlm_folder(tmp_path / "bert"), *words, "--out", str(tmp_path / "out"))
        assert "takes at most 64 tokens, but rows have 500. Type --max_seq_length 64" in told

    def test_a_model_without_a_tokenizer(self, pruned, squad, tmp_path, capsys):
        AutoModelForQuestionAnswering.from_pretrained(pruned).save_pretrained(tmp_path / "bare")
        told = refused(capsys, str(tmp_path / "bare"), *squad, "--out", str(tmp_path / "out"))
        assert "has no tokenizer, so no data can be read for it" in told

    def test_a_zero_that_moved_is_not_written(self, pruned, squad, tmp_path, monkeypatch):
        def careless(model, weights, **trainer):
            next(iter(weights.values())).data.add_(1)
            return 1.0

        monkeypatch.setattr(command, "tune_", careless)
        with pytest.raises(RuntimeError, match=r"zeros of bert.* moved, so nothing was written"):
            main(["tune", pruned, *squad, "--out", str(tmp_path / "out")])
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("place", ["tune_", "write_json"])
    def test_ctrl_c_leaves_nothing_behind(self, place, pruned, squad, tmp_path, monkeypatch):
        def stop(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(command, place, stop)
        assert main(["tune", pruned, *squad, *STEPS, "--out", str(tmp_path / "out")]) == 130
        assert [path.name for path in tmp_path.iterdir()] == ["squad.json"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_on_a_terminal_and_silence_elsewhere(terminal, pruned, squad, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command.sys.stderr, "isatty", lambda: terminal)
    capsys.readouterr()
    assert main(["tune", pruned, *squad, *STEPS, "--out", str(tmp_path / "out")]) == 0
    out, told = capsys.readouterr()
    assert (" 4/4 [" in told, "train_runtime" in told) == (terminal, terminal)
    assert len(out.splitlines()) == 3
