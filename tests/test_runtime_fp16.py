"""Sparse fp16: bit for bit a literal loop in NumPy's fp16, no overflow whatever the scale, and fp32 where it lacks."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from runtime_fixtures import AVAILABLE, CASES, FP16, MATRICES, at, inputs, needs_kernel, product, sparse
from torch import Tensor, nn

from cram_hf.runtime import SparseLinear, accelerate, kernel, pack, unpack
from cram_hf.runtime.fp16 import scale_rows
from cram_hf.runtime.layout import TILES

needs_fp16 = pytest.mark.skipif(FP16 not in AVAILABLE, reason="no kernel, or the processor has no AVX512-FP16")
TILE = TILES[torch.float16]


def power_below(magnitudes: np.ndarray, least: int) -> np.ndarray:
    """The greatest power of two that is not above, 2^least for what is smaller, at most 2^126."""
    return np.ldexp(np.float32(1), np.clip(np.frexp(magnitudes)[1] - 1, least, 126)).astype(np.float32)


def in_numpy(x: Tensor, weight: Tensor, bias: Tensor | None) -> np.ndarray:
    """One multiply-add after the other, each rounded to fp16 once, a tile's weights in turns to two sums."""
    rows, tokens = len(weight), len(x)
    peaks = (
        power_below(weight.abs().amax(1).numpy(), -120) / np.float32(32)
        if weight.numel()
        else np.ones(rows, np.float32)
    )
    scales = power_below(x.abs().amax(1).numpy(), -126) if x.numel() else np.ones(tokens, np.float32)
    w = (weight.numpy() / peaks[:, None]).astype(np.float16).astype(np.float64)
    columns = (x.numpy() / scales[:, None]).astype(np.float16).astype(np.float64).T
    y = np.zeros((tokens, rows), np.float32)
    for row in range(rows):
        for first in range(0, weight.shape[1], TILE):
            kept = [(w[row, k], k) for k in range(first, min(first + TILE, weight.shape[1])) if weight[row, k]]
            if len(kept) % 2:
                value, k = kept.pop()
                half = float(np.float16(value / 2))
                kept += [(half, k), (value - half, k)]
            sums = np.zeros((2, tokens), np.float16)
            for place, (value, k) in enumerate(kept):  # doubles hold the product, and the sum but for a bit far below
                sums[place % 2] = (value * columns[k] + sums[place % 2]).astype(np.float16)
            y[:, row] += (sums[0] + sums[1]).astype(np.float32)
    y = np.ldexp(
        y, np.frexp(scales)[1][:, None] + np.frexp(peaks)[1] - 2
    )  # times both, whose product may be too great
    return y if bias is None else y + bias.numpy()


@needs_fp16
@settings(deadline=None, max_examples=30)
@given(**{**CASES, "rows": CASES["seed"].map(lambda n: n % 40), "width": CASES["width"]})
def test_any_shape_and_mask_gives_the_answer_of_the_loop_bit_for_bit(
    patch, rows, width, tokens, zeros, has_bias, threads, seed
):
    weight, x = sparse(rows, width, zeros, seed), inputs(tokens, width, seed)
    bias = inputs(1, rows, seed + 1)[0] if has_bias else None
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = at(FP16, patch).linear(x, pack(weight, "fp16"), bias)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(y.numpy(), in_numpy(x, weight, bias))


@needs_fp16
@pytest.mark.parametrize("rows", [191, 192, 500])
def test_many_rows_and_panels_do_too(monkeypatch, rows):
    weight, x = sparse(rows, 400, 0.9), inputs(300, 400)
    assert np.array_equal(at(FP16, monkeypatch).linear(x, pack(weight, "fp16"), None), in_numpy(x, weight, None))


@needs_fp16
@pytest.mark.filterwarnings("ignore:overflow")
@settings(deadline=None, max_examples=20)
@given(seed=CASES["seed"])
def test_rows_and_tokens_of_any_magnitude_do_too(patch, seed):
    """The product of a row's scale and a token's may be too great for fp32, or too small, where the output is not."""
    generator = torch.Generator().manual_seed(seed)
    weight, x = sparse(30, 200, 0.9, seed), inputs(20, 200, seed)
    weight *= 10 ** (70 * torch.rand(30, 1, generator=generator) - 35)
    x *= 10 ** (70 * torch.rand(20, 1, generator=generator) - 35)
    y = at(FP16, patch).linear(x, pack(weight, "fp16"), None)
    assert np.array_equal(y.numpy(), in_numpy(x, weight, None))


@needs_fp16
def test_a_scale_beyond_fp32_makes_no_nan_and_the_greatest_numbers_no_infinity(monkeypatch):
    engine = at(FP16, monkeypatch)
    x, weight = torch.tensor([[2.0**70, 2.0]]), torch.tensor([[0.0, 2.0**65], [2.0**70, 0.0]])
    assert engine.linear(x, pack(weight, "fp16"), None).tolist() == [[0.0, float("inf")]]  # beside 2^70, 2 is nothing
    x, weight = torch.full((1, TILE), 3e38), torch.full((1, TILE), 127 * 2.0**-20)
    torch.testing.assert_close(
        engine.linear(x, pack(weight, "fp16"), None), product(x, weight, None, "fp32").float(), rtol=1e-3, atol=0
    )


