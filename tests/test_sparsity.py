"""Sparsity is counted, not assumed: zeros of the compressible weights, of the whole model, and N:M patterns."""

from __future__ import annotations

import pytest
import torch
from compressor_fixtures import DTYPES
from torch import nn

from cram_hf import NM, TopK, compressed, compressible_weights
from cram_hf.sparsity import Sparsity, follows_nm, measure


def two_layers() -> nn.Sequential:
    """Eight weights in two matrices and four biases, no zero anywhere."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    for p in model.parameters():
        nn.init.ones_(p)
    return model


class TestMeasure:
    def test_counts_zeros_by_layer_by_the_compressible_weights_and_by_the_model(self):
        model = two_layers()
        weights = {"0": model[0].weight, "1": model[1].weight}
        with torch.no_grad():
            model[0].weight[0] = 0
            model[1].weight[0, 0] = 0
            model[1].bias[:] = 0
        assert measure(model, weights) == Sparsity(compressible=3 / 8, model=5 / 12, layers={"0": 0.5, "1": 0.25})

    def test_a_negative_zero_is_a_zero_and_the_smallest_number_is_none(self):
        model = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[-0.0, 2**-149]]))
        assert measure(model, {"w": model.weight}).compressible == 0.5

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_works_in_every_dtype(self, dtype):
        model = nn.Linear(4, 1, bias=False).to(dtype)
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[0.0, 1.0, 2.0, 3.0]]))
        assert measure(model, {"w": model.weight}) == Sparsity(0.25, 0.25, {"w": 0.25})

    def test_a_shared_matrix_counts_once_in_the_model(self):
        model = two_layers()
        model[1].weight = model[0].weight
        with torch.no_grad():
            model[0].weight[0] = 0
        assert measure(model, {}).model == 2 / 8

    def test_nothing_to_count_is_0(self):
        assert measure(nn.ReLU(), {}) == Sparsity(0, 0, {})
        assert measure(two_layers(), {"empty": torch.empty(0, 4)}).layers == {"empty": 0}

    def test_agrees_with_the_compressor_on_a_model_and_with_the_dense_model_afterwards(self, qa_model):
        weights = compressible_weights(qa_model)
        dense = measure(qa_model, weights)
        with compressed(weights, TopK(0.75)):
            found = measure(qa_model, weights)
        parameters = sum(p.numel() for p in qa_model.parameters())
        assert (dense.compressible, found.compressible) == (0, 0.75)
        assert found.model == pytest.approx(dense.model + 3072 / parameters)
        assert measure(qa_model, weights) == dense


class TestFollowsNM:
    @pytest.mark.parametrize(
        ("row", "follows"),
        [
            ([1, 1, 0, 0, 0, 1, 0, 1], True),
            ([0, 0, 0, 0, 0, 0, 0, 1], True),
            ([1, 1, 0, 1, 0, 0, 0, 0], False),
            ([0, 0, 1, 1, 1, 1, 0, 0], True),
            ([0, 1, 1, 1, 0, 0, 0, 0], False),
        ],
    )
    def test_at_most_2_of_each_aligned_4(self, row, follows):
        assert follows_nm(torch.tensor([row, [0] * 8], dtype=torch.float32), 2, 4) is follows

    def test_the_groups_of_a_convolution_run_along_its_input_channels(self):
        weight = torch.zeros(1, 4, 3, 3)
        weight[0, :2] = 1
        assert follows_nm(weight, 2, 4)
        weight[0, 2, 1, 1] = 1
        assert not follows_nm(weight, 2, 4)

    def test_a_matrix_that_follows_only_along_its_output_dimension_does_not(self):
        weight = torch.zeros(4, 4)
        weight[:, :2] = 1
        assert follows_nm(weight, 2, 4)
        weight[:2, :] = 1
        assert not follows_nm(weight, 2, 4)

    @pytest.mark.parametrize("shape", [(8,), (), (2, 6)])
    def test_a_shape_that_m_does_not_divide_does_not(self, shape):
        assert not follows_nm(torch.zeros(shape), 2, 4)

    @pytest.mark.parametrize("pattern", [(1, 4), (2, 4), (4, 8)])
    def test_what_nm_returns_follows_its_pattern_and_what_it_took_did_not(self, pattern):
        weight = torch.randn(6, 16, 2, generator=torch.Generator().manual_seed(0))
        assert not follows_nm(weight, *pattern)
        assert follows_nm(NM(*pattern)({"w": weight})["w"], *pattern)
