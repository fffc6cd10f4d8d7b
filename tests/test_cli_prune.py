"""`cram-hf prune` writes what the Python API makes, and tells each mistake in one message."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
from cli_fixtures import saved
from conftest import HEADS
from results_fixtures import make_results
from torch import nn
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from cram_hf import NM, TopK, compressible_weights, parse_compressor
from cram_hf.cli import main
from cram_hf.cli.prune import prune_
from cram_hf.oneshot import batches, output_moments, permute_channels_, prune_with_data_, read_calibration, repair_
from cram_hf.sparsity import follows_nm, measure

TEXTS = "where is the ferry ?\nthe ferry is in the harbour .\nis the harbour in the ferry ?\nwhere ?\n"


@pytest.fixture
def folder(qa_model, tmp_path):
    return saved(qa_model, tmp_path / "model")


@pytest.fixture
def data(tmp_path):
    (tmp_path / "texts.txt").write_text(TEXTS, encoding="utf-8")
    return str(tmp_path / "texts.txt")


def pruned(capsys, folder: str, *words: str) -> tuple[dict, torch.nn.Module]:
    out = str(Path(folder).parent / "out")
    assert main(["prune", folder, "--out", out, *words, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out), AutoModelForQuestionAnswering.from_pretrained(out)


def refused(capsys, *words: str) -> str:
    assert main(["prune", *words]) == 2
    out, told = capsys.readouterr()
    assert out == ""
    return told


class OverTokens(nn.BatchNorm1d):
    """Batch normalisation of (batch, tokens, channels)."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return super().forward(values.transpose(1, 2)).transpose(1, 2)


