"""Packing: what comes back, and the layout that the kernel reads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from runtime_fixtures import MATRICES, sparse

from cram_hf.runtime import pack, unpack
from cram_hf.runtime.layout import BLOCK


@settings(deadline=None, max_examples=60)
@given(**MATRICES)
def test_what_was_packed_comes_back(rows, width, zeros, seed):
    weight = sparse(rows, width, zeros, seed)
    assert torch.equal(unpack(pack(weight)), weight)
    assert torch.equal(unpack(pack(weight, "bf16")), weight.bfloat16().float())
    assert pack(weight).kept == pack(weight, "bf16").kept == int(weight.count_nonzero())


def test_numbers_at_the_ends_of_the_range_come_back():
    tiny, huge = 2.0**-133, torch.finfo(torch.bfloat16).max
    weight = torch.tensor([[tiny, 0, 0], [3 * tiny, 0, 0], [huge, 0, 0], [float("inf"), 0, 0], [-(2.0**-126), 0, 0]])
    assert torch.equal(unpack(pack(weight)), weight)
    assert torch.equal(unpack(pack(weight, "bf16")), weight)
    assert unpack(pack(torch.tensor([[float("nan"), 1.0]]), "bf16")).isnan().tolist() == [[True, False]]


def test_zeros_of_either_sign_are_left_out():
    assert pack(torch.tensor([[0.0, -0.0, 1.0]])).kept == 1


def test_the_layout_is_tile_after_tile_and_in_a_tile_the_fullest_row_first():
    weight = torch.zeros(2, 130)
    weight[0, 5], weight[1, 0], weight[1, 127], weight[0, 129] = 1.0, 2.0, 3.0, 4.0
    packed = pack(weight)
    assert packed.ends.tolist() == [0, 2, 3, 3, 4, 4]
    assert packed.order.tolist() == [1, 0, 0, 1]
    assert packed.columns.tolist() == [0, 127, 5, 1]
    assert packed.values.tolist() == [2.0, 3.0, 1.0, 4.0]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8"])
def test_rows_are_put_in_order_within_their_block_alone_and_equal_ones_stay(precision):
    packed = pack(sparse(600, 300, 0.8), precision)
    tiles = len(packed.ends) // 601
    lengths = packed.ends.view(tiles, 601).diff()
    for order, length in zip(packed.order.view(tiles, 600), lengths, strict=True):
        for places, lasts in zip(order.split(BLOCK), length.split(BLOCK), strict=True):
            assert sorted(places.tolist()) == list(range(len(places)))
            assert bool((lasts.diff() <= 0).all())
    assert pack(torch.ones(300, 5), precision).order.tolist() == [*range(BLOCK), *range(300 - BLOCK)]


@pytest.mark.parametrize(("precision", "scales"), [("bf16", (1.0, 1.0)), ("fp16", (2 / 32, 4 / 32))])
def test_in_16_bits_an_odd_weight_is_stored_in_two_parts(precision, scales):
    packed = pack(torch.tensor([[1.0, 0.0, 3.0], [0.0, 5.0, 0.0]]), precision)
    assert packed.ends.tolist() == [0, 2, 4]
    assert packed.columns.tolist() == [0, 2, 1, 1]
    assert packed.values.tolist() == [1.0 / scales[0], 3.0 / scales[0], 2.5 / scales[1], 2.5 / scales[1]]
    assert packed.kept == 3


def test_other_types_and_transposed_matrices_are_packed():
    weight = sparse(20, 30, 0.5)
    assert torch.equal(unpack(pack(weight.bfloat16())), weight.bfloat16().float())
    assert torch.equal(unpack(pack(weight.half())), weight.half().float())
    assert torch.equal(unpack(pack(weight.t())), weight.t())


def test_a_matrix_of_80_percent_zeros_takes_a_quarter_in_fp32_and_a_sixth_in_bf16():
    weight = sparse(768, 768, 0.8)
    assert pack(weight).nbytes < 0.27 * weight.nbytes
    assert pack(weight, "bf16").nbytes < 0.17 * weight.nbytes


@pytest.mark.parametrize(
    "weight", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, 2, device="meta")]
)
def test_what_cannot_be_packed_is_refused(weight):
    with pytest.raises(ValueError, match="cannot be packed; it must be a matrix of fp32, bf16 or fp16 on the CPU"):
        pack(weight)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision is 'fp8'; it must be one of fp32, bf16, fp16, int8"):
        pack(torch.zeros(2, 2), "fp8")  # type: ignore[arg-type]
