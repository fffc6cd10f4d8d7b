"""TopK, NM and Quantize: counts, ties and values as worked out by hand or by a slow literal method."""

from __future__ import annotations

import math

import pytest
import reference
import torch
from compressor_fixtures import DTYPES, PALETTE, as_bits, collections, copies, same_bits, tensors, thorough, zeros
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cram_hf import NM, Quantize, TopK
from cram_hf.compressors.base import BITS
from cram_hf.compressors.topk import pruned_count, smallest_bits


class TestTopK:
    @pytest.mark.parametrize(
        ("sparsity", "numel", "expected"),
        [
            (0.29, 100, 29),
            (0.7, 10, 7),
            (0.57, 100, 57),
            (0.999, 10, 9),
            (0.5, 3, 1),
            (1, 7, 7),
            (0.1, 9, 0),
            (1e-5, 10**6, 10),
        ],
    )
    def test_the_count_is_the_floor_of_the_decimal_product(self, sparsity, numel, expected):
        assert pruned_count(sparsity, numel) == expected
        if numel < 1000:
            assert zeros(TopK(sparsity)({"w": torch.arange(1.0, numel + 1)})) == expected

    @thorough
    @given(collections(infinite=True, flat=True), st.integers(0, 100))
    def test_equals_the_literal_reference_whatever_the_dtypes(self, weights, percent):
        count = sum(w.numel() for w in weights.values()) * percent // 100
        masks = reference.top_k({name: w.double() for name, w in weights.items()}, count)
        out = TopK(percent / 100)(weights)
        for name, w in weights.items():
            expected = torch.where(masks[name], w, torch.zeros((), dtype=w.dtype))
            assert torch.equal(as_bits(out[name]), as_bits(expected))

    @thorough
    @given(collections(infinite=True, flat=True), st.integers(0, 100))
    def test_layer_scope_is_the_global_scope_on_each_weight_alone(self, weights, percent):
        together = TopK(percent / 100, "layer")(weights)
        for name, w in weights.items():
            assert same_bits({name: together[name]}, TopK(percent / 100)({name: w}))

    @pytest.mark.parametrize(
        ("sparsity", "weight", "expected"),
        [
            (0.5, [1.0, -1.0, 1.0, -1.0], [1.0, -1.0, 0.0, 0.0]),
            (0.5, [2.0, 1.0, 2.0, 2.0], [2.0, 0.0, 2.0, 0.0]),
            (0.25, [3.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 0.0]),
            (0.75, [0.125, -0.5, 0.375, 0.25], [0.0, -0.5, 0.0, 0.0]),
            (0.5, [math.inf, 1.0, -math.inf, 2.0], [math.inf, 0.0, -math.inf, 0.0]),
            (0.5, [2**-148, 2**-149, -(2**-148), 0.0], [2**-148, 0.0, -(2**-148), 0.0]),
        ],
    )
    def test_of_equal_magnitudes_the_lower_index_is_kept(self, sparsity, weight, expected):
        assert TopK(sparsity)({"w": torch.tensor(weight)})["w"].tolist() == expected

    def test_under_the_global_scope_the_index_runs_over_the_collection_in_its_order(self):
        ones = torch.ones(2)
        out = TopK(0.5)({"b": ones, "a": ones.half()})
        assert (out["b"].tolist(), out["a"].tolist()) == ([1, 1], [0, 0])
        out = TopK(0.5)({"a": ones.half(), "b": ones, "c": 2 * ones})
        assert [value.tolist() for value in out.values()] == [[1, 0], [0, 0], [2, 2]]

    def test_one_threshold_for_all_layers_or_one_for_each(self):
        weights = {"small": torch.tensor([1.0, 2.0]), "large": torch.tensor([3.0, 4.0])}
        assert [w.tolist() for w in TopK(0.5)(weights).values()] == [[0, 0], [3, 4]]
        assert [w.tolist() for w in TopK(0.5, "layer")(weights).values()] == [[0, 2], [0, 4]]

    def test_sparsity_1_prunes_everything_infinities_included(self):
        assert zeros(TopK(1)({"a": torch.tensor([math.inf, 1.0]), "b": torch.zeros(2)})) == 4

    @pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
    def test_a_single_weight_is_kept_below_sparsity_1(self, shape):
        assert TopK(0.99)({"w": torch.full(shape, 2.0)})["w"] == 2
        assert TopK(1)({"w": torch.full(shape, 2.0)})["w"] == 0

    def test_a_numpy_sparsity_gives_the_same_word_and_count_as_a_float(self):
        numpy = pytest.importorskip("numpy")
        assert TopK(numpy.float64(0.29)).spec == "topk:0.29"
        assert pruned_count(numpy.float64(0.29), 100) == 29

    def test_specs_are_as_short_as_they_are_typed(self):
        assert [TopK(0.7).spec, TopK(0.7, "layer").spec, TopK(1.0).spec, TopK(0.0).spec] == [
            "topk:0.7", "topk:0.7:layer", "topk:1", "topk:0",
        ]  # fmt: skip
        assert TopK(0.7, "layer").key == "topk_0.7_layer"


