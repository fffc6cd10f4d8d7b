"""A packed file becomes sparse layers without a dense copy, and a damaged or forged one is an error."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from conftest import HEADS, tiny_config
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packed_fixtures import put_at, put_together, taken_apart, values
from runtime_fixtures import needs_kernel
from torch import nn
from torch.nn.utils import prune
from transformers import BertConfig, BertModel

from cram_hf import compressible_weights, parse_compressor
from cram_hf.packed import PackedError, load_packed, save_packed
from cram_hf.runtime import SparseLinear, accelerate, load_accelerated, restore

BATCH = {"input_ids": torch.arange(5, 29).view(3, 8), "attention_mask": torch.ones(3, 8, dtype=torch.long)}


@pytest.fixture(autouse=True)
def _small_layers_count(monkeypatch):
    monkeypatch.setattr("cram_hf.runtime.choice.SMALLEST", 1)


def config(hidden: int = 32) -> BertConfig:
    """Matrices large enough for a mask in int8 too."""
    made = tiny_config()
    made.hidden_size, made.intermediate_size = hidden, 2 * hidden
    return made


def pruned(head: str = "question_answering", spec: str = "topk:0.85:layer") -> nn.Module:
    torch.manual_seed(0)
    model = HEADS[head](config()).eval()
    parse_compressor(spec).apply_(compressible_weights(model))
    return model


def empty(head: str = "question_answering") -> nn.Module:
    with init_empty_weights():
        return HEADS[head](config()).eval()


def answer(model: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(**BATCH)[0]


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "int8"])
@pytest.mark.parametrize("stored", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("head", HEADS)
def test_it_computes_what_the_loaded_and_accelerated_model_computes(head, stored, dtype, tmp_path):
    save_packed(pruned(head), tmp_path / "p", dtype=stored)
    model, other = empty(head), HEADS[head](config()).eval()
    other.load_state_dict(load_packed(tmp_path / "p"))
    report = load_accelerated(tmp_path / "p", model, dtype, min_sparsity=0.5)
    assert report.replaced == accelerate(other, dtype, min_sparsity=0.5, keep_dense=False).replaced
    assert len(report.replaced) == 12
    assert torch.equal(answer(model), answer(other))
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in other.state_dict().items())


@needs_kernel
def test_a_model_with_weights_is_filled_too_and_has_no_dense_layers_to_restore(tmp_path):
    save_packed(pruned(), tmp_path / "p")
    model = HEADS["question_answering"](config()).eval()
    load_accelerated(tmp_path / "p", model)
    assert torch.equal(answer(model), answer_of_file(tmp_path / "p"))
    with pytest.raises(ValueError, match="12 layers have no dense weights to go back to"):
        restore(model)
    with pytest.raises(ValueError, match="is a sparse layer already and cannot be filled"):
        load_accelerated(tmp_path / "p", model)


def answer_of_file(path: Path) -> torch.Tensor:
    model = HEADS["question_answering"](config()).eval()
    model.load_state_dict(load_packed(path))
    accelerate(model)
    return answer(model)


@needs_kernel
def test_a_narrow_model_stays_narrow_and_a_layer_of_another_type_stays_dense(tmp_path):
    model = pruned().bfloat16()
    model.bert.encoder.layer[0].output.dense.double()
    save_packed(model, tmp_path / "p")
    filled = empty()
    report = load_accelerated(tmp_path / "p", filled)
    assert filled.dtype == torch.bfloat16
    assert len(report.replaced) == 11  # a packed file holds fp64 as fp32 and says so: it comes back as fp64
    assert [layer.reason for layer in report.layers if "float64" in layer.reason] == ["is float64 on cpu"]


class Odd(nn.Module):
    """A module in two places, a weight that two modules share, and a layer without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = self.again = nn.Sequential(nn.Linear(32, 32))
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32, bias=False)
        self.second.weight = self.first.weight
        self.plain = nn.Linear(32, 32, bias=False)
        for layer in (self.twice[0], self.first, self.plain):
            with torch.no_grad():
                layer.weight[1:] = 0


