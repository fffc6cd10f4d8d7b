"""`cram-hf prune --mask_from`: the zeros of a pruned model go into another, and what is kept may be updated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli_fixtures import saved
from conftest import HEADS
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from cram_hf import NM, TopK, card_bare, compressible_weights
from cram_hf.cli import main
from cram_hf.cli.models import load_checkpoint
from cram_hf.oneshot import batches, output_moments, prune_with_data_, read_calibration, repair_
from cram_hf.sparsity import measure

TEXTS = "where is the ferry ?\nthe ferry is in the harbour .\nis the harbour in the ferry ?\nwhere ?\n"


@pytest.fixture
def folder(qa_model, tmp_path):
    return saved(qa_model, tmp_path / "model")


@pytest.fixture
def pruned_model(make_model):
    """A model of the same architecture with other weights, so that no magnitude of ours gives its mask."""
    torch.manual_seed(7)
    model = make_model()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.05)
    TopK(0.7).apply_(compressible_weights(model))
    return model


@pytest.fixture
def source(pruned_model, tmp_path):
    return saved(pruned_model, tmp_path / "pruned", tokenizer=False)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "texts.txt").write_text(TEXTS, encoding="utf-8")
    return str(tmp_path / "texts.txt")


def kept(model) -> dict[str, torch.Tensor]:
    return {name: weight.detach() != 0 for name, weight in compressible_weights(model).items()}


def pruned(capsys, folder: str, source: str, *words: str) -> tuple[dict, torch.nn.Module]:
    out = str(Path(folder).parent / "out")
    assert main(["prune", folder, "--mask_from", source, "--out", out, *words, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out), AutoModelForQuestionAnswering.from_pretrained(out).eval()


def refused(capsys, *words: str) -> str:
    assert main(["prune", *words]) == 2
    out, told = capsys.readouterr()
    assert out == ""
    return told


class TestWhatIsWritten:
    def test_without_data_the_zeros_go_in_and_nothing_else_changes(
        self, folder, source, qa_model, pruned_model, capsys
    ):
        result, model = pruned(capsys, folder, source)
        masks = kept(pruned_model)
        for name, value in model.state_dict().items():
            assert torch.equal(value, qa_model.state_dict()[name] * masks.get(name, torch.tensor(1.0))), name
        assert result["sparsity"] == measure(pruned_model, compressible_weights(pruned_model)).compressible
        assert (result["mask_from"], result["spec"], result["method"]) == (source, None, None)
        assert json.loads(Path(result["out"], "pruning.json").read_text()) == result

    @pytest.mark.parametrize("words", [["--method", "sparsegpt"], ["--refit"], ["--method", "sparsegpt", "--refit"]])
    def test_with_data_only_the_weights_that_stay_are_updated(
        self, words, folder, source, qa_model, pruned_model, data, capsys
    ):
        result, model = pruned(capsys, folder, source, *words, "--data", data)
        masks, dense = kept(pruned_model), compressible_weights(qa_model)
        for name, mask in kept(model).items():
            assert torch.equal(mask, masks[name])
            assert not torch.equal(model.get_parameter(name), dense[name] * masks[name])
        assert result["errors"].keys() == masks.keys()

    @pytest.mark.parametrize("words", [["--method", "sparsegpt"], ["--refit"]])
    def test_the_first_layers_output_is_nearer_to_the_dense_one_than_with_the_mask_alone(
        self, words, folder, source, qa_model, pruned_model, data, capsys
    ):
        _, model = pruned(capsys, folder, source, *words, "--data", data)
        [texts] = batches(read_calibration(data), AutoTokenizer.from_pretrained(folder), max_length=256)
        with torch.no_grad():
            hidden = qa_model.eval().bert.embeddings(texts["input_ids"])[texts["attention_mask"].bool()]
            name = next(iter(compressible_weights(qa_model)))
            ours, layer = (m.get_submodule(name.removesuffix(".weight")) for m in (model, qa_model))
            wanted = layer(hidden)
            layer.weight.mul_(kept(pruned_model)[name])
            assert (ours(hidden) - wanted).norm() < 0.9 * (layer(hidden) - wanted).norm()

    def test_it_is_what_the_python_functions_give_and_repair_follows(
        self, folder, source, qa_model, pruned_model, data, capsys
    ):
        result, model = pruned(capsys, folder, source, "--method", "sparsegpt", "--repair", "--data", data)
        texts = batches(read_calibration(data), AutoTokenizer.from_pretrained(folder), max_length=256)
        weights, masks = compressible_weights(qa_model), kept(pruned_model)
        dense = output_moments(qa_model, weights, texts)
        errors = prune_with_data_(qa_model, weights, TopK(0), texts, method="sparsegpt", masks=masks)
        repair_(qa_model, weights, texts, dense)
        assert all(torch.equal(model.state_dict()[name], value) for name, value in qa_model.state_dict().items())
        assert result["errors"] == errors

    def test_a_packed_model_and_one_with_another_head_give_their_zeros_too(self, folder, make_model, tmp_path, capsys):
        other = make_model(next(head for head in HEADS if head != "question_answering"))
        NM(2, 4).apply_(compressible_weights(other))
        saved(other, tmp_path / "other")
        assert main(["pack", str(tmp_path / "other"), "--out", str(tmp_path / "packed")]) == 0
        capsys.readouterr()
        _, model = pruned(capsys, folder, str(tmp_path / "packed"))
        assert all(torch.equal(mask, kept(other)[name]) for name, mask in kept(model).items())

    def test_a_mask_whose_channels_were_reordered_is_refused(self, folder, tmp_path, capsys):
        assert main(["prune", folder, "--to", "nm:2:4", "--permute", "--out", str(tmp_path / "moved")]) == 0
        capsys.readouterr()
        assert main(["prune", folder, "--mask_from", str(tmp_path / "moved"), "--out", str(tmp_path / "out")]) == 2
        assert "moved was pruned with --permute: its channels lie in another order" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ([], "no other change; "),
            (["--method", "sparsegpt", "--repair"], "sparsegpt, repair, 4 texts (29 tokens); "),
        ],
    )
    def test_people_and_the_card_are_told_where_the_mask_is_from(self, words, said, folder, source, data, capsys):
        words = [*words, *(["--data", data] if words else [])]
        assert main(["prune", folder, "--mask_from", source, "--out", f"{folder}-out", *words]) == 0
        assert f"\nThe zeros of {source} with {said}" in capsys.readouterr().out
        card = card_bare.bare_card(Path(f"{folder}-out"))
        assert (
            f"pruned in one shot: the zeros of pruned** with {said.partition(', 4')[0].rstrip('; ')}. 70.0 %" in card
        )
        assert "tags:\n- pruned\n- sparse\n" in card
        assert "## How to prune further" in card

    def test_the_bar_on_a_terminal_names_no_spec(self, folder, source, data, capsys, monkeypatch):
        bars = []
        monkeypatch.setattr(
            "cram_hf.oneshot.layerwise.tqdm", lambda what, desc, unit, disable: bars.append(desc) or what
        )
        pruned(capsys, folder, source, "--refit", "--data", data)
        assert bars == ["magnitude given mask"]


class TestMistakes:
    def test_all_problems_of_the_flags_are_told_at_once(self, folder, tmp_path, capsys):
        words = ["--to", "tpok:0.5", "--mask_from", "m", "--method", "wanda", "--permute", "--samples", "0"]
        told = refused(capsys, folder, "--out", str(tmp_path / "out"), *words)
        *lines, last = told.splitlines()
        assert lines == [
            "error: --to tpok:0.5 and --mask_from m: one of them says what goes. Leave one out.",
            "--method wanda only chooses weights, and --mask_from has chosen. Type --method sparsegpt or --refit.",
            "--permute moves channels away from their places in --mask_from. Leave one of them out.",
            "--method wanda: needs texts, without labels. Add --data FILE, e.g. the training file.",
            "--samples 0: a whole number from 1 on.",
        ]
        assert last.startswith("'tpok:0.5' is no compressor. Did you mean 'topk'?")

    def test_neither_a_spec_nor_a_mask(self, folder, tmp_path, capsys):
        told = refused(capsys, folder, "--out", str(tmp_path / "out"), "--refit")
        assert "type --to SPEC, e.g. --to topk:0.8, or --mask_from PRUNED_MODEL.\n--refit: needs texts" in told

    def test_a_mask_that_does_not_fit_is_one_line_and_nothing_is_written(self, folder, qa_model, tmp_path, capsys):
        def said(source: Path | str) -> str:
            told = refused(capsys, folder, "--mask_from", str(source), "--out", str(tmp_path / "out"))
            lines = [line for line in told.splitlines() if line.startswith("error: ")]
            assert len(lines) == 1
            assert told.endswith(f"{lines[0]}\n")
            assert not (tmp_path / "out").exists()
            return lines[0]

        assert "none of its 4,096 compressible weights is zero, so there is no mask in it." in said(folder)
        assert "There is no folder" in said(tmp_path / "modle")
        assert "'querry' matches no weight" in refused(
            capsys, folder, "--mask_from", folder, "--out", str(tmp_path / "out"), "--compress_exclude", "querry"
        )

    def test_another_architecture_or_size(self, folder, qa_model, tmp_path, capsys):
        config = qa_model.config.__class__(**{**qa_model.config.to_dict(), "intermediate_size": 8})
        saved(type(qa_model)(config), tmp_path / "small")
        config.num_hidden_layers = 1
        saved(type(qa_model)(config), tmp_path / "short")
        words = [folder, "--out", str(tmp_path / "out"), "--mask_from"]
        told = refused(capsys, *words, str(tmp_path / "small"))
        assert "small is of another size: bert.encoder.layer.0.intermediate.dense.weight is (8, 16) there" in told
        assert told.endswith(f") in {folder}. Give a pruned model of the same architecture.\n")
        told = refused(capsys, *words, str(tmp_path / "short"))
        assert f"short is a BertForQuestionAnswering, {folder} a BertForQuestionAnswering: " in told
        assert "6 compressible weights are in one of them alone, first bert.encoder.layer.1.attention" in told

    def test_the_mask_is_loaded_as_safely_as_the_model(self, folder, source, capsys, monkeypatch):
        asked = []

        def load(name, trust):
            asked.append((name, trust))
            return load_checkpoint(name, trust)

        monkeypatch.setattr("cram_hf.cli.prune_mask.load_checkpoint", load)
        pruned(capsys, folder, source)
        assert asked == [(source, False)]
        Path(source, "model.safetensors").rename(Path(source, "pytorch_model.bin"))
        told = refused(capsys, folder, "--mask_from", source, "--out", f"{folder}-2")
        assert f"error: {source}: the model cannot be loaded: " in told
