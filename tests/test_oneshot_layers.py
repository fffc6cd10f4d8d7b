"""Wanda, SparseGPT and least squares on single layers, against slow literal references."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cram_hf import NM
from cram_hf.oneshot.patterns import keep_highest, patterns, split
from cram_hf.oneshot.refit import refit
from cram_hf.oneshot.sparsegpt import damped, sparsegpt
from cram_hf.oneshot.wanda import wanda_mask

PATTERNS = [0, 1, 37, 48, 96, NM(2, 4), NM(1, 4), NM(3, 6)]


def layer(rows: int = 8, columns: int = 12, tokens: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, bias and correlated inputs, float64."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    mix = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    inputs = torch.randn(tokens, columns, generator=generator, dtype=torch.float64) @ mix + 0.5
    return weight, torch.randn(rows, generator=generator, dtype=torch.float64), inputs


def literal_wanda(weight: Tensor, inputs: Tensor, pattern: int | NM) -> Tensor:
    rows, columns = weight.shape
    keep = torch.ones(rows, columns, dtype=torch.bool)
    for i in range(rows):
        score = [abs(float(weight[i, j])) * float(inputs[:, j].norm()) for j in range(columns)]
        if isinstance(pattern, NM):
            groups = [range(g, g + pattern.m) for g in range(0, columns, pattern.m)]
            gone = pattern.m - pattern.n
        else:
            groups = [range(columns)]
            gone = pattern // rows + (i < pattern % rows)
        for group in groups:
            for j in sorted(group, key=lambda j: (score[j], -j))[:gone]:
                keep[i, j] = False
    return keep


def literal_sparsegpt(weight: Tensor, gram: Tensor, pattern: int | NM | Tensor, width: int = 128) -> Tensor:
    """Optimal brain surgeon from left to right, with an explicit inverse for the columns not yet passed."""
    hessian, w = damped(gram), weight.clone()
    rows, columns = w.shape
    keep = pattern.clone() if isinstance(pattern, Tensor) else torch.ones_like(w, dtype=torch.bool)
    width = width // pattern.m * pattern.m if isinstance(pattern, NM) else width
    for j in range(columns):
        # [H^-1]_jj once all columns to the left are gone, for this column and those to come
        alone = torch.stack([torch.linalg.inv(hessian[k:, k:])[0, 0] for k in range(columns)])
        scores = w.square() / alone
        if isinstance(pattern, int) and j % width == 0:
            end = min(j + width, columns)
            zeros = pattern * end // columns - pattern * j // columns
            order = sorted(
                ((i, k) for i in range(rows) for k in range(j, end)),
                key=lambda at: (float(scores[at]), -at[0], -at[1]),
            )
            for i, k in order[:zeros]:
                keep[i, k] = False
        if isinstance(pattern, NM) and j % pattern.m == 0:
            for i in range(rows):
                worst = sorted(range(j, j + pattern.m), key=lambda k: (float(scores[i, k]), -k))
                keep[i, worst[: pattern.m - pattern.n]] = False
        inverse = torch.linalg.inv(hessian[j:, j:])
        for i in range(rows):
            if not keep[i, j]:
                w[i, j:] -= w[i, j] / inverse[0, 0] * inverse[0]
                w[i, j] = 0
    return w


def loss(change: Tensor, hessian: Tensor) -> float:
    return float((change @ hessian * change).sum())


class TestWanda:
    @pytest.mark.parametrize("pattern", PATTERNS, ids=str)
    def test_equals_the_loop_over_weights(self, pattern):
        weight, _, inputs = layer()
        mask = wanda_mask(weight, inputs.square().sum(0), pattern)
        assert torch.equal(mask, literal_wanda(weight, inputs, pattern))

    def test_a_large_input_saves_a_small_weight(self):
        mask = wanda_mask(torch.tensor([[1.0, 2.0], [1.0, 2.0]]), torch.tensor([9.0, 1.0]), 2)
        assert mask.tolist() == [[True, False], [True, False]]

    def test_of_equal_scores_the_lower_index_is_kept(self):
        assert wanda_mask(torch.ones(1, 4), torch.ones(4), 2).tolist() == [[True, True, False, False]]

    def test_the_count_is_exact_where_it_does_not_divide_by_the_rows(self):
        mask = wanda_mask(torch.rand(8, 12), torch.ones(12), 37)
        assert (~mask).sum(1).tolist() == [5, 5, 5, 5, 5, 4, 4, 4]


class TestSparseGPT:
    @pytest.mark.parametrize("pattern", PATTERNS, ids=str)
    @pytest.mark.parametrize("columns", [128, 6, 5])
    def test_equals_the_surgeon_column_by_column(self, pattern, columns):
        if isinstance(pattern, NM) and columns < pattern.m:
            pytest.skip("a block of columns holds at least one group")
        weight, _, inputs = layer()
        gram = inputs.T @ inputs
        found = sparsegpt(weight, gram, pattern, columns=columns)
        torch.testing.assert_close(found, literal_sparsegpt(weight, gram, pattern, columns), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("zeros", [0, 1, 37, 48, 95, 96])
    def test_the_count_is_exact(self, zeros):
        weight, _, inputs = layer()
        assert int((sparsegpt(weight, inputs.T @ inputs, zeros, columns=5) == 0).sum()) == zeros

    def test_a_given_mask_is_kept_and_only_the_weights_change(self):
        weight, _, inputs = layer()
        mask = torch.rand(8, 12, generator=torch.Generator().manual_seed(3)) < 0.4
        gram = inputs.T @ inputs
        found = sparsegpt(weight, gram, mask, columns=5)
        assert torch.equal(found != 0, mask)
        torch.testing.assert_close(found, literal_sparsegpt(weight, gram, mask), rtol=1e-9, atol=1e-9)

    def test_inputs_that_are_all_zero_give_plain_magnitude_pruning(self):
        weight, _, _ = layer()
        found = sparsegpt(weight, torch.zeros(12, 12), 48, columns=12)
        threshold = weight.abs().flatten().kthvalue(48).values
        assert torch.equal(found, weight * (weight.abs() > threshold))

    def test_the_input_stays_as_it_is(self):
        weight, _, inputs = layer()
        gram = inputs.T @ inputs
        before = weight.clone(), gram.clone()
        sparsegpt(weight, gram, 48)
        assert torch.equal(weight, before[0])
        assert torch.equal(gram, before[1])


class TestRefit:
    def with_one(self, inputs: Tensor) -> Tensor:
        return torch.cat([inputs, torch.ones(len(inputs), 1, dtype=inputs.dtype)], 1)

    def test_equals_least_squares_on_the_kept_inputs_row_by_row(self):
        weight, bias, inputs = layer()
        mask = torch.rand(8, 12, generator=torch.Generator().manual_seed(3)) < 0.4
        mask[0], mask[1] = False, True
        ones = self.with_one(inputs)
        found, shift = refit(weight, bias, mask, ones.T @ ones, damping=1e-12)
        outputs = inputs @ weight.T + bias
        for i in range(8):
            kept = torch.cat([inputs[:, mask[i]], torch.ones(60, 1, dtype=torch.float64)], 1)
            best = torch.linalg.lstsq(kept, outputs[:, i : i + 1]).solution[:, 0]
            torch.testing.assert_close(torch.cat([found[i, mask[i]], shift[i : i + 1]]), best, rtol=1e-6, atol=1e-6)
        assert not found[~mask].any()

    def test_a_layer_without_bias_is_fitted_through_zero(self):
        weight, _, inputs = layer()
        mask = torch.rand(8, 12, generator=torch.Generator().manual_seed(3)) < 0.4
        mask[0] = False
        ones = self.with_one(inputs)
        found, shift = refit(weight, None, mask, ones.T @ ones, damping=1e-12)
        assert shift is None
        assert not found[0].any()
        best = torch.linalg.lstsq(inputs[:, mask[1]], inputs @ weight[1]).solution
        torch.testing.assert_close(found[1, mask[1]], best, rtol=1e-6, atol=1e-6)

    def test_no_mask_leaves_less_loss_than_what_sparsegpt_makes_of_it(self):
        weight, _, inputs = layer()
        ones, gram = self.with_one(inputs), inputs.T @ inputs
        for pattern in (48, 72, NM(2, 4)):
            pruned = sparsegpt(weight, gram, pattern)
            fitted, _ = refit(weight, None, pruned != 0, ones.T @ ones)
            assert loss(fitted - weight, damped(gram)) < loss(pruned - weight, damped(gram))

    def test_a_whole_mask_changes_nothing(self):
        weight, bias, inputs = layer()
        ones = self.with_one(inputs)
        found, shift = refit(weight, bias, torch.ones(8, 12, dtype=torch.bool), ones.T @ ones)
        assert torch.equal(found, weight)
        assert torch.equal(shift, bias)


class TestPatterns:
    def test_each_layer_loses_as_many_weights_as_it_would_by_magnitude(self):
        from cram_hf import TopK

        weights = {"small": torch.tensor([[1.0, 2.0]]), "large": torch.tensor([[3.0, 4.0, 1.5, 9.0]])}
        assert patterns(TopK(0.5), weights) == {"small": 2, "large": 1}
        assert patterns(TopK(0.5, "layer"), weights) == {"small": 1, "large": 2}
        assert patterns(NM(1, 2), weights) == {"small": NM(1, 2), "large": NM(1, 2)}

    def test_a_chain_is_one_pruner_and_quantizers(self):
        from cram_hf import parse_compressor

        assert split(parse_compressor("topk:0.5")) == (parse_compressor("topk:0.5"), None)
        assert split(parse_compressor("nm:2:4+quantize:8")) == tuple(map(parse_compressor, ["nm:2:4", "quantize:8"]))
        rest = parse_compressor("quantize:8+quantize:4")
        assert split(parse_compressor("nm:2:4+quantize:8+quantize:4")) == (NM(2, 4), rest)
        for spec in ("quantize:8", "topk:0.5+nm:2:4", "quantize:8+topk:0.5"):
            with pytest.raises(ValueError, match="pruning with data takes one pruner, and quantizers after it"):
                split(parse_compressor(spec))

    def test_rows_keep_their_own_number_of_scores(self):
        scores = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])
        assert keep_highest(scores, torch.tensor([1, 2])).tolist() == [[False, True, False], [True, True, False]]
