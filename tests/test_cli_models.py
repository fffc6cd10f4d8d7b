"""Commands load the model with the head its configuration names, from whole files, or say what is wrong."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from cli_fixtures import saved
from conftest import HEADS, tiny_config
from huggingface_hub.utils import logging as hub_logging
from safetensors.torch import load_file, save_file
from transformers import BertModel

from cram_hf.cli.models import load_checkpoint
from cram_hf.export import same_bits


def edit_config(folder: str, **values: object) -> None:
    path = f"{folder}/config.json"
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    config.update(values)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({key: value for key, value in config.items() if value is not None}, file)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head", HEADS)
def test_the_model_comes_back_with_its_head_and_dtype_and_its_tokenizer(head, dtype, make_model, tmp_path):
    model = make_model(head).to(dtype)
    loaded, tokenizer = load_checkpoint(saved(model, tmp_path / "m"))
    assert type(loaded) is HEADS[head]
    assert not loaded.training
    assert all(same_bits(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert tokenizer("where is the ferry ?")["input_ids"] == [2, 5, 6, 7, 8, 9, 3]


def test_a_folder_without_tokenizer_files_has_no_tokenizer(qa_model, tmp_path):
    assert load_checkpoint(saved(qa_model, tmp_path / "m", tokenizer=False))[1] is None


def test_missing_weights_are_never_filled_in(tmp_path):
    folder = saved(BertModel(tiny_config()), tmp_path / "m")
    edit_config(folder, architectures=["BertForQuestionAnswering"])
    with pytest.raises(ValueError, match=r"lack 2 weights of BertForQuestionAnswering, first qa_outputs\.bias"):
        load_checkpoint(folder)


def test_weights_of_another_shape_are_refused(qa_model, tmp_path):
    folder = saved(qa_model, tmp_path / "m")
    tensors = load_file(f"{folder}/model.safetensors")
    tensors["qa_outputs.bias"] = torch.zeros(5)
    save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="the model cannot be loaded"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("architectures", "said"),
    [
        (None, "its config.json names no class: add e.g."),
        (["BertForTeaMaking"], "transformers has no model BertForTeaMaking"),
        (["AutoConfig"], "transformers has no model AutoConfig"),
    ],
)
def test_a_configuration_without_a_class_of_transformers_is_told(architectures, said, qa_model, tmp_path):
    folder = saved(qa_model, tmp_path / "m")
    edit_config(folder, architectures=architectures)
    with pytest.raises(ValueError, match=said):
        load_checkpoint(folder)


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_file_that_is_cut_off_is_told_in_one_line(keep, qa_model, tmp_path):
    folder = saved(qa_model, tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=f"^{folder}: the model cannot be loaded: [^\n]+$"):
        load_checkpoint(folder)


def test_weights_in_pickles_are_not_read(qa_model, tmp_path):
    folder = saved(qa_model, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(qa_model.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no file named model\.safetensors"):
        load_checkpoint(folder)


def test_wrong_paths_are_told_with_what_is_near(qa_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(qa_model, tmp_path / "runs" / "squad")
    for name, said in {
        "runs/sqaud": r"There is no folder runs/sqaud\. Near it: runs/squad\.",
        "./nothing/here": r"There is no folder \./nothing/here\. Give a folder, or a name on the Hub\.",
        "runs": r"runs holds no config\.json: .* Near it: runs/squad\.",
        "runs/squad/config.json": "is a file: give the folder that holds it",
        "rusn": "rusn: there is no such folder, .* on the Hub it cannot be loaded: .* A folder near it: runs",
        "some/model": "some/model: there is no such folder, and as a name on the Hub it cannot be loaded",
    }.items():
        with pytest.raises(ValueError, match=said):
            load_checkpoint(name)


def test_without_a_connection_only_the_last_try_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = logging.getLogger("huggingface_hub.utils._http")  # warns at each of five tries, four times over
    hub_logging.set_verbosity_warning()
    with pytest.raises(ValueError, match="there is no such folder"):
        load_checkpoint("nothing")
    assert not told.isEnabledFor(logging.WARNING)
    assert told.isEnabledFor(logging.ERROR)
