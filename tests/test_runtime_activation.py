"""GELU in the last step of a sparse layer: which models, what is computed, and the way back."""

from __future__ import annotations

import ast
import copy
import re
from pathlib import Path

import pytest
import torch
import transformers
from conftest import HEADS, tiny_config
from runtime_fixtures import AVAILABLE, PRECISIONS, at, inputs, needs_kernel, sparse, taken
from torch import nn
from torch.nn.functional import gelu
from transformers import AutoModel, DistilBertConfig, ElectraConfig, RobertaConfig
from transformers.activations import GELUActivation

from cram_hf import compressible_weights, parse_compressor
from cram_hf.runtime import SparseLinear, accelerate, activation, pack, restore
from cram_hf.runtime.activation import Applied
from cram_hf.runtime.linear import sparse_linear

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
CONFIGS = [
    tiny_config(),
    RobertaConfig(**SIZES),
    ElectraConfig(**SIZES, embedding_size=16),
    DistilBertConfig(vocab_size=60, dim=32, n_layers=2, n_heads=2, hidden_dim=64),
]


@pytest.fixture(autouse=True)
def _small_layers_count(monkeypatch):
    monkeypatch.setattr("cram_hf.runtime.choice.SMALLEST", 1)


def pruned(config=None):
    torch.manual_seed(0)
    model = HEADS["question_answering"](tiny_config()) if config is None else AutoModel.from_config(config)
    parse_compressor("topk:0.8:layer").apply_(compressible_weights(model))
    return model.eval()


def answer(model):
    with torch.inference_mode():
        return model(torch.arange(5, 50).view(3, 15))[0]


def stand_ins(model) -> int:
    return sum(isinstance(module, Applied) for module in model.modules())


@needs_kernel
@pytest.mark.parametrize(("level", "precision"), taken("fp32", "bf16", "fp16", "int8"))
def test_a_layer_applies_it_to_within_a_millionth(monkeypatch, level, precision):
    engine = at(level, monkeypatch)
    packed, x, bias = pack(sparse(70, 90, 0.5), precision), inputs(37, 90), inputs(1, 70)[0]
    y = engine.linear(x, packed, bias)
    assert (y.min(), y.max()) < (-6, 6)
    torch.testing.assert_close(
        engine.linear(x, packed, bias, gelu=True), gelu(y.double()).float(), rtol=2e-7, atol=1e-6
    )


@needs_kernel
@pytest.mark.parametrize("level", AVAILABLE)
def test_numbers_far_out_and_those_that_are_none(monkeypatch, level):
    x = torch.tensor([[1e30], [7.0], [-7.0], [-1e30], [0.0], [1e-40], [float("inf")], [float("-inf")], [float("nan")]])
    y = at(level, monkeypatch).linear(x, pack(torch.ones(1, 1)), None, gelu=True).flatten()
    assert y[:5].tolist() == [x[0, 0], 7.0, 0.0, 0.0, 0.0]
    assert y[5] == gelu(x[5])
    assert y[6] == float("inf")
    assert y[7:].isnan().all()  # 0 times infinity, as in PyTorch


