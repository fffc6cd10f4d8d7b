"""Every compressor keeps the contract, and each one's numbers are those worked out by hand."""

from __future__ import annotations

import math

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cram_hf import NM, Chain, Quantize, TopK, parse_compressor
from cram_hf.compressors.topk import BITS, pruned_count, smallest_bits

COMPRESSORS = [
    TopK(0),
    TopK(0.29),
    TopK(0.5, "layer"),
    TopK(0.9),
    TopK(1),
    TopK(1, "layer"),
    NM(1, 4),
    NM(2, 4),
    NM(4, 8),
    NM(4, 4),
    Quantize(2),
    Quantize(8),
    Quantize(16),
    Chain((NM(2, 4), Quantize(8))),
    Chain((TopK(0.5), TopK(0.7, "layer"))),
    Chain((Quantize(4), TopK(0.6))),
    Chain((TopK(0.3), NM(2, 8), Quantize(3))),
]
PRUNERS = [c for c in COMPRESSORS if "quantize" not in c.spec]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]

# Many equal magnitudes, zeros of both signs, and numbers at the edges of fp32, bf16 (1e-40) and fp16 (6e-8).
PALETTE = [0.0, -0.0, 0.5, -0.5, 0.25, 1.0, -1.0, 1e-40, -1e-40, 1.4e-45, 6e-8, -1.2e-7, 3.0, 1000.0, -60000.0]

thorough = settings(max_examples=50, deadline=None, derandomize=True)
each_compressor = pytest.mark.parametrize("compressor", COMPRESSORS, ids=lambda c: c.spec)


@st.composite
def tensors(draw, values: list[float], shapes: list[tuple[int, ...]]) -> Tensor:
    """Values from a part of the list, so that some draws are nearly all ties, or normally distributed ones."""
    shape, few = draw(st.sampled_from(shapes)), draw(st.lists(st.sampled_from(values), max_size=6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    if few:
        choice = torch.randint(len(few), shape, generator=generator)
        return torch.tensor(few, dtype=torch.float64)[choice].to(draw(st.sampled_from(DTYPES)))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(draw(st.sampled_from(DTYPES)))


def collections(*, infinite: bool = False, flat: bool = False):
    """Collections of one to three weights; shapes that every compressor takes unless `flat`."""
    shapes = [(3, 8), (1, 8), (2, 16), (0, 8), (2, 0), (2, 8, 3), (1, 8, 1, 2)]
    shapes += [(), (1,), (7,), (0,), (1, 1), (3, 5)] if flat else []
    values = PALETTE + ([math.inf, -math.inf] if infinite else [])
    weights = st.lists(tensors(values, shapes), min_size=1, max_size=3)
    return weights.map(lambda found: {f"layer.{i}.weight": w for i, w in enumerate(found)})


def as_bits(weight: Tensor) -> Tensor:
    return weight.detach().contiguous().view(BITS[weight.dtype])


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(as_bits(a[name]), as_bits(b[name])) for name in a)


def copies(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: w.detach().clone() for name, w in weights.items()}


def zeros(weights: dict[str, Tensor]) -> int:
    return sum(int((w == 0).sum()) for w in weights.values())


class TestTheContract:
    @each_compressor
    @settings(thorough, max_examples=25)
    @given(st.data())
    def test_pure_idempotent_and_deterministic_bit_for_bit(self, compressor, data):
        weights = data.draw(collections(infinite=compressor in PRUNERS))
        before = copies(weights)
        once = compressor(weights)
        assert list(once) == list(weights)
        for name, w in weights.items():
            assert (once[name].shape, once[name].dtype, once[name].device) == (w.shape, w.dtype, w.device)
            assert w.numel() == 0 or once[name].data_ptr() != w.data_ptr()
        assert same_bits(weights, before)
        assert same_bits(compressor(weights), once)
        assert same_bits(compressor(once), once)

    @pytest.mark.parametrize("compressor", PRUNERS, ids=lambda c: c.spec)
    @settings(thorough, max_examples=25)
    @given(collections(infinite=True))
    def test_masks_are_true_exactly_where_the_value_is_kept(self, compressor, weights):
        values = copies(weights)
        masks = compressor.apply_(values)
        for name, w in weights.items():
            mask = masks.get(name, torch.ones_like(w, dtype=torch.bool))
            assert (mask.shape, mask.dtype) == (w.shape, torch.bool)
            expected = torch.where(mask, w, torch.zeros((), dtype=w.dtype))
            assert torch.equal(as_bits(values[name]), as_bits(expected))

    @thorough
    @given(collections(infinite=True))
    def test_zero_strength_is_the_identity_without_masks(self, weights):
        for identity in (TopK(0), TopK(0, "layer"), NM(4, 4), NM(1, 1)):
            assert same_bits(identity(weights), weights)
            assert identity.apply_(copies(weights)) == {}

    @each_compressor
    def test_parameters_that_require_gradients_give_detached_values(self, compressor):
        torch.manual_seed(0)
        layer = nn.Linear(8, 4)
        before = layer.weight.detach().clone()
        out = compressor({"weight": layer.weight})["weight"]
        assert not out.requires_grad
        assert torch.equal(layer.weight, before)
        assert layer.weight.requires_grad

    @each_compressor
    def test_the_memory_layout_of_the_weight_makes_no_difference(self, compressor):
        torch.manual_seed(0)
        plain = torch.randn(4, 8)
        strided = plain.t().contiguous().t()
        assert not strided.is_contiguous()
        assert torch.equal(compressor({"w": strided})["w"], compressor({"w": plain})["w"])

    @each_compressor
    def test_the_spec_names_the_compressor(self, compressor):
        assert parse_compressor(compressor.spec) == compressor

    @each_compressor
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_nan_is_refused_by_name_and_nothing_is_changed(self, compressor, dtype):
        bad = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, math.nan, 8.0]], dtype=dtype)
        weights = {"first": torch.arange(1.0, 9.0, dtype=dtype).view(1, 8), "query": bad}
        before = copies(weights)
        with pytest.raises(ValueError, match="1 of 2 weights hold NaN, first 'query'"):
            compressor.apply_(weights)
        assert same_bits(weights, before)

    @each_compressor
    def test_an_empty_collection_stays_empty(self, compressor):
        assert compressor({}) == {}


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


