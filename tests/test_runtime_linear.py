"""`SparseLinear` as a module: shapes, types, refusals, saving, copies, the compiler, and without a kernel."""

from __future__ import annotations

import copy
import io
import logging

import pytest
import torch
from runtime_fixtures import PRECISIONS, inputs, needs_kernel, product, sparse
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from cram_hf.runtime import SparseLinear, kernel
from cram_hf.runtime import linear as linear_module
from cram_hf.runtime.library import SWITCH


def layer(rows: int = 40, width: int = 60, zeros: float = 0.8, *, bias: bool = True) -> nn.Linear:
    made = nn.Linear(width, rows, bias=bias)
    with torch.no_grad():
        made.weight.copy_(sparse(rows, width, zeros))
    return made.eval()


@pytest.fixture(params=["kernel", "pytorch"])
def engine(request, monkeypatch):
    """With the compiled kernel and without it."""
    if request.param == "pytorch":
        monkeypatch.setattr(linear_module, "kernel", lambda: None)
    elif kernel() is None:
        pytest.skip("the package was installed without a C++ compiler")
    return request.param


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("zeros", [0.5, 0.95])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", [(60,), (1, 60), (2, 3, 60), (0, 60), (2, 0, 60)])
def test_it_gives_the_answer_of_the_dense_layer(precision, zeros, shape):
    dense, x = layer(zeros=zeros), inputs(6, 60).reshape(-1)[: int(torch.tensor(shape).prod())].reshape(shape)
    with torch.no_grad():
        y = SparseLinear.from_linear(dense, precision)(x)
    expected = product(x, dense.weight.detach(), dense.bias.detach(), precision)
    torch.testing.assert_close(y, expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("engine")
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_inputs_may_be_strided_narrow_or_empty_and_the_layer_without_bias():
    dense = layer(bias=False)
    sparse_layer, x = SparseLinear.from_linear(dense), inputs(60, 8).t()
    with torch.no_grad():
        torch.testing.assert_close(sparse_layer(x), dense(x))
        assert sparse_layer(x.bfloat16()).dtype == torch.bfloat16
        assert sparse_layer(x.half()).dtype == torch.float16
        nothing = SparseLinear.from_linear(layer(5, 0, bias=True))
        assert torch.equal(nothing(torch.zeros(2, 3, 0)), nothing.bias.expand(2, 3, 5))
        assert SparseLinear.from_linear(layer(0, 5))(torch.zeros(2, 5)).shape == (2, 0)


@pytest.mark.usefixtures("engine")
def test_a_call_that_needs_gradients_is_refused():
    sparse_layer, x = SparseLinear.from_linear(layer()), inputs(2, 60).requires_grad_()
    with pytest.raises(RuntimeError, match=r"has no gradient. Call the model under torch.inference_mode\(\)"):
        sparse_layer(x)
    with torch.inference_mode():
        sparse_layer(x)
    sparse_layer(x.detach())


@pytest.mark.usefixtures("engine")
def test_inputs_of_another_width_type_or_device_are_refused():
    sparse_layer = SparseLinear.from_linear(layer())
    with pytest.raises(RuntimeError, match=r"the input is of shape \(2, 59\); it must be \(..., 60\)"):
        sparse_layer(torch.zeros(2, 59))
    with pytest.raises(RuntimeError, match=r"the input is of shape \(\)"):
        sparse_layer(torch.tensor(1.0))
    with pytest.raises(RuntimeError, match="float64 on cpu; SparseLinear takes fp32, bf16 or fp16 on the CPU"):
        sparse_layer(torch.zeros(2, 60, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="float32 on meta"):
        sparse_layer(torch.zeros(2, 60, device="meta"))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8"])
def test_neither_the_default_type_nor_the_default_device_matters(precision):
    dense, x = layer(), inputs(6, 60)
    with torch.no_grad():
        expected = SparseLinear.from_linear(dense, precision, keep_dense=False)
        y, weight = expected(x), expected.weight
        torch.set_default_dtype(torch.float64)
        try:
            with torch.device("meta"):
                other = SparseLinear.from_linear(dense, precision, keep_dense=False)
                assert torch.equal(other(x), y)
                assert torch.equal(other.weight, weight)
        finally:
            torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("bias", [torch.zeros(39), torch.zeros(40).double(), torch.zeros(40, device="meta")])
def test_a_bias_that_the_kernel_cannot_read_is_refused(bias):
    with pytest.raises(ValueError, match=r"the bias is torch.float.*; it must be torch.float32 of shape \(40,\) on"):
        SparseLinear(SparseLinear.from_linear(layer()).packed, bias)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8"])
def test_a_copy_and_a_saved_module_compute_the_same(precision):
    sparse_layer, x = SparseLinear.from_linear(layer(), precision), inputs(3, 60)
    file = io.BytesIO()
    torch.save(sparse_layer, file)
    file.seek(0)
    with torch.no_grad():
        y = sparse_layer(x)
        assert torch.equal(copy.deepcopy(sparse_layer)(x), y)
        assert torch.equal(torch.load(file, weights_only=False)(x), y)


@pytest.mark.parametrize("keep_dense", [True, False])
def test_its_state_dict_is_that_of_the_dense_layer(keep_dense):
    dense = layer()
    state = SparseLinear.from_linear(dense, keep_dense=keep_dense).state_dict()
    assert state.keys() == dense.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in dense.state_dict().items())
    assert not any(tensor.requires_grad for tensor in state.values())


def test_loading_into_it_is_refused():
    model = nn.Sequential(SparseLinear.from_linear(layer()))
    with pytest.raises(RuntimeError, match="0 is a sparse layer and cannot be loaded into"):
        model.load_state_dict(model.state_dict())


def test_it_has_no_parameters_and_says_what_it_is():
    sparse_layer = SparseLinear.from_linear(layer(zeros=1.0), "bf16")
    assert not list(sparse_layer.parameters()) + list(sparse_layer.buffers())
    assert str(sparse_layer) == "SparseLinear(in_features=60, out_features=40, bias=True, bf16, 100.0% zeros)"
    assert torch.equal(SparseLinear.from_linear(layer(), keep_dense=False).weight, layer().weight.detach())


@needs_kernel
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_operator_has_a_shape_without_data(precision):
    packed, x = SparseLinear.from_linear(layer(), precision).packed, inputs(6, 60).reshape(2, 3, 60)
    weight = (packed.ends, packed.order, packed.columns, packed.values, packed.peaks, packed.totals)
    torch.library.opcheck(linear_module.sparse_linear, (x, *weight, inputs(1, 40)[0], 40, 60))


@needs_kernel
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("error")
def test_a_compiled_model_is_one_graph_and_gives_the_same():
    model, x = nn.Sequential(SparseLinear.from_linear(layer()), nn.GELU()), inputs(6, 60)
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x), model(x))
        assert torch.equal(compiled(x[:5]), model(x[:5]))
    compiled = torch.compile(model, backend="aot_eager")
    with pytest.raises(RuntimeError, match="SparseLinear is for inference and has no gradient"):
        compiled(x.clone().requires_grad_())
    with torch.no_grad():
        assert torch.equal(compiled(x), model(x))


