"""ERK and LAMP: how one budget is spread over the layers, against hand-made numbers and the literal definitions."""

from __future__ import annotations

import math

import pytest
import torch
from compressor_fixtures import collections, thorough, zeros
from hypothesis import given
from hypothesis import strategies as st

from cram_hf import TopK
from cram_hf.compressors.allocation import erk_zeros, lamp_scores
from cram_hf.compressors.topk import pruned_count


def shaped(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def literal_lamp(weights: dict[str, torch.Tensor], count: int) -> dict[str, int]:
    """The paper's definition, weight by weight; all magnitudes differ."""
    scored = []
    for name, weight in weights.items():
        values = weight.double().flatten().tolist()
        for w in values:
            scored.append((w * w / math.fsum(v * v for v in values if abs(v) >= abs(w)), name))
    gone = [name for _, name in sorted(scored)[:count]]
    return {name: gone.count(name) for name in weights}


class TestErk:
    def test_layers_keep_weights_in_proportion_to_the_sum_of_their_dimensions(self):
        # 12 = 2 + 10 and 24 = 4 + 20: of 36 kept weights a third and two thirds
        assert erk_zeros(shaped(a=(2, 10), b=(4, 20)), 64) == {"a": 20 - 12, "b": 80 - 24}

    def test_a_layer_that_would_keep_more_than_it_has_stays_whole_and_the_others_share_the_rest(self):
        # 72 kept: in proportion 8 : 24 the first would keep 18 of its 16
        assert erk_zeros(shaped(a=(4, 4), b=(8, 16)), 72) == {"a": 0, "b": 72}

    def test_what_rounding_down_loses_goes_to_the_largest_remainders_and_of_equal_ones_to_the_earlier(self):
        assert erk_zeros(shaped(a=(2, 4), b=(2, 4), c=(2, 4)), 24 - 10) == {"a": 4, "b": 5, "c": 5}

    @thorough
    @given(collections(flat=True), st.integers(0, 100))
    def test_the_total_is_exact_and_no_layer_loses_more_than_it_has(self, weights, percent):
        count = sum(w.numel() for w in weights.values()) * percent // 100
        found = erk_zeros(weights, count)
        assert sum(found.values()) == count
        assert all(0 <= found[name] <= w.numel() for name, w in weights.items())

    def test_the_compressor_removes_the_smallest_magnitudes_of_each_layer(self):
        weights = shaped(a=(4, 4), b=(8, 16), c=(16, 8))
        pruned = TopK(0.7, "erk")(weights)
        assert zeros(pruned) == pruned_count(0.7, 16 + 128 + 128)
        for name, count in erk_zeros(weights, zeros(pruned)).items():
            assert torch.equal(pruned[name], TopK(count / weights[name].numel())({name: weights[name]})[name])


class TestLamp:
    def test_scores_of_a_layer_worked_out_by_hand(self):
        assert lamp_scores(torch.tensor([[1.0, -3.0], [2.0, 0.0]])).tolist() == [1, 4 / 13, 1 / 14, 0]

    def test_equal_magnitudes_share_what_is_above_them_the_lower_index_first(self):
        assert lamp_scores(torch.tensor([2.0, -2.0, 2.0])).tolist() == [1, 1 / 2, 1 / 3]

    def test_infinite_and_tiny_weights_have_scores_that_never_rise(self):
        scores = lamp_scores(torch.tensor([math.inf, 1e300, 1.0, 1e-300, 0.0], dtype=torch.float64))
        assert scores.isfinite().all()
        assert (scores.diff() <= 0).all()
        assert lamp_scores(torch.zeros(3)).tolist() == [0, 0, 0]

    @pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.83, 0.97])
    def test_the_compressor_prunes_by_the_papers_definition(self, sparsity):
        weights = shaped(a=(6, 5), b=(10, 10), c=(3, 20))
        weights["b"] *= 10
        count = pruned_count(sparsity, 190)
        pruned = TopK(sparsity, "lamp")(weights)
        assert {name: int((w == 0).sum()) for name, w in pruned.items()} == literal_lamp(weights, count)
        for name, w in weights.items():
            lost, kept = w[pruned[name] == 0].abs(), w[pruned[name] != 0].abs()
            assert not len(lost) or not len(kept) or lost.max() < kept.min()

    def test_scaling_a_layer_changes_nothing_unlike_under_the_global_scope(self):
        weights = shaped(a=(6, 5), b=(10, 10))
        larger = {**weights, "b": 1024 * weights["b"]}
        assert torch.equal(TopK(0.6, "lamp")(larger)["a"], TopK(0.6, "lamp")(weights)["a"])
        assert zeros({"a": TopK(0.6)(larger)["a"]}) == 30
