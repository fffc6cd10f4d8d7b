"""`accelerate` and `restore`: which layers change, the same answers, and the weights back bit for bit."""

from __future__ import annotations

import copy
import importlib

import pytest
import torch
from conftest import HEADS, rows, tiny_config
from torch import nn
from transformers import AutoModelForQuestionAnswering, Trainer, TrainingArguments

from cram_hf import compressible_weights, parse_compressor
from cram_hf.packed import load_packed, save_packed
from cram_hf.runtime import SparseLinear, accelerate, kernel, restore
from cram_hf.runtime.break_even import least_zeros

MODULES = [importlib.import_module(f"cram_hf.runtime.{name}") for name in ("choice", "linear")]


@pytest.fixture(autouse=True)
def _small_layers_count(monkeypatch):
    monkeypatch.setattr(MODULES[0], "SMALLEST", 1)


@pytest.fixture(autouse=True, params=["kernel", "pytorch"])
def engine(request, monkeypatch):
    """Everything holds with the compiled kernel and without it."""
    if request.param == "pytorch":
        for module in MODULES:
            monkeypatch.setattr(module, "kernel", lambda: None)
    elif kernel() is None:
        pytest.skip("the package was installed without a C++ compiler")
    return request.param


@pytest.fixture
def pruned():
    """A tiny BERT whose encoder is 92 % zeros, and a batch."""
    torch.manual_seed(0)
    model = HEADS["question_answering"](tiny_config()).eval()
    parse_compressor("topk:0.92").apply_(compressible_weights(model))
    return model, {"input_ids": torch.randint(5, 50, (3, 8)), "attention_mask": torch.ones(3, 8, dtype=torch.long)}


def logits(model, batch):
    with torch.inference_mode():
        return model(**batch).start_logits


def bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_the_layers_that_gain_are_replaced_and_the_report_says_why(pruned):
    model, batch = pruned
    before = logits(model, batch)
    report = accelerate(model, min_sparsity=0.7)
    assert len(report.layers) == 13
    assert report.replaced == [
        name.removesuffix(".weight") for name in compressible_weights(model.__class__(model.config))
    ]
    assert all(isinstance(model.get_submodule(name), SparseLinear) for name in report.replaced)
    assert report.layers[-1].name == "qa_outputs"
    assert report.layers[-1].reason == "fewer than 70% are zero"
    assert "12 of 13 linear layers run sparse" in str(report)
    assert report.sparse_bytes < report.dense_bytes
    torch.testing.assert_close(logits(model, batch), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "int8", "auto"])
def test_restore_puts_back_the_very_modules_bit_for_bit(pruned, dtype):
    model, batch = pruned
    before, answer, modules = bits(model), logits(model, batch), list(model.modules())
    replaced = accelerate(model, dtype, min_sparsity=0.7).replaced
    assert replaced
    torch.testing.assert_close(logits(model, batch), answer, rtol=0.02, atol=0.02)
    model.train().eval()
    assert restore(model) == replaced
    assert same(bits(model), before)
    assert all(one is other for one, other in zip(model.modules(), modules, strict=True))
    assert torch.equal(logits(model, batch), answer)
    assert restore(model) == []


def test_without_the_dense_layers_there_is_no_way_back(pruned):
    model, _ = pruned
    before = bits(model)
    accelerate(model, min_sparsity=0.7, keep_dense=False)
    with pytest.raises(
        ValueError, match=r"12 layers have no dense weights to go back to, first bert.encoder.layer.0.*Load the"
    ):
        restore(model)
    assert same(bits(model), before)


def test_a_copy_computes_the_same_and_is_restored_alone(pruned):
    model, batch = pruned
    accelerate(model, min_sparsity=0.7)
    other = copy.deepcopy(model)
    assert torch.equal(logits(other, batch), logits(model, batch))
    restore(other)
    assert any(isinstance(module, SparseLinear) for module in model.modules())


def test_it_is_saved_as_an_ordinary_checkpoint_and_packed(pruned, tmp_path):
    model, batch = pruned
    before, answer = bits(model), logits(model, batch)
    accelerate(model, min_sparsity=0.7)
    model.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(logits(loaded, batch), answer)
    save_packed(model, tmp_path / "packed")
    assert same(load_packed(tmp_path / "packed"), before)