@needs_kernel
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_layer_computes_and_refuses_other_widths(precision):
    sparse_layer = SparseLinear.from_linear(layer(), precision)
    with torch.no_grad():
        traced = torch.jit.trace(sparse_layer, inputs(6, 60))
        assert torch.equal(traced(inputs(5, 60, 2)), sparse_layer(inputs(5, 60, 2)))
        with pytest.raises(RuntimeError, match=r"shapes \[\(5, 300\), \(40,\)\] do not fit to a matrix of \(40, 60\)"):
            traced(inputs(5, 300))


@needs_kernel
def test_an_input_without_data_gives_a_shape():
    model = SparseLinear.from_linear(layer())
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        y = model(mode.from_tensor(inputs(6, 60)))
    assert isinstance(y, FakeTensor)
    assert y.shape == (6, 40)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("zeros", [0.5, 0.95])
def test_without_a_kernel_a_compiled_model_gives_the_same(monkeypatch, zeros):
    monkeypatch.setattr(linear_module, "kernel", lambda: None)
    model, x = nn.Sequential(SparseLinear.from_linear(layer(zeros=zeros))), inputs(6, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, backend="aot_eager")(x), model(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8"])
def test_a_recorded_call_runs_where_there_is_no_kernel_as_the_layer_does(monkeypatch, precision):
    made, x = SparseLinear.from_linear(layer(zeros=0.95), precision).eval(), inputs(4, 60, 1)
    made.gelu = precision == "fp16"
    with torch.inference_mode():
        recorded = torch.jit.trace(made, inputs(4, 60), check_trace=False)
        monkeypatch.setattr(linear_module, "kernel", lambda: None)
        assert torch.equal(recorded(x), made(x))


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)
    kernel.cache_clear()
    yield
    kernel.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_a_missing_library_is_said_in_one_line(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr("cram_hf.runtime.library.__file__", str(tmp_path / "library.py"))
    with caplog.at_level(logging.WARNING):
        assert kernel() is None
        assert kernel() is None
    assert [record.getMessage() for record in caplog.records] == [
        "No compiled kernel (it was not built when the package was installed): sparse layers run in plain PyTorch. "
        "Install a C++ compiler (g++ or clang++) and this package again."
    ]


@pytest.mark.usefixtures("fresh")
def test_a_library_that_does_not_load_is_as_good_as_none(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr("cram_hf.runtime.library.__file__", str(tmp_path / "library.py"))
    monkeypatch.setattr("cram_hf.runtime.library.EXTENSION_SUFFIXES", [".so"])
    (tmp_path / "_kernel.so").write_bytes(b"no library")
    assert kernel() is None
    assert "No compiled kernel" in caplog.text


@needs_kernel
@pytest.mark.usefixtures("fresh")
def test_a_kernel_of_another_version_is_not_used(monkeypatch, caplog):
    monkeypatch.setattr("cram_hf.runtime.library.VERSION", 999)
    assert kernel() is None
    assert "of the kernel, not 999" in caplog.text


@pytest.mark.usefixtures("fresh")
def test_the_environment_can_turn_it_off_and_typos_are_refused(monkeypatch, caplog):
    monkeypatch.setenv("CRAM_HF_RUNTIME", "off")
    assert kernel() is None
    assert "CRAM_HF_RUNTIME is off" in caplog.text
    kernel.cache_clear()
    monkeypatch.setenv("CRAM_HF_RUNTIME", "")
    kernel()  # as without the variable
    kernel.cache_clear()
    monkeypatch.setenv("CRAM_HF_RUNTIME", "avx")
    with pytest.raises(ValueError, match="CRAM_HF_RUNTIME is 'avx'; it must be off or one of plain, avx2"):
        kernel()