def test_shared_weights_stay_and_a_module_in_two_places_is_replaced_in_both(tmp_path):
    source = Odd()
    save_packed(source, tmp_path / "p")
    with init_empty_weights():
        model = Odd()
    report = load_accelerated(tmp_path / "p", model)
    assert report.replaced == ["twice.0", "again.0", "plain"]
    assert model.twice is model.again
    assert isinstance(model.twice[0], SparseLinear)
    assert [layer.reason for layer in report.layers if not layer.precision] == [
        "shares its weight with another module"
    ] * 2
    assert model.first.weight.data_ptr() == model.second.weight.data_ptr()
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in source.state_dict().items())


@needs_kernel
def test_the_encoder_takes_at_most_35_percent_of_its_dense_weights(tmp_path):
    source = HEADS["question_answering"](config(128))
    weights = compressible_weights(source)
    parse_compressor("topk:0.8:layer").apply_(weights)
    dense = sum(weight.nbytes for weight in weights.values())
    save_packed(source, tmp_path / "p")
    with init_empty_weights():
        model = HEADS["question_answering"](config(128))
    report = load_accelerated(tmp_path / "p", model)
    layers = [module for module in model.modules() if isinstance(module, SparseLinear)]
    assert report.dense_bytes == dense
    assert report.sparse_bytes == sum(layer.packed.nbytes for layer in layers) <= 0.3 * dense
    assert not weights.keys() & dict(model.named_parameters()).keys()


