"""An export loads with transformers alone as the compressed model; the model in memory is as before."""

from __future__ import annotations

import copy
import os
import re

import pytest
import torch
import transformers
from conftest import tiny_config
from huggingface_hub import ModelCard
from packaging.version import Version
from results_fixtures import make_results
from safetensors.torch import load_file, save_file
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, BertForQuestionAnswering, BertTokenizerFast

from cram_hf import compressible_weights, parse_compressor
from cram_hf.card import card
from cram_hf.export import export, same_bits
from cram_hf.results import Results

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "where", "is", "the", "ferry", "?", "in", "harbour", "."]


@pytest.fixture
def tokenizer():
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)})


def states_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(same_bits(a[name], b[name]) for name in a)


def expected_state(model, compressor) -> dict[str, torch.Tensor]:
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return state | compressor(compressible_weights(model))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spec", ["topk:0.8", "topk:0.5:layer", "nm:2:4", "quantize:8", "nm:2:4+quantize:8"])
def test_an_export_reloads_as_the_compressed_weights_bit_for_bit(spec, dtype, qa_model, tokenizer, tmp_path):
    model, compressor = qa_model.to(dtype), parse_compressor(spec)
    before, expected = copy.deepcopy(model.state_dict()), expected_state(model, compressor)
    export(model, tokenizer, compressor, tmp_path / "out", weights=compressible_weights(model))
    reloaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out", dtype="auto")
    assert states_equal(reloaded.state_dict(), expected)
    assert states_equal(model.state_dict(), before)


def test_the_zeros_counted_in_the_file_are_the_sparsity_reported(qa_model, tokenizer, tmp_path):
    weights = compressible_weights(qa_model)
    done = export(qa_model, tokenizer, parse_compressor("topk:0.75"), tmp_path / "out", weights=weights)
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    zeros = {name: int((tensor == 0).sum()) for name, tensor in tensors.items()}
    assert sum(zeros[name] for name in weights) == 3072  # of 4,096
    assert done.sparsity.compressible == 0.75
    assert done.sparsity.model == sum(zeros.values()) / sum(tensor.numel() for tensor in tensors.values())
    assert done.directory == tmp_path / "out"


def test_tokenizer_card_and_results_come_along(qa_model, tokenizer, tmp_path):
    results = make_results()
    export(
        qa_model,
        tokenizer,
        parse_compressor("nm:2:4"),
        tmp_path / "new" / "out",
        weights=compressible_weights(qa_model),
        results=results,
        card=card(results, export_spec="nm:2:4"),
    )
    assert os.listdir(tmp_path / "new") == ["out"]
    assert Results.load(tmp_path / "new" / "out" / "results.json") == results
    assert "2:4" in ModelCard.load(tmp_path / "new" / "out" / "README.md").data.tags
    reloaded = AutoTokenizer.from_pretrained(tmp_path / "new" / "out")
    assert reloaded("where is the ferry ?")["input_ids"] == [2, 5, 6, 7, 8, 9, 3]


def test_the_code_on_the_card_runs(qa_model, tokenizer, tmp_path):
    spec, text = parse_compressor("topk:0.8"), card(make_results(), export_spec="topk:0.8")
    export(qa_model, tokenizer, spec, tmp_path / "out", weights=compressible_weights(qa_model))
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        code = block.replace("path/to/this/model", str(tmp_path / "out"))
        exec(code.replace("path/to/a/new/folder", str(tmp_path / "further")), names)
    assert isinstance(names["answer"], str)
    assert (tmp_path / "further" / "model.safetensors").is_file()


@pytest.mark.skipif(
    Version(transformers.__version__) >= Version("5.3"),
    reason="transformers 5.3 removed the question-answering pipeline",
)
def test_an_export_loads_in_the_question_answering_pipeline(qa_model, tokenizer, tmp_path):
    weights = compressible_weights(qa_model)
    export(qa_model, tokenizer, parse_compressor("topk:0.8"), tmp_path / "out", weights=weights)
    answering = transformers.pipeline("question-answering", model=str(tmp_path / "out"))
    assert answering(question="where is the ferry ?", context="the ferry is in the harbour .")["answer"]


def test_a_model_read_from_an_old_checkpoint_is_exported(qa_model, tokenizer, tmp_path):
    qa_model.save_pretrained(tmp_path / "old")
    file = tmp_path / "old" / "model.safetensors"
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {re.sub("|".join(names), lambda m: names[m[0]], name): t for name, t in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    model, compressor = BertForQuestionAnswering.from_pretrained(tmp_path / "old"), parse_compressor("nm:2:4")
    expected = expected_state(model, compressor)
    export(model, tokenizer, compressor, tmp_path / "out", weights=compressible_weights(model))
    reloaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out")
    assert states_equal(reloaded.state_dict(), expected)


@pytest.mark.parametrize("part", ["model", "tokenizer", "results"])
def test_an_export_that_fails_leaves_nothing_and_the_model_unharmed(part, qa_model, tokenizer, tmp_path, monkeypatch):
    before = copy.deepcopy(qa_model.state_dict())

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    owner, method = {
        "model": (qa_model, "save_pretrained"),
        "tokenizer": (tokenizer, "save_pretrained"),
        "results": (Results, "save"),
    }[part]
    monkeypatch.setattr(owner, method, fail)
    with pytest.raises(OSError, match="disk full"):
        export(
            qa_model,
            tokenizer,
            parse_compressor("topk:0.8"),
            tmp_path / "out",
            weights=compressible_weights(qa_model),
            results=make_results(),
        )
    assert list(tmp_path.iterdir()) == []
    assert states_equal(qa_model.state_dict(), before)


def test_a_folder_that_holds_something_is_refused_before_anything_is_written(qa_model, tokenizer, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="exists and is not empty; an export needs a new or empty folder"):
        export(qa_model, tokenizer, parse_compressor("nm:2:4"), tmp_path / "out", weights={})
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["mine.txt"]


def test_an_empty_folder_is_filled(qa_model, tokenizer, tmp_path):
    (tmp_path / "out").mkdir()
    weights = compressible_weights(qa_model)
    export(qa_model, tokenizer, parse_compressor("nm:2:4"), tmp_path / "out", weights=weights)
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_files_that_do_not_load_as_the_model_are_refused(qa_model, tokenizer, tmp_path, monkeypatch):
    other = BertForQuestionAnswering(tiny_config())
    monkeypatch.setattr(qa_model, "save_pretrained", other.save_pretrained)
    with pytest.raises(RuntimeError, match="cannot be read back as the model holds them; nothing was written"):
        export(qa_model, tokenizer, parse_compressor("nm:2:4"), tmp_path / "o", weights=compressible_weights(qa_model))
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_model_are_refused(qa_model, tokenizer, tmp_path):
    other = compressible_weights(copy.deepcopy(qa_model))
    with pytest.raises(RuntimeError, match="weights given must be the model's own: weights=compressible_weights"):
        export(qa_model, tokenizer, parse_compressor("nm:2:4"), tmp_path / "out", weights=other)
    assert list(tmp_path.iterdir()) == []


def test_bits_are_compared_not_values():
    zero = torch.tensor([0.0])
    assert same_bits(zero, torch.tensor([0.0]))
    assert not same_bits(zero, torch.tensor([-0.0]))
    assert not same_bits(zero, zero.double())
    assert same_bits(torch.tensor([torch.nan]), torch.tensor([torch.nan]))