def kth(weights: dict[str, Tensor], k: int) -> tuple[int, int, int]:
    """k-th smallest magnitude as an integer, how many are below, how many equal; by `kthvalue` on one long tensor."""
    flat = torch.cat([as_bits(w.abs()).flatten() for w in weights.values()])
    value = flat.kthvalue(k).values
    return int(value), int((flat < value).sum()), int((flat == value).sum())


class TestTheExactThreshold:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @thorough
    @given(data=st.data())
    def test_equals_kthvalue_with_ties_and_subnormals(self, dtype, data):
        found = data.draw(collections(infinite=True, flat=True))
        weights = {name: w.to(dtype) for name, w in found.items()}
        numel = sum(w.numel() for w in weights.values())
        if numel == 0:
            return
        k = data.draw(st.integers(1, numel))
        magnitudes = [as_bits(w.abs()) for w in weights.values()]
        assert smallest_bits(lambda: iter(magnitudes), torch.finfo(dtype).bits, k) == kth(weights, k)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("k", [1, 2, 4999, 15000, 19999, 20000])
    def test_equals_kthvalue_of_the_magnitudes_themselves_on_many_weights(self, dtype, k):
        generator = torch.Generator().manual_seed(0)
        weights = [
            torch.randn(100, 50, generator=generator).to(dtype),
            torch.randn(15000, generator=generator).to(dtype),
        ]
        magnitudes = [as_bits(w.abs()) for w in weights]
        bits, _, _ = smallest_bits(lambda: iter(magnitudes), torch.finfo(dtype).bits, k)
        expected = torch.cat([w.abs().flatten() for w in weights]).kthvalue(k).values
        assert torch.tensor(bits, dtype=BITS[dtype]).view(dtype) == expected

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
    def test_subnormals_are_ranked_also_where_arithmetic_flushes_them(self, dtype):
        tiny = torch.finfo(dtype).smallest_normal
        weight = torch.tensor([0.25, 0.125, -0.5, 0.75], dtype=torch.float64).mul(tiny).to(dtype)
        expected = as_bits(torch.stack([weight[0] * 0, weight[1] * 0, weight[2], weight[3]]))
        assert expected[2:].count_nonzero() == 2
        if not torch.set_flush_denormal(True):
            pytest.skip("this processor cannot flush subnormal numbers")
        try:
            found = as_bits(TopK(0.5)({"w": weight})["w"])
        finally:
            torch.set_flush_denormal(False)
        assert torch.equal(found, expected)


class TestNM:
    @pytest.mark.parametrize(
        ("compressor", "row", "expected"),
        [
            (NM(2, 4), [1, -2, 3, -4, 8, 7, 6, 5], [0, 0, 3, -4, 8, 7, 0, 0]),
            (NM(1, 4), [1, -2, 3, -4, 8, 7, 6, 5], [0, 0, 0, -4, 8, 0, 0, 0]),
            (NM(4, 8), [1, -2, 3, -4, 8, 7, 6, 5], [0, 0, 0, 0, 8, 7, 6, 5]),
            (NM(3, 4), [1, -2, 3, -4, 8, 7, 6, 5], [0, -2, 3, -4, 8, 7, 6, 0]),
            (NM(2, 4), [1, 1, -1, 1, 0, 2, 2, 2], [1, 1, 0, 0, 0, 2, 2, 0]),
            (NM(2, 4), [0, 0, 0, 5, math.inf, 1, -math.inf, math.inf], [0, 0, 0, 5, math.inf, 0, -math.inf, 0]),
        ],
        ids=lambda value: value.spec if isinstance(value, NM) else "",
    )
    def test_n_of_each_m_are_kept_and_ties_go_to_the_lower_index(self, compressor, row, expected):
        out = compressor({"w": torch.tensor([row, row[::-1]], dtype=torch.float32)})["w"]
        assert out[0].tolist() == expected

    def test_groups_run_along_dimension_1_of_a_convolution(self):
        weight = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 4, 1, 1).repeat(2, 1, 1, 2)
        weight[1, :, 0, 1] = torch.tensor([1.0, 2.0, 3.0, 4.0])
        out = NM(2, 4)({"conv": weight})["conv"]
        assert out[0, :, 0, 0].tolist() == out[1, :, 0, 0].tolist() == [4, 3, 0, 0]
        assert out[1, :, 0, 1].tolist() == [0, 0, 3, 4]

    @thorough
    @given(collections(infinite=True), st.sampled_from([(1, 2), (1, 4), (2, 4), (3, 8)]))
    def test_keeps_what_a_stable_sort_of_each_group_keeps(self, weights, pattern):
        n, m = pattern
        for name, mask in NM(n, m).apply_(copies(weights)).items():
            groups = weights[name].abs().movedim(1, -1).reshape(-1, m)
            order = groups.sort(dim=1, descending=True, stable=True).indices
            expected = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order[:, :n], True)
            assert torch.equal(mask.movedim(1, -1).reshape(-1, m), expected)

    def test_large_groups_do_not_overflow_the_ranks(self):
        weight = torch.arange(1.0, 131).view(1, 130)
        assert NM(1, 130)({"w": weight})["w"].nonzero().tolist() == [[0, 129]]

    def test_shapes_that_m_does_not_divide_are_refused_by_name_before_anything_changes(self):
        weights = {"fits": torch.ones(2, 8), "query": torch.ones(2, 6), "bias": torch.ones(8)}
        with pytest.raises(ValueError, match=r"nm:2:4 needs .* multiple of 4; query \(2, 6\), bias \(8,\) are not"):
            NM(2, 4).apply_(weights)
        assert zeros(weights) == 0
        with pytest.raises(ValueError, match=r"query \(2, 6\) is not\. Leave them out with --compress_exclude"):
            NM(2, 4)({"query": torch.ones(2, 6)})


