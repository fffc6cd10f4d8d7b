"""`cram-hf pack` and `cram-hf unpack`: there and back, with nothing lost but what the type cannot hold."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from cli_fixtures import saved
from conftest import HEADS
from safetensors.torch import load_file
from transformers import AutoTokenizer, DistilBertConfig, DistilBertForMaskedLM, T5Config, T5ForConditionalGeneration

from cram_hf import TopK, compressible_weights
from cram_hf.cli import main
from cram_hf.cli.models import load_checkpoint
from cram_hf.export import same_bits
from cram_hf.packed import load_packed


def pruned(model):
    TopK(0.8).apply_(compressible_weights(model))
    return model


def same(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(same_bits(a[name], b[name]) for name in a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head", HEADS)
def test_there_and_back_gives_the_same_checkpoint(head, dtype, make_model, tmp_path, capsys):
    model = pruned(make_model(head)).to(dtype)
    folder, packed, back = saved(model, tmp_path / "m"), str(tmp_path / "p"), str(tmp_path / "new" / "back")
    assert main(["pack", folder, "--out", packed, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == (tmp_path / "p" / "model.packed.safetensors").stat().st_size
    assert told["dense_bytes"] == (tmp_path / "m" / "model.safetensors").stat().st_size
    assert main(["unpack", packed, "--out", back]) == 0
    assert same(type(model).from_pretrained(back, dtype="auto"), model)
    assert load_file(f"{back}/model.safetensors").keys() == load_file(f"{folder}/model.safetensors").keys()
    assert AutoTokenizer.from_pretrained(back)("the ferry")["input_ids"] == [2, 7, 8, 3]
    assert sorted(os.listdir(back)) == sorted(os.listdir(folder))
    assert f"{back}: 0.0" in capsys.readouterr().out


def test_models_with_other_ties_and_buffers_come_back(tmp_path):
    small = {"vocab_size": 40, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    shape = {"vocab_size": 50, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 32}
    models = [T5ForConditionalGeneration(T5Config(**small)), DistilBertForMaskedLM(DistilBertConfig(**shape))]
    for i, model in enumerate(models):
        folder = saved(pruned(model), tmp_path / f"{i}", tokenizer=False)
        assert main(["pack", folder, "--out", f"{folder}-packed"]) == 0
        assert main(["unpack", f"{folder}-packed", "--out", f"{folder}-back"]) == 0
        back, tokenizer = load_checkpoint(f"{folder}-back")
        assert same(back, model)
        assert tokenizer is None
        ties = {id(p) for p in model.parameters()}
        assert len(ties) == len({id(p) for p in back.parameters()}) < len(model.state_dict())


def test_fp16_and_int8_come_back_rounded_in_the_models_own_dtype(qa_model, tmp_path):
    folder = saved(pruned(qa_model), tmp_path / "m")
    for dtype in ("fp16", "int8"):
        assert main(["pack", folder, "--dtype", dtype, "--out", f"{folder}-{dtype}"]) == 0
        assert main(["unpack", f"{folder}-{dtype}", "--out", f"{folder}-{dtype}-back"]) == 0
        back = load_checkpoint(f"{folder}-{dtype}-back")[0].state_dict()
        expected = load_packed(f"{folder}-{dtype}/model.packed.safetensors")
        assert all(same_bits(back[name], tensor) for name, tensor in expected.items())
        assert {tensor.dtype for tensor in back.values()} == {torch.float32}
    assert torch.equal(back["qa_outputs.weight"], qa_model.qa_outputs.weight.half().float())


def test_other_commands_take_a_packed_folder_as_a_model(make_model, tmp_path):
    model = pruned(make_model("masked_lm"))
    assert main(["pack", saved(model, tmp_path / "m"), "--out", str(tmp_path / "p")]) == 0
    loaded, tokenizer = load_checkpoint(str(tmp_path / "p"))
    assert same(loaded, model)
    assert loaded.cls.predictions.decoder.weight is loaded.bert.embeddings.word_embeddings.weight
    assert tokenizer is not None


@pytest.mark.parametrize("command", ["pack", "unpack"])
def test_a_folder_that_is_not_empty_is_left_alone(command, qa_model, tmp_path, capsys):
    folder = saved(qa_model, tmp_path / "m")
    assert main(["pack", folder, "--out", str(tmp_path / "p")]) == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    assert main([command, str(tmp_path / ("m" if command == "pack" else "p")), "--out", str(tmp_path / "full")]) == 2
    assert "full exists and is not empty" in capsys.readouterr().err
    assert os.listdir(tmp_path / "full") == ["mine"]


def test_a_damaged_packed_file_is_told_and_nothing_is_written(qa_model, tmp_path, capsys):
    assert main(["pack", saved(qa_model, tmp_path / "m"), "--out", str(tmp_path / "p")]) == 0
    path = tmp_path / "p" / "model.packed.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert main(["unpack", str(tmp_path / "p"), "--out", str(tmp_path / "back")]) == 2
    told = capsys.readouterr().err
    assert "its SHA-256 digest does not fit: the file is damaged" in told
    assert "Traceback" not in told
    assert sorted(os.listdir(tmp_path)) == ["m", "p"]


def test_a_full_disk_is_told_and_leaves_nothing(qa_model, tmp_path, capsys, monkeypatch):
    folder = saved(qa_model, tmp_path / "m")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cram_hf.packed.write.os.replace", full)
    assert main(["pack", folder, "--out", str(tmp_path / "p")]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["m"]


def test_only_a_packed_folder_is_unpacked(qa_model, tmp_path, capsys):
    folder = saved(qa_model, tmp_path / "m")
    assert main(["unpack", folder, "--out", str(tmp_path / "b")]) == 2
    assert "holds no model.packed.safetensors: give a folder that cram-hf pack wrote" in capsys.readouterr().err
    assert not Path(tmp_path / "b").exists()
