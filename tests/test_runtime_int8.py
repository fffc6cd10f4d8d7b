"""Sparse int8: exact against NumPy in int32, the same at every instruction set and without a kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from runtime_fixtures import AVAILABLE, CASES, MATRICES, at, inputs, needs_kernel, sparse
from torch import Tensor, nn

from cram_hf import Quantize
from cram_hf.runtime import SparseLinear, int8, pack, unpack

each_level = pytest.mark.parametrize("level", AVAILABLE)


def in_numpy(x: Tensor, weight: Tensor, bias: Tensor | None) -> np.ndarray:
    """Whole numbers and int32 sums, then one rounding for each factor, in fp32."""
    peaks = weight.abs().amax(1).numpy() if weight.numel() else np.zeros(len(weight), np.float32)
    scale = np.where(peaks == 0, np.float32(1), peaks).astype(np.float64)
    steps = np.rint(weight.numpy().astype(np.float64) * 127 / scale[:, None]).astype(np.int32)
    most = x.abs().amax(1).numpy() if x.numel() else np.zeros(len(x), np.float32)
    factors = np.float32(127) / np.where(most == 0, np.float32(1), most)
    whole = np.rint(x.numpy() * factors[:, None]).astype(np.int32)
    sums = whole @ steps.T
    assert sums.dtype == np.int32
    y = sums.astype(np.float32) * (most / np.float32(127 * 127))[:, None] * peaks
    return y if bias is None else y + bias.numpy()


@needs_kernel
@each_level
@settings(deadline=None, max_examples=40)
@given(**CASES)
def test_any_shape_and_mask_gives_the_int32_answer_bit_for_bit(
    patch, level, rows, width, tokens, zeros, has_bias, threads, seed
):
    weight, x = sparse(rows, width, zeros, seed), inputs(tokens, width, seed)
    bias = inputs(1, rows, seed + 1)[0] if has_bias else None
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = at(level, patch).linear(x, pack(weight, "int8"), bias)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(y.numpy(), in_numpy(x, weight, bias))


@needs_kernel
@each_level
@pytest.mark.parametrize("width", [4096, 3072])
def test_the_largest_sums_are_exact(monkeypatch, level, width):
    weight, x = torch.full((17, width), 3.0), torch.full((65, width), -2.0)
    y = at(level, monkeypatch).linear(x, pack(weight, "int8"), None)
    assert np.array_equal(y.numpy(), in_numpy(x, weight, None))
    weight[::2], x[::2] = -3.0, 2.0
    y = at(level, monkeypatch).linear(x, pack(weight, "int8"), None)
    assert np.array_equal(y.numpy(), in_numpy(x, weight, None))


@pytest.mark.parametrize("level", [*AVAILABLE, None])
@pytest.mark.parametrize("tokens", [9, 25, 70])
def test_a_token_that_is_not_finite_is_nan_and_the_others_are_as_before(monkeypatch, level, tokens):
    weight, x = sparse(40, 300, 0.8), inputs(tokens, 300)
    packed = pack(weight, "int8")
    engine = at(level, monkeypatch) if level else None

    def linear(x: Tensor) -> Tensor:
        if engine is None:
            return int8.product(x, int8_steps(weight), weight.abs().amax(1), None)
        return engine.linear(x, packed, None)

    before = linear(x)
    x[3, 7], x[4, 8], x[5] = float("inf"), float("nan"), 0.0
    x[6] = torch.full((300,), 2.0**-140)
    y = linear(x)
    assert bool(y[3:5].isnan().all())
    assert y[5:7].count_nonzero() == 0
    rest = [i for i in range(tokens) if not 3 <= i <= 6]
    assert torch.equal(y[rest], before[rest])


def int8_steps(weight: Tensor) -> Tensor:
    return (weight.double() * 127 / weight.abs().amax(1, keepdim=True)).round_()


@settings(deadline=None, max_examples=60)
@given(**MATRICES)
def test_what_is_packed_is_what_quantize_8_makes_of_it(rows, width, zeros, seed):
    weight = sparse(rows, width, zeros, seed)
    packed = pack(weight, "int8")
    expected = Quantize(8)({"w": weight})["w"] if weight.numel() else weight
    assert torch.equal(unpack(packed), expected)
    assert torch.equal(unpack(pack(expected, "int8")), expected)
    assert packed.kept == int(expected.count_nonzero())
    assert bool(((packed.ends[1:] - packed.ends[:-1]) % 4 == 0).all())


def test_a_matrix_of_80_percent_zeros_takes_a_tenth():
    weight = sparse(768, 768, 0.8)
    assert pack(weight, "int8").nbytes < 0.12 * weight.nbytes


@needs_kernel
def test_a_layer_gives_the_same_bits_without_a_kernel_and_for_other_types(monkeypatch):
    dense = nn.Linear(300, 40)
    with torch.no_grad():
        dense.weight.copy_(sparse(40, 300, 0.8))
    layer, x = SparseLinear.from_linear(dense, "int8"), inputs(6, 300).view(2, 3, 300)
    with torch.no_grad():
        y, half = layer(x), layer(x.bfloat16())
        monkeypatch.setattr("cram_hf.runtime.linear.kernel", lambda: None)
        assert torch.equal(layer(x), y)
        assert torch.equal(layer(x.bfloat16()), half)
        assert float((y - dense(x)).norm() / dense(x).norm()) < 0.02
    assert half.dtype == torch.bfloat16


def test_what_has_no_scale_or_too_many_columns_is_refused():
    with pytest.raises(ValueError, match="holds a value that is not finite, so that int8 has no scale"):
        pack(torch.tensor([[float("inf"), 1.0]]), "int8")
    with pytest.raises(ValueError, match="has 65,537 columns; int8 takes 65,536"):
        pack(torch.zeros(1, 2**16 + 1), "int8")