class TestChain:
    def test_applies_its_members_from_left_to_right(self):
        weight = {"w": torch.tensor([[3.0, 2.4, 1.6, 0.4]])}
        assert parse_compressor("nm:2:4+quantize:3")(weight)["w"].tolist() == [[3, 2, 0, 0]]
        assert parse_compressor("quantize:3+nm:1:4")(weight)["w"].tolist() == [[3, 0, 0, 0]]

    def test_the_mask_is_the_conjunction_of_the_members_masks(self):
        weights = {"w": torch.tensor([[1.0, 2.0, 3.0, 4.0]]), "v": torch.tensor([[9.0, 9.0, 9.0, 9.0]])}
        masks = Chain((NM(2, 4), TopK(0.625))).apply_(weights)
        assert masks["w"].tolist() == [[False, False, False, True]]
        assert masks["v"].tolist() == [[True, True, False, False]]

    def test_a_value_quantized_to_zero_is_not_pruned(self):
        weights = {"w": torch.tensor([[100.0, 0.1, 0.05, 0.0]])}
        masks = parse_compressor("nm:2:4+quantize:8").apply_(weights)
        assert weights["w"].tolist() == [[100, 0, 0, 0]]
        assert masks["w"].tolist() == [[True, True, False, False]]
        assert Quantize(8).apply_({"w": torch.tensor([[100.0, 0.1]])}) == {}

    def test_spec_key_and_parsing(self):
        chain = Chain((NM(2, 4), Quantize(8)))
        assert (chain.spec, chain.key) == ("nm:2:4+quantize:8", "nm_2_4+quantize_8")
        assert parse_compressor(" nm:2:4 + quantize:8 ") == chain

    def test_a_chain_of_chains_is_one_chain(self):
        nested = Chain((Chain((TopK(0.1), NM(2, 4))), Quantize(8)))
        assert nested == Chain((TopK(0.1), NM(2, 4), Quantize(8)))
        assert parse_compressor(nested.spec) == nested

    @pytest.mark.parametrize("members", [(), (TopK(0.5),)])
    def test_fewer_than_two_members_are_no_chain(self, members):
        with pytest.raises(ValueError, match=f"{len(members)} compressors were given; a chain has two or more"):
            Chain(members)


