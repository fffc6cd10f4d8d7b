"""A packed file gives the model back: bit for bit where the stored type holds it, rounded as said where not."""

from __future__ import annotations

import copy
import json
import os
import struct

import pytest
import torch
from compressor_fixtures import PALETTE
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from cram_hf import NM, Chain, Quantize, TopK, compressible_weights
from cram_hf.export import same_bits
from cram_hf.packed import (
    PackedError,
    dense_pieces,
    dense_size,
    load_packed,
    load_packed_model,
    packed_size,
    save_packed,
)

thorough = settings(max_examples=60, deadline=None, derandomize=True)
FLOATS = [torch.float32, torch.float16, torch.bfloat16]
OTHERS = [torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
SHAPES = [(), (1,), (0,), (3, 0), (7,), (1, 1), (64, 9), (3, 8, 25), (40, 33), (2, 3, 5, 7, 2)]


@st.composite
def tensors(draw, dtypes: list[torch.dtype]) -> Tensor:
    """Normal, tied or odd values (infinite, NaN with a payload, -0, denormal) with any share of zeros, some views."""
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(dtypes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    values = torch.randn(shape, generator=generator) * 100
    if draw(st.booleans()):
        odd = torch.tensor([*PALETTE, float("inf"), float("-inf"), float("nan")])
        values = odd[torch.randint(len(odd), shape, generator=generator)]
    values[torch.rand(shape, generator=generator) < draw(st.sampled_from([0, 0.1, 0.5, 0.8, 1]))] = 0
    if not dtype.is_floating_point:
        return values.nan_to_num(0, 9, -9).clamp(-99, 99).abs().to(dtype)
    values = values.to(dtype)
    if draw(st.booleans()) and values.dim() > 1:
        values = values.transpose(0, 1).contiguous().transpose(0, 1)  # not contiguous
    return values


def states(dtypes: list[torch.dtype]):
    return st.lists(tensors(dtypes), min_size=1, max_size=4).map(
        lambda found: {f"w{i}": t for i, t in enumerate(found)}
    )


def positive_zeros(tensor: Tensor) -> Tensor:
    return torch.where(tensor == 0, torch.zeros_like(tensor), tensor)


def returned(state: dict[str, Tensor], path, **how) -> dict[str, Tensor]:
    size = save_packed(state, path, overwrite=True, **how)
    assert size == path.stat().st_size == packed_size(state, **how)
    found = load_packed(path)
    assert found.keys() == state.keys()
    assert all(
        found[name].dtype == tensor.dtype and found[name].shape == tensor.shape for name, tensor in state.items()
    )
    return found


@thorough
@given(states(FLOATS + OTHERS[1:]))
def test_up_to_32_bits_the_round_trip_is_exact_but_for_the_sign_of_zeros(tmp_path_factory, state):
    before = copy.deepcopy(state)
    found = returned(state, tmp_path_factory.getbasetemp() / "exact")
    for name, tensor in state.items():
        assert same_bits(positive_zeros(found[name]), positive_zeros(tensor)), name
        assert same_bits(tensor, before[name])
        assert same_bits(found[name], tensor) or bool((tensor == 0).any())


@thorough
@given(states([torch.float64, torch.float32]), st.sampled_from(["fp32", "fp16", "bf16"]))
def test_a_wider_type_is_rounded_to_the_stored_one(tmp_path_factory, state, dtype):
    widest = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    state = {name: tensor.clamp(-60000, 60000) for name, tensor in state.items()}
    found = returned(state, tmp_path_factory.getbasetemp() / "rounded", dtype=dtype)
    for name, tensor in state.items():
        assert same_bits(positive_zeros(found[name]), positive_zeros(tensor.to(widest).to(tensor.dtype)))


@thorough
@given(states(FLOATS))
def test_int8_gives_what_quantize_8_gives_bit_for_bit(tmp_path_factory, state):
    state = {name: tensor.nan_to_num(1, 9, -9) for name, tensor in state.items()}
    found = returned(state, tmp_path_factory.getbasetemp() / "int8", dtype="int8", compressible=list(state))
    expected = Quantize(8)({name: tensor for name, tensor in state.items() if tensor.numel() and tensor.dim()})
    assert all(same_bits(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_pruned_and_quantized_model_survives_int8_with_its_matrices_untouched(qa_model, dtype, tmp_path):
    model = qa_model.to(dtype)
    weights = compressible_weights(model)
    Chain((NM(2, 4), Quantize(8))).apply_(weights)
    save_packed(model, tmp_path / "p", dtype="int8")
    found = load_packed(tmp_path / "p")
    assert all(same_bits(found[name], weight) for name, weight in weights.items())
    rest = {name: tensor for name, tensor in model.state_dict().items() if name not in weights}
    assert all(
        torch.equal(found[name], t.half().to(dtype) if dtype == torch.float32 else t) for name, t in rest.items()
    )


def test_a_pruned_model_comes_back_bit_for_bit_and_smaller(qa_model, tmp_path):
    TopK(0.8).apply_(compressible_weights(qa_model))
    size = save_packed(qa_model, tmp_path / "new" / "p")
    found = load_packed(tmp_path / "new" / "p")
    assert all(same_bits(found[name], tensor) for name, tensor in qa_model.state_dict().items())
    save_file(qa_model.state_dict(), tmp_path / "dense", metadata={"format": "pt"})
    assert size < 0.85 * (tmp_path / "dense").stat().st_size
    assert os.listdir(tmp_path / "new") == ["p"]


def test_zeros_of_a_masked_product_lose_their_sign_and_nothing_else(tmp_path):
    weight = torch.randn(40, 40) * (torch.rand(40, 40) < 0.2)
    assert weight.signbit().sum() > 400  # w * mask leaves -0 where w was negative
    save_packed({"w": weight}, tmp_path / "p")
    found = load_packed(tmp_path / "p")["w"]
    assert torch.equal(found, weight)
    assert not found[weight == 0].signbit().any()


def test_the_numbers_of_a_nan_and_tiny_values_are_kept(tmp_path):
    bits = torch.zeros(1000, dtype=torch.int32)
    bits[:6] = torch.tensor([0x7FC0_1234, -0x3F_EDCC, 1, 0x7F80_0000, 0x7FFF_FFFF, -0x7FFF_FFFF])
    torch.set_flush_denormal(True)
    try:
        save_packed({"w": bits.view(torch.float32)}, tmp_path / "p")
        found = load_packed(tmp_path / "p")["w"]
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(found.view(torch.int32), bits)
    assert (tmp_path / "p").stat().st_size < 1000


def read_as_documented(path) -> dict[str, list[float]]:
    """docs/packed.md followed number by number, for matrices of fp32 in files of fp32 or int8."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    document = json.loads(data[8:start])
    found = {}
    for name, item in json.loads(document.pop("__metadata__")["tensors"]).items():
        parts = {}
        for key in ("", ":scale", ":mask"):
            if name + key in document:
                begin, end = document[name + key]["data_offsets"]
                parts[key] = data[start + begin : start + end]
        code = {"F32": "f", "F16": "e", "I8": "b"}[item["stored"]]
        values = iter(struct.unpack(f"<{item['kept']}{code}", parts[""]))
        rows, columns = item["shape"]
        scale = struct.unpack(f"<{rows}f", parts[":scale"]) if ":scale" in parts else None
        found[name] = []
        for i in range(rows * columns):
            kept = parts[":mask"][i // 8] >> i % 8 & 1 if ":mask" in parts else 1
            value = next(values) if kept else 0
            found[name].append(value / 127 * scale[i // columns] if scale else value)
    return found


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
def test_a_reader_written_from_the_documentation_agrees(dtype, tmp_path):
    state = {"sparse": torch.randn(20, 31) * (torch.rand(20, 31) < 0.3), "dense": torch.randn(5, 3)}
    save_packed(state, tmp_path / "p", dtype=dtype, compressible=list(state))
    ours, theirs = load_packed(tmp_path / "p"), read_as_documented(tmp_path / "p")
    assert {name: tensor.flatten() for name, tensor in ours.items()}.keys() == theirs.keys()
    assert all(
        torch.equal(t.flatten(), torch.tensor(theirs[name], dtype=torch.float64).float()) for name, t in ours.items()
    )


def test_the_file_is_a_safetensors_file_that_other_readers_open(tmp_path):
    weight = torch.zeros(16, 80)
    weight[3, 5] = weight[15, 79] = 2.5
    save_packed({"w": weight, "b": torch.ones(3, dtype=torch.float16)}, tmp_path / "p")
    with safe_open(tmp_path / "p", "pt") as file:
        assert sorted(file.keys()) == ["b", "w", "w:mask"]
        assert file.get_tensor("w").tolist() == [2.5, 2.5]
        mask = file.get_tensor("w:mask")
        assert file.metadata()["format"] == "cram_hf.packed"
    assert mask.nonzero().flatten().tolist() == [30, 159]
    assert [int(mask[30]), int(mask[159])] == [1 << 5, 1 << 7]  # 245 = 30 * 8 + 5


def test_the_same_model_makes_the_same_file(tmp_path, qa_model):
    save_packed(qa_model, tmp_path / "a", dtype="int8")
    save_packed(copy.deepcopy(qa_model), tmp_path / "b", dtype="int8")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("dtype", "sparsity", "kind"),
    [
        ("fp32", 0.05, "mask"),
        ("fp32", 0.02, "dense"),
        ("fp16", 0.1, "mask"),
        ("fp16", 0.05, "dense"),
        ("int8", 0.2, "mask"),
        ("int8", 0.1, "dense"),
    ],
)
def test_a_mask_is_used_where_it_saves_room(dtype, sparsity, kind, tmp_path):
    weight = torch.ones(100, 100)
    weight.view(-1)[: int(sparsity * 10000)] = 0
    save_packed({"w": weight}, tmp_path / "p", dtype=dtype, compressible=["w"])
    with safe_open(tmp_path / "p", "pt") as file:
        assert json.loads(file.metadata()["tensors"])["w"]["kind"] == kind


def test_tied_weights_are_stored_once_and_come_back_as_one_tensor(make_model, tmp_path):
    model = make_model("masked_lm")
    size = save_packed(model, tmp_path / "p")
    found = load_packed(tmp_path / "p")
    first, second = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"
    assert found[first].data_ptr() == found[second].data_ptr()
    assert size == packed_size(model) < packed_size({name: t.clone() for name, t in model.state_dict().items()})
    assert found.keys() == model.state_dict().keys()


def test_views_of_one_storage_that_differ_are_stored_apart(tmp_path):
    whole = torch.randn(6, 6)
    state = {"whole": whole, "turned": whole.t(), "part": whole[:2], "none": whole[:0], "nothing": whole[:0]}
    found = returned(state, tmp_path / "p")
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


@thorough
@given(states([*FLOATS, *OTHERS]), st.sampled_from(["fp32", "fp16"]))
def test_the_dense_file_is_counted_and_made_as_safetensors_writes_it(tmp_path_factory, state, dtype):
    state = {name: t.clamp(-60000, 60000) if t.is_floating_point() else t for name, t in state.items()}
    widest, path = (torch.float32, torch.float16)[dtype == "fp16"], tmp_path_factory.getbasetemp() / "dense"
    narrow = {
        n: t.to(widest) if t.is_floating_point() and t.itemsize > widest.itemsize else t for n, t in state.items()
    }
    save_file({name: tensor.contiguous() for name, tensor in narrow.items()}, path, metadata={"format": "pt"})
    assert dense_size(state, dtype) == path.stat().st_size == sum(piece.nbytes for piece in dense_pieces(state, dtype))


def test_a_model_is_filled_from_the_file(make_model, tmp_path):
    model, other = make_model("masked_lm"), make_model("masked_lm")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(7.0)
    save_packed(model, tmp_path / "p")
    load_packed_model(tmp_path / "p", other)
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert other.cls.predictions.decoder.weight is other.bert.embeddings.word_embeddings.weight


def test_a_model_of_another_architecture_is_left_alone(make_model, tmp_path):
    save_packed(make_model("question_answering"), tmp_path / "p")
    other = make_model("sequence_classification")
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=r"another architecture than BertForSequenceClassification: bert\.pooler"):
        load_packed_model(tmp_path / "p", other)
    save_packed({name: tensor[:1] for name, tensor in other.state_dict().items()}, tmp_path / "q")
    whole = {name: tensor.long() for name, tensor in other.state_dict().items()}
    save_packed(whole, tmp_path / "r")
    for name in ("q", "r"):
        with pytest.raises(ValueError, match="have another shape or kind of number"):
            load_packed_model(tmp_path / name, other, assign=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())


@pytest.mark.parametrize(
    ("state", "how", "said"),
    [
        ({"big": torch.tensor([1.0, 7e4])}, {"dtype": "fp16"}, "big holds 70000, which float16 cannot; bf16 and fp32"),
        ({"big": torch.tensor([1e300], dtype=torch.float64)}, {}, r"big holds 1e\+300, which float32"),
        ({"odd": torch.zeros(2, dtype=torch.complex64)}, {}, r"odd \(1 in all\): only dense tensors"),
        ({"far": torch.zeros(2, device="meta")}, {}, r"far \(1 in all\): only dense tensors"),
        ({"deep": torch.zeros([1] * 9)}, {}, r"deep \(1 in all\)"),
        ({"w": torch.zeros(2)}, {"dtype": "fp8"}, "dtype 'fp8' is unknown; allowed are fp32, fp16, bf16, int8"),
        ({"w": torch.zeros(2)}, {"dtype": "int8"}, "name them, compressible="),
        ({"w": torch.zeros(2)}, {"dtype": "int8", "compressible": ["v"]}, r"compressible: v \(1 in all\)"),
        ({"w": torch.tensor([float("nan")])}, {"dtype": "int8", "compressible": ["w"]}, "w holds a value that is not"),
        ({"w": torch.zeros(999), "w:mask": torch.zeros(1)}, {}, "none named as another with :mask or :scale"),
        ({"__metadata__": torch.zeros(1)}, {}, "no tensor named __metadata__"),
    ],
)
def test_what_cannot_be_packed_is_refused_by_name_and_leaves_no_file(state, how, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        save_packed(state, tmp_path / "p", **how)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_overwritten_only_when_asked_and_stays_when_writing_fails(tmp_path, monkeypatch):
    save_packed({"w": torch.ones(3)}, tmp_path / "p")
    with pytest.raises(FileExistsError, match="give overwrite=True"):
        save_packed({"w": torch.zeros(3)}, tmp_path / "p")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("cram_hf.packed.write.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_packed({"w": torch.zeros(3)}, tmp_path / "p", overwrite=True)
    assert os.listdir(tmp_path) == ["p"]
    assert load_packed(tmp_path / "p")["w"].tolist() == [1, 1, 1]


def test_other_files_are_not_taken_for_packed_ones(tmp_path):
    save_file({"w": torch.zeros(3)}, tmp_path / "dense", metadata={"format": "pt"})
    (tmp_path / "text").write_text("hello, this is a text and no model at all")
    (tmp_path / "empty").touch()
    with pytest.raises(PackedError, match="dense: it is no packed model"):
        load_packed(tmp_path / "dense")
    for name in ("text", "empty"):
        with pytest.raises(PackedError, match=f"{name}: it is too short for the header it announces"):
            load_packed(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_packed(tmp_path / "nowhere")