WORKER = """
import sys
from accelerate import init_empty_weights
from transformers import BertConfig, BertModel
from cram_hf.runtime import load_accelerated
def resident(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024
with init_empty_weights():
    model = BertModel(BertConfig(vocab_size=10))
open("/proc/self/clear_refs", "w").write("5")
before = resident("VmRSS")
load_accelerated(sys.argv[1], model, sys.argv[2])
print(resident("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read as Linux tells it")
def test_loading_takes_at_most_35_percent_of_the_dense_encoder_at_its_peak(tmp_path):
    with init_empty_weights():
        shapes = {name: t.shape for name, t in BertModel(BertConfig(vocab_size=10)).state_dict().items()}
    state = {name: torch.randn(shape) for name, shape in shapes.items()}
    encoder = [tensor for name, tensor in state.items() if "encoder" in name and tensor.dim() == 2]
    for weight in encoder:
        weight *= torch.rand(weight.shape) < 0.2
    save_packed(state, tmp_path / "p")
    for dtype in ("fp32", "bf16", "fp16", "int8"):
        command = [sys.executable, "-c", WORKER, str(tmp_path / "p"), dtype]
        peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert peak <= 0.35 * sum(weight.nbytes for weight in encoder), peak


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> bytes:
    """A masked matrix of 29 x 33, scaled to int8, and its bias."""
    path = tmp_path_factory.mktemp("packed") / "p"
    save_packed(small(), path, dtype="int8", compressible=["0.weight"])
    return path.read_bytes()


def small() -> nn.Module:
    model = nn.Sequential(nn.Linear(33, 29))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(29, 33))
        model[0].bias.copy_(torch.arange(29))
    return model


def load(data: bytes, folder: Path) -> nn.Module:
    (folder / "forged").write_bytes(data)
    with init_empty_weights():
        model = small()
    before = model[0]
    try:
        load_accelerated(folder / "forged", model)
    except PackedError:
        assert model[0] is before
        assert all(parameter.is_meta for parameter in model.parameters())
        raise
    return model


def is_small(model: nn.Module) -> bool:
    return isinstance(model[0], SparseLinear) and torch.equal(model[0].weight, small()[0].weight)


def test_the_file_that_is_forged_below_loads(original, tmp_path):
    assert is_small(load(put_together(*taken_apart(original)), tmp_path))


def test_a_file_cut_or_changed_is_refused_and_the_model_left_alone(original, tmp_path):
    for place in range(0, len(original), 7):
        with pytest.raises(PackedError):
            load(original[:place], tmp_path)
        with pytest.raises(PackedError):
            load(original[:place] + bytes([original[place] ^ 1]) + original[place + 1 :], tmp_path)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda d: d["__metadata__"]["tensors"]["0.weight"].update(shape=[29, 32, 1]), "is not U8 of shape"),
        (lambda d: d["__metadata__"]["tensors"]["0.weight"].update(kept=30), "is not I8 of shape"),
        (lambda d: d["__metadata__"]["tensors"]["0.weight"].update(shape=[1 << 40, 1 << 40]), "impossible shape"),
    ],
)
def test_a_forged_shape_is_refused(edit, said, original, tmp_path):
    document, payload = taken_apart(original)
    edit(document)
    with pytest.raises(ValueError, match=said):
        load(put_together(document, payload), tmp_path)


def test_a_weight_without_int8_is_named_and_the_model_left_alone(tmp_path):
    source, model = small(), small()
    with torch.no_grad():
        source[0].weight[0, 0] = float("inf")
    save_packed(source, tmp_path / "p", compressible=["0.weight"])
    with pytest.raises(ValueError, match=r"^layer 0.weight: the matrix holds a value that is not finite"):
        load_accelerated(tmp_path / "p", model, "int8")
    assert type(model[0]) is nn.Linear
    assert torch.equal(model[0].weight, small()[0].weight)


FIELDS = ("kind", "shape", "dtype", "stored", "kept")
PATHS = [
    *[("__metadata__", "tensors", name, key) for name in ("0.weight", "0.bias") for key in FIELDS],
    *[(name, key) for name in ("0.weight", "0.weight:mask", "0.bias") for key in ("dtype", "shape", "data_offsets")],
    ("__metadata__", "tied"),
]
LIKELY = st.sampled_from(["F16", "F64", "I64", "dense", [33, 29], [957], {"0.bias": "0.weight"}])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from(PATHS), values | LIKELY)
@example(("__metadata__", "tensors", "0.weight", "dtype"), "F64")  # of a layer that stays dense
def test_any_value_anywhere_in_the_header_is_an_error_or_leaves_the_weights_right(
    tmp_path_factory, original, path, value
):
    document, payload = taken_apart(original)
    put_at(document, path, value)
    try:
        model = load(put_together(document, payload), tmp_path_factory.getbasetemp())
    except ValueError:
        return
    assert isinstance(model[0], SparseLinear) or value == "F64"
    assert torch.equal(model[0].weight.float(), small()[0].weight)
    assert torch.equal(model[0].bias.float(), small()[0].bias)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), min_size=1, max_size=5))
def test_random_bytes_under_a_fitting_digest_give_an_error_or_what_the_dense_loader_gives(
    tmp_path_factory, original, edits
):
    document, payload = taken_apart(original)
    forged = bytearray(payload)
    for place, change in edits:
        forged[place % len(forged)] ^= change
    data, folder = put_together(document, bytes(forged)), tmp_path_factory.getbasetemp()
    try:
        model = load(data, folder)
    except PackedError as error:
        with pytest.raises(PackedError, match=re.escape(str(error))):
            load_packed(folder / "forged")
        return
    dense = nn.Linear(33, 29)
    dense.load_state_dict({name[2:]: tensor for name, tensor in load_packed(folder / "forged").items()})
    x = torch.randn(5, 33, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(x), dense(x), equal_nan=True)


def test_a_layer_whose_weight_has_another_name_stays(tmp_path):
    def made():
        model = nn.Sequential(nn.Linear(128, 256), nn.Linear(256, 128))
        prune.l1_unstructured(model[0], "weight", 0.8)
        return model

    model = made()
    save_packed(model, tmp_path / "p")
    filled = made()
    report = load_accelerated(tmp_path / "p", filled, min_sparsity=0.5)
    assert [layer.reason for layer in report.layers] == ["its weight is not stored as such", "fewer than 50% are zero"]
    x = torch.randn(3, 128)
    assert torch.equal(filled(x), model(x))
