"""Every compressor keeps the contract, and its word names it."""

from __future__ import annotations

import math

import pytest
import torch
from compressor_fixtures import COMPRESSORS, DTYPES, PRUNERS, as_bits, collections, copies, same_bits, thorough
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cram_hf import NM, Chain, Compressor, Quantize, TopK, parse_compressor

PIECES = [
    "topk",
    "nm",
    "quantize",
    "layers",
    "layer",
    "erk",
    "0.5",
    "2",
    "4",
    "8",
    "1e-9",
    "-1",
    "nan",
    "inf",
    "9" * 5000,
    "²",
]
WORDS = st.lists(st.sampled_from([*":+ ", *PIECES]) | st.text(max_size=3), max_size=9).map("".join)
KINDS = st.sampled_from(["topk:{}", "topk:{}:{}", "nm:{}:{}", "quantize:{}", "layers:{}", "{}+{}"])
WORDS |= st.builds(str.format, KINDS, st.sampled_from(PIECES) | WORDS, st.sampled_from(PIECES) | WORDS)

each_compressor = pytest.mark.parametrize("compressor", COMPRESSORS, ids=lambda c: c.spec)


def parsed(spec: str) -> Compressor | str:
    """The compressor that a word names, or what is told of it."""
    try:
        return parse_compressor(spec)
    except (ValueError, OSError) as error:
        return str(error)


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
        for identity in (TopK(0), TopK(0, "layer"), TopK(0, "erk"), TopK(0, "lamp"), NM(4, 4), NM(1, 1)):
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


FORMS = (
    "Allowed are topk:SPARSITY, topk:SPARSITY:layer (or :erk, :lamp), nm:N:M, quantize:BITS, layers:FILE, or several "
    "joined by '+'"
)


class TestParseCompressor:
    @pytest.mark.parametrize(
        ("spec", "compressor"),
        [
            ("topk:0.7", TopK(0.7)),
            ("topk:0.7:layer", TopK(0.7, "layer")),
            ("topk:0.7:global", TopK(0.7)),
            ("topk:0.7:erk", TopK(0.7, "erk")),
            ("topk:0.7:lamp", TopK(0.7, "lamp")),
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
            (
                "topk:0.5:rows",
                "topk: scope is 'rows'; allowed are 'global', 'layer', 'erk' and 'lamp'. Type e.g. topk:0.7:layer. ",
            ),
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

    @settings(thorough, max_examples=200)
    @given(WORDS)
    def test_any_text_is_a_compressor_whose_word_reads_back_or_one_line(self, spec):
        found = parsed(spec)
        if isinstance(found, str):
            assert "layers:" in spec or ("Allowed are" in found and len(found.splitlines()) == 1)
        else:
            assert parse_compressor(found.spec) == found

    def test_a_word_that_resembles_nothing_gets_no_suggestion(self):
        with pytest.raises(ValueError, match=r"^'lottery:0\.5' is no compressor\. Allowed are"):
            parse_compressor("lottery:0.5")