@needs_fp16
@pytest.mark.parametrize("zeros", [0.5, 0.8, 0.95])
def test_it_is_nearer_to_float64_than_bf16(monkeypatch, zeros):
    engine, weight, x = at(FP16, monkeypatch), sparse(300, 3072, zeros), inputs(50, 3072)
    exact = x.double() @ weight.double().t()
    errors = {name: float((engine.linear(x, pack(weight, name), None) - exact).norm()) for name in ("fp16", "bf16")}
    assert errors["fp16"] < 0.6 * errors["bf16"]


@needs_fp16
@pytest.mark.parametrize(
    ("weights", "activations"), [(1e30, 1e5), (1e-30, 1e38), (1e38, 1e-38), (1.0, 1e-38), (1, 3e38)]
)
def test_no_scale_is_too_great_or_small(monkeypatch, weights, activations):
    """All weights as great as can be: an unscaled fp16 ends at 65,504 and begins at 6e-8."""
    weight = torch.ones(20, 300) * weights / 4
    weight[::2] /= 1000  # rows have scales of their own
    x = torch.ones(40, 300) * activations / 4
    x[::3] /= 1000  # and so have tokens
    y = at(FP16, monkeypatch).linear(x, pack(weight, "fp16"), None)
    exact = product(x, weight, None, "fp32")
    finite = exact.abs() < 3e38
    assert bool(((y - exact).abs() <= 0.01 * exact.abs() + 1e-37)[finite].all())
    assert bool((y[~finite] > 1e38).all())


@needs_fp16
def test_a_token_of_zeros_gives_the_bias_and_tiny_numbers_beside_great_ones_are_kept_to_their_scale(monkeypatch):
    engine, bias = at(FP16, monkeypatch), torch.tensor([3.0])
    x = torch.tensor([[0.0, 0.0], [1e4, 2.0**-9], [1e-40, 0.0]])
    assert engine.linear(x, pack(torch.tensor([[0.0, 1.0]]), "fp16"), bias).flatten().tolist() == [3, 3 + 2.0**-9, 3]
    assert engine.linear(x, pack(torch.zeros(1, 2), "fp16"), bias).flatten().tolist() == [3, 3, 3]


@settings(deadline=None, max_examples=60)
@given(**MATRICES)
def test_rows_are_divided_by_powers_of_two_and_nothing_is_lost(rows, width, zeros, seed):
    weight = sparse(rows, width, zeros, seed) * torch.logspace(-30, 30, rows)[:, None]
    there = weight.numpy() != 0
    quotients, powers = scale_rows(there, weight[torch.from_numpy(there)])
    again = torch.zeros_like(weight)
    again[torch.from_numpy(there)] = quotients
    assert torch.equal(again * powers[:, None], weight)
    assert bool((torch.frexp(powers)[0] == 0.5).all())
    most = again.abs().amax(1) if width else torch.zeros(rows)
    assert bool(((most >= 32) & (most < 64) | ~torch.from_numpy(there).any(1)).all())


def test_infinities_and_nan_do_not_take_part_in_the_scale():
    weight = torch.tensor([[float("inf"), 3.0, 0.0], [float("nan"), 0.0, 0.5], [float("-inf"), 0.0, 0.0]])
    quotients, powers = scale_rows(weight.numpy() != 0, weight[weight != 0])
    assert powers.tolist() == [2.0 / 32, 0.5 / 32, 2.0**-126]
    assert str(quotients.tolist()) == "[inf, 48.0, nan, 32.0, -inf]"


@settings(deadline=None, max_examples=40)
@given(**MATRICES)
def test_a_matrix_that_is_fp16_already_stays_as_it_is(rows, width, zeros, seed):
    weight = (sparse(rows, width, zeros, seed) * torch.logspace(-7, 1, width)).half().float()
    packed = pack(weight, "fp16")
    assert torch.equal(unpack(packed), weight)
    assert packed.kept == int(weight.count_nonzero())


def test_at_80_percent_zeros_it_takes_a_sixth_of_fp32():
    weight = sparse(768, 768, 0.8)
    assert pack(weight, "fp16").nbytes < 0.17 * weight.nbytes


@needs_kernel
def test_other_levels_refuse_such_a_matrix_and_a_layer_of_it_computes_in_fp32_there(monkeypatch):
    dense, x = nn.Linear(300, 40), inputs(6, 300)
    with torch.no_grad():
        dense.weight *= torch.rand(40, 300) > 0.8
    layer = SparseLinear.from_linear(dense, "fp16")
    with pytest.raises(ValueError, match="a matrix of fp16 needs avx512_fp16; this is plain"):
        at("plain", monkeypatch).linear(x, layer.packed, None)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), nn.functional.linear(x, unpack(layer.packed), dense.bias))


@pytest.mark.parametrize("level", [None, "plain", "avx512_bf16"])
def test_where_the_processor_lacks_it_accelerate_takes_fp32_and_says_so(monkeypatch, caplog, level):
    if level is None:
        monkeypatch.setattr("cram_hf.runtime.choice.kernel", lambda: None)
    elif kernel() is None:
        pytest.skip("the package was installed without a C++ compiler")
    else:
        monkeypatch.setattr(kernel(), "level", level)
    with caplog.at_level(logging.WARNING):
        report = accelerate(nn.Sequential(nn.Linear(200, 200)), "fp16", min_sparsity=0)
    assert [layer.precision for layer in report.layers] == ["fp32"]
    assert caplog.messages == [
        "There is no arithmetic of fp16 here (it needs AVX512-FP16 and the kernel): fp32 is computed."
    ]
