"""Pruning block by block: what each block is fed, what is counted, what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import tiny_config
from oneshot_fixtures import SIZES, gathered, make_batches, with_padding
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertForSequenceClassification,
    BertLMHeadModel,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from cram_hf import NM, TopK, compressible_weights, parse_compressor
from cram_hf.oneshot.layerwise import _gram, input_sums, prune_with_data_
from cram_hf.oneshot.patterns import masks_of
from cram_hf.oneshot.refit import refit
from cram_hf.oneshot.sparsegpt import sparsegpt
from cram_hf.oneshot.walk import Walk, evaluating, real_tokens
from cram_hf.oneshot.wanda import wanda_mask
from cram_hf.sparsity import follows_nm, measure


def literal(model: nn.Module, batches: list[dict[str, Tensor]], prune) -> nn.Module:
    """Prunes a copy block by block, running the whole model anew for each block."""
    model = copy.deepcopy(model).eval()
    for block in range(2):
        inputs = gathered(model, batches)
        for name, weight in compressible_weights(model).items():
            if f"layer.{block}." in name:
                layer = model.get_submodule(name.removesuffix(".weight"))
                with torch.no_grad():
                    values, bias = prune(name, weight.detach(), layer.bias.detach(), inputs[name].double())
                    weight.copy_(values)
                    layer.bias.copy_(bias)
    return model


def assert_close(a: nn.Module, b: nn.Module) -> None:
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


class TestPruneWithData:
    def test_wanda_equals_running_the_whole_model_for_each_block(self, qa_model):
        batches = make_batches()
        expected = literal(
            qa_model, batches, lambda name, w, b, x: (w * wanda_mask(w, x.square().sum(0), w.numel() // 2), b)
        )
        errors = prune_with_data_(
            qa_model, compressible_weights(qa_model), TopK(0.5, "layer"), batches, method="wanda"
        )
        assert_close(qa_model, expected)
        assert errors == {}

    @pytest.mark.parametrize("spec", ["topk:0.5:layer", "nm:2:4"])
    def test_sparsegpt_does_too(self, qa_model, spec):
        batches = make_batches()
        pattern = NM(2, 4) if spec == "nm:2:4" else None
        expected = literal(
            qa_model, batches, lambda name, w, b, x: (sparsegpt(w, x.T @ x, pattern or w.numel() // 2), b)
        )
        weights = compressible_weights(qa_model)
        before = {name: w.detach().clone().double() for name, w in weights.items()}
        inputs = gathered(qa_model.eval(), batches)
        errors = prune_with_data_(qa_model, weights, parse_compressor(spec), batches, method="sparsegpt")
        assert_close(qa_model, expected)
        name = "bert.encoder.layer.0.output.dense.weight"
        x = inputs[name].double()
        change = x @ (weights[name].detach().double() - before[name]).T
        assert errors[name] == pytest.approx(
            float(change.square().sum() / (x @ before[name].T).square().sum()), rel=1e-4
        )
        assert errors.keys() == weights.keys()

    def test_magnitude_masks_with_the_values_of_least_squares(self, qa_model):
        batches = make_batches()
        masks = masks_of(TopK(0.6), compressible_weights(qa_model))

        def fit(name, w, b, x):
            ones = torch.cat([x, torch.ones(len(x), 1)], 1)
            return refit(w, b, masks[name], ones.T @ ones)

        expected = literal(qa_model, batches, fit)
        prune_with_data_(qa_model, compressible_weights(qa_model), TopK(0.6), batches, method="magnitude", refit=True)
        assert_close(qa_model, expected)

    @pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
    @pytest.mark.parametrize("refitted", [False, True])
    @pytest.mark.parametrize("spec", ["topk:0.7", "topk:0.55:erk", "topk:0.9:lamp", "nm:2:4"])
    def test_counts_are_those_of_the_spec_layer_by_layer(self, qa_model, method, refitted, spec):
        weights = compressible_weights(qa_model)
        expected = {name: int((w == 0).sum()) for name, w in parse_compressor(spec)(weights).items()}
        prune_with_data_(qa_model, weights, parse_compressor(spec), make_batches(), method=method, refit=refitted)
        assert {name: int((w == 0).sum()) for name, w in weights.items()} == expected
        if spec == "nm:2:4":
            assert all(follows_nm(w, 2, 4) for w in weights.values())

    def test_padding_counts_for_nothing(self, qa_model):
        other = copy.deepcopy(qa_model)
        plain, padded = make_batches(), with_padding(make_batches(), more=5)
        prune_with_data_(qa_model, compressible_weights(qa_model), TopK(0.5), plain, method="sparsegpt", refit=True)
        prune_with_data_(other, compressible_weights(other), TopK(0.5), padded, method="sparsegpt", refit=True)
        assert_close(qa_model, other)

    def test_sums_are_full_precision_under_autocast_too(self, qa_model):
        found = []
        weights = compressible_weights(qa_model)
        layers = {name: qa_model.get_submodule(name.removesuffix(".weight")) for name in list(weights)[:1]}
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                found += input_sums(Walk(qa_model.eval(), weights, make_batches()), layers, _gram).values()
        torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)

    def test_masks_can_be_given(self, qa_model):
        weights = compressible_weights(qa_model)
        masks = {name: torch.rand(w.shape) < 0.3 for name, w in weights.items()}
        other = copy.deepcopy(qa_model)
        for model, options in ((qa_model, {"method": "sparsegpt"}), (other, {"method": "wanda", "refit": True})):
            before = {name: w.detach().clone() for name, w in compressible_weights(model).items()}
            prune_with_data_(model, compressible_weights(model), TopK(0.7), make_batches(), masks=masks, **options)
            for name, weight in compressible_weights(model).items():
                assert torch.equal(weight != 0, masks[name])
                assert not torch.equal(weight, before[name] * masks[name])

    def test_a_quantizer_after_the_pruner_rounds_the_pruned_values(self, qa_model):
        other = copy.deepcopy(qa_model)
        weights = compressible_weights(qa_model)
        prune_with_data_(qa_model, weights, parse_compressor("nm:2:4+quantize:4"), make_batches(), method="wanda")
        for weight in weights.values():
            assert follows_nm(weight, 2, 4)
            assert len(weight[0].unique()) <= 15
        first = next(iter(weights))
        prune_with_data_(other, compressible_weights(other), NM(2, 4), make_batches(), method="wanda")
        expected = parse_compressor("quantize:4")({first: compressible_weights(other)[first]})
        assert torch.equal(weights[first], expected[first])

    def test_modes_and_everything_else_stay_as_they_are(self, qa_model):
        qa_model.train()
        weights = compressible_weights(qa_model)
        before = {name: value.clone() for name, value in qa_model.state_dict().items()}
        prune_with_data_(qa_model, weights, TopK(0.5), make_batches(), method="sparsegpt")
        assert all(module.training for module in qa_model.modules())
        changed = {name for name, value in qa_model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == set(weights)
        assert all("forward" not in vars(m) and not m._forward_hooks for m in qa_model.modules())

    @pytest.mark.parametrize(
        ("model", "config"),
        [
            (RobertaForSequenceClassification, RobertaConfig(**SIZES)),
            (ElectraForSequenceClassification, ElectraConfig(**SIZES, embedding_size=16)),
            (
                DistilBertForSequenceClassification,
                DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=32),
            ),
            (
                DebertaV2ForSequenceClassification,
                DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"]),
            ),
        ],
        ids=["roberta", "electra", "distilbert", "deberta"],
    )
    def test_other_encoders(self, model, config):
        torch.manual_seed(0)
        net = model(config).eval()
        tables = ["pos_key_proj", "pos_query_proj"] if model is DebertaV2ForSequenceClassification else None
        weights = compressible_weights(net, exclude=tables)
        name = list(weights)[-1]
        walk = Walk(net, weights, make_batches())
        walk.advance()
        layer = net.get_submodule(name.removesuffix(".weight"))
        inputs = input_sums(walk, {name: layer}, lambda x: x.sum(0))[name]
        torch.testing.assert_close(
            inputs.float(), gathered(net, make_batches(), name)[name].sum(0), rtol=1e-4, atol=1e-4
        )
        prune_with_data_(net, weights, NM(2, 4), make_batches(), method="sparsegpt")
        assert measure(net, weights).compressible == 0.5


class TestWhatIsRefused:
    def assert_refused(self, model, weights, sentence, method="wanda", batches=None):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(ValueError, match=sentence):
            prune_with_data_(model, weights, TopK(0.5), make_batches() if batches is None else batches, method=method)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_weights_outside_the_blocks(self, make_model):
        model = make_model("sequence_classification")
        weights = compressible_weights(model, include=["pooler", "query"])
        self.assert_refused(model, weights, r"bert\.pooler\.dense\.weight: outside the model's repeated blocks")

    def test_shared_blocks(self):
        torch.manual_seed(0)
        model = AlbertForSequenceClassification(AlbertConfig(**SIZES, embedding_size=8))
        self.assert_refused(model, compressible_weights(model), "is called 2 times in a forward pass")

    def test_two_stacks(self):
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(
            T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0)
        )
        sentence = r"The blocks lie in 2 lists, decoder\.block, encoder\.block"
        self.assert_refused(model, compressible_weights(model), sentence)

    def test_layers_that_are_not_linear(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = nn.ModuleList([nn.Conv1d(4, 4, 1)])

            def forward(self, input_ids, attention_mask):
                return self.blocks[0](input_ids)

        model = Net()
        self.assert_refused(
            model, compressible_weights(model), r"blocks\.0\.weight \(Conv1d\): .* takes nn\.Linear layers"
        )

    def test_tables_of_positions_which_no_token_owns(self):
        torch.manual_seed(0)
        model = DebertaV2ForSequenceClassification(
            DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"])
        )
        sentence = r"pos_key_proj\.weight has values of shape \(1, 80, 16\), which do not fit \(4, 10\) tokens"
        self.assert_refused(model, compressible_weights(model), sentence)

    def test_layers_that_are_not_used(self):
        torch.manual_seed(0)
        config = tiny_config()
        config.is_decoder = config.add_cross_attention = True
        model = BertLMHeadModel(config)
        self.assert_refused(
            model, compressible_weights(model), r"crossattention\.self\.query\.weight, .*: not used in a forw"
        )

    def test_no_batches(self, qa_model):
        self.assert_refused(qa_model, compressible_weights(qa_model), "no text to calibrate on", batches=[])

    def test_nan(self, qa_model):
        weights = compressible_weights(qa_model)
        bad = copy.deepcopy(qa_model)
        with torch.no_grad():
            compressible_weights(bad)[list(weights)[2]][0, 0] = torch.nan
        with pytest.raises(ValueError, match="1 of 12 weights hold NaN"):
            prune_with_data_(bad, compressible_weights(bad), TopK(0.5), make_batches(), method="wanda")

    def test_inputs_whose_tokens_cannot_be_told(self):
        with pytest.raises(ValueError, match=r"query has values of shape \(5, 3\), which do not fit \(2, 4\) tokens"):
            real_tokens(torch.zeros(5, 3), torch.ones(2, 4, dtype=torch.bool), "query")


class TestWalk:
    def test_each_block_is_computed_once_a_run_and_earlier_ones_not_at_all(self):
        torch.manual_seed(0)
        config = tiny_config()
        config.num_hidden_layers = 4
        model = BertForSequenceClassification(config).eval()
        calls = []
        for i, block in enumerate(model.bert.encoder.layer):
            block.attention.register_forward_hook(lambda m, a, o, i=i: calls.append(i))
        walk = Walk(model, compressible_weights(model), make_batches(2))
        assert calls == [0, 1, 2, 3]  # finding the order
        calls.clear()
        for _ in range(len(walk)):
            walk.advance()
        assert calls == [0, 0, 1, 1, 2, 2, 3, 3]

    def test_two_dimensional_values_are_told_apart_too(self):
        mask = torch.tensor([[True, False], [True, True]])
        assert real_tokens(torch.arange(4.0).view(4, 1), mask, "x").flatten().tolist() == [0, 2, 3]
        assert real_tokens(torch.arange(4.0).view(2, 2, 1), None, "x").flatten().tolist() == [0, 1, 2, 3]

    def test_an_error_inside_leaves_modes_as_they_were(self, qa_model):
        qa_model.train()
        qa_model.bert.eval()
        before = [module.training for module in qa_model.modules()]

        def stop() -> None:
            assert not any(module.training for module in qa_model.modules())
            raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"), evaluating(qa_model):
            stop()
        assert [module.training for module in qa_model.modules()] == before