def test_trainer_evaluates_it_and_cannot_train_it(pruned, tmp_path):
    model, _ = pruned
    arguments = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True, max_steps=1, disable_tqdm=True)
    examples = rows("question_answering", 6)
    dense = Trainer(model, arguments, train_dataset=examples).evaluate(examples)["eval_loss"]
    accelerate(model, min_sparsity=0.7)
    trainer = Trainer(model, arguments, train_dataset=examples)
    assert trainer.evaluate(examples)["eval_loss"] == pytest.approx(dense, rel=1e-5)
    with pytest.raises(RuntimeError, match=r"restore\(model\) to train it"):
        trainer.train()


class Odd(nn.Module):
    """One of each layer that stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 4)
        self.tied, self.wide, self.hooked = (nn.Linear(4, 4) for _ in range(3))
        self.twice = self.again = nn.Linear(4, 4)
        self.dense = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 1)
        for layer in (self.tied, self.wide, self.hooked, self.twice):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.attention.out_proj.weight)
        self.tied.weight = self.embedding.weight
        self.wide.double()
        self.hooked.register_forward_hook(lambda *_: None)


def test_layers_that_cannot_be_replaced_stay_and_are_named():
    model = Odd()
    report = accelerate(model)
    found = report.instructions != "pytorch"
    least = least_zeros(report.instructions, torch.float32, "fp32", model.dense.weight.numel()) if found else 0.9
    assert {
        layer.name: layer.reason.partition(" are zero")[0] for layer in report.layers if layer.precision is None
    } == {
        "tied": "shares its weight with another module",
        "wide": "is float64 on cpu",
        "hooked": "has hooks",
        "dense": f"fewer than {100 * least:g}%",
        "attention.out_proj": "is a NonDynamicallyQuantizableLinear",
    }
    assert report.replaced == ["twice", "again"]
    assert model.twice is model.again
    again = accelerate(model)
    assert (again.layers[3].precision, again.layers[3].reason) == ("fp32", "was sparse already")
    assert (again.replaced, again.dense_bytes, again.sparse_bytes) == (
        report.replaced,
        report.dense_bytes,
        report.sparse_bytes,
    )
    assert restore(model) == ["twice", "again"]


def test_small_layers_stay(monkeypatch):
    monkeypatch.setattr(MODULES[0], "SMALLEST", 17)
    model = nn.Sequential(nn.Linear(4, 4))
    nn.init.zeros_(model[0].weight)
    assert accelerate(model).layers[0].reason == "has fewer than 17 weights"


def test_what_cannot_be_asked_for_is_refused_all_at_once():
    said = r"dtype is 'int4'; it must be one of fp32, bf16, fp16, int8, auto.*sparsity is 80; .* use SparseLinear.from"
    with pytest.raises(ValueError, match=said):
        accelerate(nn.Linear(2, 2), "int4", min_sparsity=80)  # type: ignore[arg-type]


def test_what_is_no_model_or_no_number_is_refused():
    with pytest.raises(TypeError, match="model is a str; it must be a PyTorch model"):
        accelerate("bert")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"min_sparsity is '0.5'; it is a share of zeros in \[0, 1\]"):
        accelerate(nn.Sequential(), min_sparsity="0.5")  # type: ignore[arg-type]


def test_a_weight_without_int8_is_named_and_the_model_stays_as_it_is():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    nn.init.zeros_(model[0].weight)
    with torch.no_grad():
        model[1].weight.zero_()[0, 0] = float("inf")
    with pytest.raises(
        ValueError, match=r"^layer 1: the matrix holds a value that is not finite.* Use fp32, bf16 or fp16\."
    ):
        accelerate(model, "int8")
    assert [type(layer) for layer in model] == [nn.Linear, nn.Linear]


def test_a_share_of_zeros_is_told_as_it_was_given():
    model = nn.Sequential(nn.Linear(4, 4))
    assert accelerate(model, min_sparsity=0.955).layers[0].reason == "fewer than 95.5% are zero"


def test_a_report_on_a_model_without_linear_layers_is_empty():
    assert accelerate(nn.Sequential(nn.ReLU())).summary().startswith("0 of 0 linear layers")