FORMS = "Allowed are topk:SPARSITY, topk:SPARSITY:layer, nm:N:M, quantize:BITS, or several joined by '+'"


class TestParseCompressor:
    @pytest.mark.parametrize(
        ("spec", "compressor"),
        [
            ("topk:0.7", TopK(0.7)),
            ("topk:0.7:layer", TopK(0.7, "layer")),
            ("topk:0.7:global", TopK(0.7)),
            ("topk:.5", TopK(0.5)),
            ("nm:2:4", NM(2, 4)),
            ("quantize:8", Quantize(8)),
            ("nm:2:4+quantize:8", Chain((NM(2, 4), Quantize(8)))),
        ],
    )
    def test_the_word_gives_the_compressor(self, spec, compressor):
        assert parse_compressor(spec) == compressor

    @pytest.mark.parametrize(
        ("spec", "sentence"),
        [
            ("tokp:0.5", "'tokp:0.5' is no compressor. Did you mean 'topk'? "),
            ("TopK:0.5", "'TopK:0.5' is no compressor. Did you mean 'topk'? "),
            ("nm:2:4+quantise:8", "'nm:2:4+quantise:8' is no compressor. Did you mean 'quantize'? "),
            ("topk", "'topk' is no compressor. "),
            ("topk:0.5:layer:1", "'topk:0.5:layer:1' is no compressor. "),
            ("nm:2", "'nm:2' is no compressor. "),
            ("", "'' is no compressor. "),
            ("nm:2:4+", "'nm:2:4+' is no compressor. "),
            ("topk:a", "compressor 'topk:a': 'a' is no number. "),
            ("nm:2:x", "compressor 'nm:2:x': 'x' is no whole number. "),
            ("quantize:8.5", "compressor 'quantize:8.5': '8.5' is no whole number. "),
            ("topk:1.5", "topk: sparsity is 1.5; it is the share of zeros, a number in [0, 1]. Type e.g. topk:0.7. "),
            ("topk:-0.1", "topk: sparsity is -0.1; it is the share of zeros, a number in [0, 1]. "),
            ("topk:nan", "topk: sparsity is nan; it is the share of zeros, a number in [0, 1]. "),
            ("topk:0.5:rows", "topk: scope is 'rows'; allowed are 'global' and 'layer'. Type e.g. topk:0.7:layer. "),
            ("nm:0:4", "nm: 0:4 was given; n of each m weights are kept, 0 < n <= m. Type e.g. nm:2:4. "),
            ("nm:5:4", "nm: 5:4 was given; n of each m weights are kept, 0 < n <= m. "),
            ("quantize:1", "quantize: bits is 1; allowed are 2 to 16. Type e.g. quantize:8. "),
            ("quantize:17", "quantize: bits is 17; allowed are 2 to 16. "),
        ],
    )
    def test_a_wrong_word_is_shown_with_what_is_allowed(self, spec, sentence):
        with pytest.raises(ValueError, match="Allowed are") as caught:
            parse_compressor(spec)
        assert repr(spec) in str(caught.value)
        assert sentence in str(caught.value)
        assert FORMS in str(caught.value)

    def test_a_word_that_resembles_nothing_gets_no_suggestion(self):
        with pytest.raises(ValueError, match=r"^'lottery:0\.5' is no compressor\. Allowed are"):
            parse_compressor("lottery:0.5")
