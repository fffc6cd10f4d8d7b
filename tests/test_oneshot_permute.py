"""Reordering channels: the dense model computes the same, N:M keeps more, and which swaps are found."""

from __future__ import annotations

import copy
from itertools import permutations

import pytest
import torch
from oneshot_fixtures import SIZES, make_batches
from transformers import (
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from cram_hf import NM, compressible_weights
from cram_hf.oneshot.permute import _swap_best_, _tournament, best_order, kept, permute_channels_

MODELS = [
    (RobertaForSequenceClassification, RobertaConfig(**SIZES)),
    (ElectraForSequenceClassification, ElectraConfig(**SIZES, embedding_size=16)),
    (
        DistilBertForSequenceClassification,
        DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=32),
    ),
    (DebertaV2ForSequenceClassification, DebertaV2Config(**SIZES)),
]


def check(model, taking: list[str]) -> None:
    """Permutes `model` for 2:4 and checks that its outputs are the same and that the taking layers keep more."""
    model.eval()
    with torch.no_grad():  # biases that are all zero would hide a bias left in its old place
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    weights = compressible_weights(model)
    before = copy.deepcopy(model)
    gains = permute_channels_(model, weights, NM(2, 4))
    assert [name.rpartition(".layer.")[2] for name in gains] == taking
    for batch in make_batches():
        with torch.no_grad():
            torch.testing.assert_close(model(**batch)[0], before(**batch)[0], rtol=1e-4, atol=1e-6)
    pruned, pruned_before = NM(2, 4)(weights), NM(2, 4)(compressible_weights(before))
    for name, weight in weights.items():
        magnitude, earlier = float(pruned[name].abs().sum()), float(pruned_before[name].abs().sum())
        if name in gains:
            assert magnitude == pytest.approx(gains[name].after, rel=1e-5)
            assert earlier == pytest.approx(gains[name].before, rel=1e-5)
            assert magnitude > earlier
            assert not torch.equal(weight, compressible_weights(before)[name])
        else:
            assert magnitude == pytest.approx(earlier, rel=1e-5)


class TestPermuteChannels:
    def test_bert(self, qa_model):
        check(qa_model, [f"{i}.{name}.weight" for i in (0, 1) for name in ("attention.output.dense", "output.dense")])

    @pytest.mark.parametrize(("model", "config"), MODELS, ids=lambda x: x.__name__ if isinstance(x, type) else "")
    def test_other_encoders(self, model, config):
        torch.manual_seed(0)
        names = ("attention.output.dense", "output.dense")
        if model is DistilBertForSequenceClassification:
            names = ("attention.out_lin", "ffn.lin2")
        check(model(config), [f"{i}.{name}.weight" for i in (0, 1) for name in names])

    def test_only_what_will_be_pruned_is_looked_at(self, qa_model):
        weights = compressible_weights(qa_model, exclude=["encoder.layer.0", "attention"])
        assert list(permute_channels_(qa_model, weights, NM(2, 4))) == ["bert.encoder.layer.1.output.dense.weight"]

    def test_heads_that_groups_would_cross_are_left_alone(self, qa_model):
        weights = compressible_weights(qa_model)  # heads of 8 channels
        gains = permute_channels_(qa_model, weights, NM(8, 16))
        assert [name.rpartition(".layer.")[2] for name in gains] == ["0.output.dense.weight", "1.output.dense.weight"]

    def test_a_model_without_such_layers_is_refused(self):
        net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8))
        with pytest.raises(ValueError, match=r"Sequential has no channels .* known are .* Leave out --permute"):
            permute_channels_(net, compressible_weights(net), NM(2, 4))


class TestBestOrder:
    def test_finds_the_one_swap_that_saves_a_large_column(self):
        # 2:4 keeps two of the three columns 9, 8, 7 of the first group until one of them changes places
        scores = torch.tensor([[9.0, 8.0, 7.0, 0.0, 1.0, 0.0, 0.0, 0.0]])
        order = best_order(scores, NM(2, 4), rounds=3)
        assert kept(scores, NM(2, 4)) == 18
        assert kept(scores[:, order], NM(2, 4)) == 25
        assert sorted(order.tolist()) == list(range(8))

    @pytest.mark.parametrize("pattern", [NM(1, 2), NM(1, 4), NM(2, 4), NM(3, 4), NM(5, 8)], ids=str)
    def test_a_swap_is_the_best_of_all_tried_literally(self, pattern):
        scores = torch.rand(7, 2 * pattern.m, generator=torch.Generator().manual_seed(4))
        best = kept(scores, pattern)
        for i in range(pattern.m):
            for j in range(pattern.m, 2 * pattern.m):
                order = list(range(2 * pattern.m))
                order[i], order[j] = order[j], order[i]
                best = max(best, kept(scores[:, order], pattern))
        order = torch.arange(2 * pattern.m).view(2, pattern.m)
        _swap_best_(order, [0], [1], scores.T.contiguous(), pattern.n)
        assert kept(scores[:, order.flatten()], pattern) == pytest.approx(best, rel=1e-5)

    def test_comes_near_the_best_of_all_orders(self):
        scores = torch.rand(5, 8, generator=torch.Generator().manual_seed(4))
        best = max(kept(scores[:, list(order)], NM(2, 4)) for order in permutations(range(8)) if order[0] == 0)
        start, found = kept(scores, NM(2, 4)), kept(scores[:, best_order(scores, NM(2, 4), 8)], NM(2, 4))
        assert start < found <= best * 1.00001
        assert found - start > 0.5 * (best - start)

    def test_it_ends_when_all_have_met_without_a_swap(self):
        scores = torch.rand(5, 24, generator=torch.Generator().manual_seed(4))
        end = best_order(scores, NM(2, 4), 1000)
        assert torch.equal(best_order(scores, NM(2, 4), 10**9), end)
        assert best_order(scores[:, end], NM(2, 4), 1000).tolist() == list(range(24))

    def test_nothing_to_choose_changes_nothing(self):
        assert best_order(torch.rand(3, 8), NM(4, 4), 5).tolist() == list(range(8))
        assert best_order(torch.rand(3, 4), NM(2, 4), 5).tolist() == list(range(4))
        assert best_order(torch.rand(3, 8), NM(2, 4), 0).tolist() == list(range(8))

    @pytest.mark.parametrize("count", [1, 2, 5, 6])
    def test_in_a_tournament_each_meets_each_other_once(self, count):
        rounds = list(_tournament(count))
        met = [frozenset(pair) for left, right in rounds for pair in zip(left, right, strict=True)]
        assert len(met) == len(set(met)) == count * (count - 1) // 2
        for left, right in rounds:
            assert len({*left, *right}) == len(left) + len(right)