@needs_kernel
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_operator_applies_it_too(precision):
    layer = SparseLinear.from_linear(nn.Linear(60, 40), precision)
    packed, x = layer.packed, inputs(6, 60).reshape(2, 3, 60)
    weight = (packed.ends, packed.order, packed.columns, packed.values, packed.peaks, packed.totals)
    torch.library.opcheck(sparse_linear, (x, *weight, layer.bias, 40, 60, True))
    layer.gelu = True
    with torch.no_grad():
        traced = torch.jit.trace(layer, x)
        assert torch.equal(traced(x), layer(x))
        assert torch.equal(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_models_whose_feed_forward_block_is_known_get_it_and_give_the_same(config):
    model = pruned(config)
    before, modules = answer(model), list(model.modules())
    accelerate(model, min_sparsity=0.5)
    assert not any(module.training for module in model.modules())
    assert stand_ins(model) == sum(module.gelu for module in model.modules() if isinstance(module, SparseLinear)) == 2
    torch.testing.assert_close(answer(model), before, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(answer(copy.deepcopy(model)), answer(model), rtol=0, atol=0)
    layers = [module for module in model.modules() if isinstance(module, SparseLinear)]
    model.train().eval()
    restore(model)
    assert not any(layer.gelu for layer in layers)
    assert all(one is other for one, other in zip(model.modules(), modules, strict=True))
    assert torch.equal(answer(model), before)


def test_a_saved_model_has_nothing_of_it(tmp_path):
    model = pruned()
    before = model.state_dict()
    accelerate(model, min_sparsity=0.5, keep_dense=False)
    assert stand_ins(model) == len(model.bert.encoder.layer)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert again.state_dict().keys() == before.keys()
    assert stand_ins(again) == 0
    torch.testing.assert_close(answer(again), answer(model), rtol=1e-5, atol=2e-5)


class Own(nn.Module):
    """A block of somebody else with the names of BERT's, where something happens in between."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.intermediate_act_fn = nn.Linear(40, 60), GELUActivation()
        nn.init.sparse_(self.dense.weight, 0.9)

    def forward(self, x):
        return self.intermediate_act_fn(2 * self.dense(x))


def test_other_blocks_other_activations_and_watched_ones_stay_as_they_are():
    accelerate(model := nn.Sequential(Own()), min_sparsity=0.5)
    assert isinstance(model[0].dense, SparseLinear)
    assert stand_ins(model) == 0
    for act in ("gelu_new", "gelu_python", "relu"):
        config = tiny_config()
        config.hidden_act = act
        model = pruned(config)
        assert accelerate(model, min_sparsity=0.5).replaced
        assert stand_ins(model) == 0
    model, seen = pruned(), []
    watched = model.bert.encoder.layer[1].intermediate.intermediate_act_fn
    watched.register_forward_hook(lambda module, given, y: seen.append(given[0].min()))
    accelerate(model, min_sparsity=0.5)
    assert stand_ins(model) == len(model.bert.encoder.layer) - 1
    answer(model)
    assert seen[0] < -0.2  # before GELU


def test_a_block_whose_forward_was_replaced_stays_as_it_is(monkeypatch):
    model = pruned()
    block = model.bert.encoder.layer[0].intermediate
    block.forward = lambda x: block.intermediate_act_fn(2 * block.dense(x))
    expected = answer(model)
    accelerate(model, min_sparsity=0.5)
    assert stand_ins(model) == len(model.bert.encoder.layer) - 1
    torch.testing.assert_close(answer(model), expected, rtol=1e-5, atol=2e-5)
    restore(model)
    monkeypatch.setattr(type(block), "forward", lambda self, x: self.dense(x))
    accelerate(model, min_sparsity=0.5)
    assert stand_ins(model) == 0


def test_a_sparse_layer_that_was_there_before_stays_as_it_is():
    model = pruned()
    block = model.bert.encoder.layer[0].intermediate
    block.dense = probe = SparseLinear.from_linear(block.dense)
    accelerate(model, min_sparsity=0.5)
    assert not probe.gelu
    assert stand_ins(model) == len(model.bert.encoder.layer) - 1


def test_a_layer_that_is_used_in_two_places_applies_it_in_none():
    model = pruned()
    model.other = model.bert.encoder.layer[0].intermediate.dense
    accelerate(model, min_sparsity=0.5)
    assert isinstance(model.other, SparseLinear)
    assert model.other is model.bert.encoder.layer[0].intermediate.dense
    assert not model.other.gelu
    assert stand_ins(model) == len(model.bert.encoder.layer) - 1
    accelerate(model.bert, min_sparsity=0.5)
    assert not model.other.gelu


def test_a_block_that_has_two_names_applies_it():
    model = pruned()
    model.other = model.bert
    accelerate(model, min_sparsity=0.5)
    assert stand_ins(model) == len(model.bert.encoder.layer)


def test_layers_that_stay_dense_keep_their_activation():
    model = pruned()
    accelerate(model, min_sparsity=0.99)
    assert stand_ins(model) == 0


def test_in_every_model_of_transformers_such_a_block_does_nothing_else():
    """What `activation.BLOCKS` takes for granted, read in the source of the installed version."""
    found = 0
    for path in Path(transformers.__file__).parent.glob("models/*/modeling_*.py"):
        source = path.read_text(encoding="utf-8")
        if "Intermediate" not in source and "FFN" not in source:
            continue
        for node in ast.parse(source).body:
            if not isinstance(node, ast.ClassDef):
                continue
            for kind, layer, act in activation.BLOCKS:
                text = ast.unparse(node)
                both = f"self.{layer}(" in text and f"self.{act}(" in text
                if not (re.fullmatch(kind, node.name) and both):
                    continue
                lines = [line.strip() for line in text.splitlines()]
                first = next(i for i, line in enumerate(lines) if f"self.{layer}(" in line)
                value, _, call = lines[first].partition(" = ")
                assert call.startswith(f"self.{layer}("), (path, node.name)
                assert lines[first + 1] == f"{value} = self.{act}({value})", (path, node.name)
                assert text.count(f"self.{layer}(") == text.count(f"self.{act}(") == 1, (path, node.name)
                found += 1
    assert found > 20