class TestQuantize:
    def test_a_single_number_and_a_vector_are_one_row(self):
        assert Quantize(3)({"w": torch.tensor(0.3)})["w"] == torch.tensor(0.3)
        assert Quantize(3)({"w": torch.tensor([3.0, 1.4])})["w"].tolist() == [3.0, 1.0]

    @pytest.mark.parametrize(
        ("bits", "row", "expected"),
        [
            (2, [1.0, 0.6, 0.5, 0.4, -1.0], [1.0, 1.0, 0.0, 0.0, -1.0]),  # L = 1; half goes to the even 0
            (3, [3.0, 1.5, 0.5, 2.5, -2.9], [3.0, 2.0, 0.0, 2.0, -3.0]),  # L = 3, unit 1; 1.5 -> 2, 2.5 -> 2
            (3, [-6.0, 1.1, 0.9, 3.0, 5.0], [-6.0, 2.0, 0.0, 4.0, 4.0]),  # unit 2; 3 is 1.5 and 5 is 2.5 units
            (8, [127.0, 63.4, 0.5, 1.5, -126.6], [127.0, 63.0, 0.0, 2.0, -127.0]),  # L = 127, unit 1
        ],
    )
    def test_values_worked_out_by_hand(self, bits, row, expected):
        assert Quantize(bits)({"w": torch.tensor([row])})["w"].tolist() == [expected]

    def test_each_output_row_has_its_own_scale(self):
        out = Quantize(2)({"w": torch.tensor([[1.0, 0.6], [100.0, 60.0], [0.0, 0.0]])})["w"]
        assert out.tolist() == [[1, 1], [100, 100], [0, 0]]

    def test_a_row_of_a_convolution_is_an_output_channel_and_a_vector_is_one_row(self):
        out = Quantize(2)({"conv": torch.tensor([[[1.0, 0.6]], [[10.0, 4.0]]]), "vector": torch.tensor([10.0, 0.6])})
        assert out["conv"].tolist() == [[[1, 1]], [[10, 0]]]
        assert out["vector"].tolist() == [10, 0]

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("bits", range(2, 17))
    def test_the_largest_of_a_row_survives_and_a_second_time_changes_nothing(self, bits, dtype):
        generator = torch.Generator().manual_seed(bits)
        weight = torch.randn(100, 40, generator=generator, dtype=torch.float64).to(dtype)
        once = Quantize(bits)({"w": weight})
        assert torch.equal(once["w"].abs().amax(1), weight.abs().amax(1))
        assert same_bits(Quantize(bits)(once), once)
        assert len(once["w"][0].unique()) <= 2**bits - 1

    @thorough
    @given(tensors(PALETTE, [(2, 8)]), st.integers(2, 12))
    def test_no_value_moves_by_more_than_half_a_unit_of_its_row(self, weight, bits):
        moved = (Quantize(bits)({"w": weight})["w"].double() - weight.double()).abs()
        unit = weight.double().abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
        rounding = weight.double().abs() * torch.finfo(weight.dtype).eps + torch.finfo(weight.dtype).smallest_normal
        assert (moved <= 0.5 * unit + rounding).all()

    def test_infinite_weights_are_refused_by_name_and_nothing_is_changed(self):
        weights = {"fine": torch.tensor([[0.3, 1.0]]), "query": torch.tensor([[math.inf, 1.0]])}
        before = copies(weights)
        with pytest.raises(ValueError, match="quantize:8 cannot scale a row that holds an infinite weight: query"):
            Quantize(8).apply_(weights)
        assert same_bits(weights, before)