class TestWhatIsWritten:
    @pytest.mark.parametrize(
        "spec", ["topk:0.8", "topk:0.8:layer", "topk:0.5:erk", "topk:0.9:lamp", "nm:2:4", "nm:2:4+quantize:8"]
    )
    def test_without_data_it_is_what_the_compressor_gives(self, spec, qa_model, folder, capsys):
        result, model = pruned(capsys, folder, "--to", spec)
        for name, weight in parse_compressor(spec)(compressible_weights(qa_model)).items():
            assert torch.equal(model.get_parameter(name), weight)
        found = measure(model, compressible_weights(model))
        assert result["sparsity"] == found.compressible
        assert result["model_sparsity"] == found.model
        assert result["layers"] == found.layers
        assert (result["method"], result["texts"], result["errors"], result["gains"]) == ("magnitude", 0, {}, {})

    def test_the_folder_loads_with_its_tokenizer_and_says_where_it_came_from(self, folder, capsys):
        result, _ = pruned(capsys, folder, "--to", "topk:0.5")
        assert AutoTokenizer.from_pretrained(result["out"]).convert_tokens_to_ids("ferry") == 8
        assert json.loads((Path(result["out"]) / "pruning.json").read_text()) == result
        assert {"command", "versions", "machine", "commit", "seed"} <= result.keys()
        assert sorted(path.name for path in Path(folder).parent.iterdir()) == ["model", "out"]

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({}, "\nIt was trained for topk:0.5, nm:2:4 (rho 0.01).\n"),
            ({"config": {"learning_rate": 1e-4}}, "\nIt was trained without CrAM.\n"),
            ({"config": {"compressors": ["topk:0"], "rho": 0.05}}, "\nIt was trained without a compression (SAM).\n"),
            ({"training": None}, ""),
        ],
    )
    def test_the_record_says_how_the_model_was_trained(self, changes, said, folder, capsys):
        make_results(**changes).save(Path(folder) / "results.json")
        assert main(["prune", folder, "--to", "topk:0.5", "--out", f"{folder}-out"]) == 0
        told = capsys.readouterr().out
        assert said in told
        assert ("trained" in told) == bool(said)
        record = json.loads(Path(f"{folder}-out", "pruning.json").read_text())["trained"]
        if not said:
            assert record is None
        elif "without CrAM" in said:
            assert record == {"compressors": []}
        elif "SAM" in said:
            assert (record["compressors"], record["rho"]) == (["topk:0"], 0.05)
        else:
            assert (record["compressors"], record["rho"], record["plus"]) == (["topk:0.5", "nm:2:4"], 0.01, None)
            assert (record["normalize_grad"], record["compress_exclude"]) == (False, None)

    def test_a_results_file_of_another_kind_is_passed_over(self, folder, capsys, caplog):
        (Path(folder) / "results.json").write_text('{"f1": 90}')
        assert pruned(capsys, folder, "--to", "topk:0.5")[0]["trained"] is None
        assert "How the model was trained is left out of pruning.json: " in caplog.text

    @pytest.mark.parametrize("head", HEADS)
    def test_any_head_is_taken(self, head, make_model, tmp_path, capsys):
        folder = saved(make_model(head), tmp_path / head)
        assert main(["prune", folder, "--to", "topk:0.5", "--out", str(tmp_path / "out"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["sparsity"] == 0.5

    def test_a_model_without_tokenizer_is_pruned_without_data(self, qa_model, tmp_path, capsys):
        result, _ = pruned(capsys, saved(qa_model, tmp_path / "model", tokenizer=False), "--to", "topk:0.5")
        assert result["sparsity"] == 0.5

    @pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
    def test_with_data_it_is_what_the_python_functions_give(self, method, qa_model, folder, data, capsys):
        words = ["--to", "topk:0.5", "--method", method, "--refit", "--repair", "--data", data]
        result, model = pruned(capsys, folder, *words)
        tokenizer, weights = AutoTokenizer.from_pretrained(folder), compressible_weights(qa_model)
        texts = batches(read_calibration(data), tokenizer, max_length=256)
        dense = output_moments(qa_model, weights, texts)
        errors = prune_with_data_(qa_model, weights, TopK(0.5), texts, method=method, refit=True)
        repair_(qa_model, weights, texts, dense)
        for name, value in qa_model.state_dict().items():
            assert torch.equal(model.state_dict()[name], value)
        assert result["errors"] == errors
        assert (result["texts"], result["tokens"], result["sparsity"]) == (4, 7 + 9 + 9 + 4, 0.5)

    def test_permuted_it_keeps_more_and_still_follows_the_pattern(self, qa_model, folder, data, capsys):
        words = ["--to", "nm:2:4", "--permute", "--repair", "--data", data]
        result, model = pruned(capsys, folder, *words)
        assert all(follows_nm(weight, 2, 4) for weight in compressible_weights(model).values())
        gains = permute_channels_(qa_model, compressible_weights(qa_model), NM(2, 4))
        assert result["gains"] == {name: [gain.before, gain.after] for name, gain in gains.items()}

    def test_repair_gives_batch_normalisation_the_statistics_of_the_pruned_model(self, qa_model, folder):
        norm = qa_model.bert.embeddings.LayerNorm = OverTokens(qa_model.config.hidden_size)
        texts = [{"input_ids": torch.arange(12).view(2, 6)}]
        args = argparse.Namespace(permute=False, method="magnitude", refit=False, repair=True)
        prune_(qa_model.eval(), compressible_weights(qa_model), TopK(0.5), texts, args)
        assert norm.running_mean.abs().sum() > 0
        assert norm.momentum == 0.1

    def test_what_takes_long_has_a_bar_on_a_terminal(self, folder, data, capsys, monkeypatch):
        bars = []
        for place in ("permute", "repair", "layerwise"):
            shown = f"cram_hf.oneshot.{place}.tqdm"
            monkeypatch.setattr(shown, lambda what, desc, disable, unit: bars.append((desc, disable)) or what)
        pruned(capsys, folder, "--to", "nm:2:4", "--permute", "--refit", "--repair", "--data", data)
        assert bars == [(name, None) for name in ("permute", "dense outputs", "magnitude nm:2:4", "repair")]

    def test_a_seed_draws_the_texts(self, folder, data, capsys):
        result, _ = pruned(capsys, folder, "--to", "topk:0.5", "--repair", "--data", data, "--samples", "2")
        assert result["texts"] == 2

    def test_people_get_a_few_lines(self, folder, data, tmp_path, capsys):
        words = ["--to", "nm:2:4", "--out", str(tmp_path / "out"), "--data", data, "--refit", "--permute"]
        assert main(["prune", folder, *words]) == 0
        out = capsys.readouterr().out
        assert "50.0 % of 4,096 compressible weights are zero, " in out
        assert "nm:2:4 by magnitude, permute, refit, 4 texts (29 tokens); " in out
        assert "Squared error of the layers' outputs, relative to the outputs: mean " in out
        assert " more magnitude in 4 layers." in out
        assert "The file is no smaller and the model no faster by that" in out


class TestMistakes:
    def test_all_problems_of_the_flags_are_told_at_once(self, folder, tmp_path, capsys):
        words = ["--to", "topk:0.5", "--method", "wanda", "--repair", "--permute", "--samples", "0"]
        told = refused(capsys, folder, "--out", str(tmp_path / "out"), *words)
        assert "--method wanda, --repair: needs texts, without labels. Add --data FILE" in told
        assert "--permute serves N:M patterns; --to topk:0.5 has none. Type e.g. --to nm:2:4." in told
        assert "--samples 0: a whole number from 1 on." in told

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--to", "tpok:0.5"], "'tpok:0.5' is no compressor. Did you mean 'topk'?"),
            (["--to", "nm:3:5"], "nm:3:5 needs weights (out, in, ...) whose input dimension is a multiple of 5"),
            (["--to", "topk:0.5", "--method", "obert"], "argument --method: invalid choice: 'obert'"),
            (["--to", "topk:0.5", "--data", "TEXTS"], "--data: nothing here uses it."),
            (["--to", "topk:0.5", "--repair", "--data", "TEXTS.no"], "no such file; did you mean"),
            (["--to", "quantize:8", "--method", "wanda", "--data", "TEXTS"], "pruning with data takes one pruner"),
            (["--to", "topk:0.5", "--compress_exclude", "querry"], "--compress_exclude 'querry' matches no weight."),
        ],
    )
    def test_one_message_and_nothing_is_written(self, words, sentence, folder, data, tmp_path, capsys):
        words = [word.replace("TEXTS", data) for word in words]
        assert sentence in refused(capsys, folder, "--out", str(tmp_path / "out"), *words)
        assert not (tmp_path / "out").exists()

    def test_a_folder_in_use_is_refused_before_the_model_is_read(self, folder, tmp_path, capsys):
        told = refused(capsys, "no-model", "--to", "topk:0.5", "--out", folder)
        assert "exists and is not empty; an export needs a new or empty folder" in told

    def test_no_such_model(self, tmp_path, capsys):
        told = refused(capsys, str(tmp_path / "modle"), "--to", "topk:0.5", "--out", str(tmp_path / "out"))
        assert "There is no folder" in told

    def test_data_need_a_tokenizer(self, qa_model, data, tmp_path, capsys):
        folder = saved(qa_model, tmp_path / "model", tokenizer=False)
        words = ["--to", "topk:0.5", "--repair", "--data", data]
        assert "has no tokenizer" in refused(capsys, folder, "--out", str(tmp_path / "out"), *words)

    def test_ctrl_c_leaves_nothing_behind(self, folder, tmp_path, capsys, monkeypatch):
        def stop(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("cram_hf.cli.prune.write_json", stop)
        assert main(["prune", folder, "--to", "topk:0.5", "--out", str(tmp_path / "out")]) == 130
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
