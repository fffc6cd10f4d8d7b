"""Repair without labels, tuning with them, and batch normalisation."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import rows
from oneshot_fixtures import gathered, make_batches
from torch import Tensor, nn
from transformers import TrainingArguments

from cram_hf import TopK, compressible_weights
from cram_hf.oneshot.batchnorm import recalibrate_batchnorm_
from cram_hf.oneshot.repair import output_moments, repair_
from cram_hf.oneshot.tune import only_trainable, small_parameters, tune_


def prune(model: nn.Module, sparsity: float) -> None:
    TopK(sparsity).apply_(compressible_weights(model))


def outputs_of(model: nn.Module, name: str, batches: list[dict[str, Tensor]]) -> Tensor:
    """What a layer gives at real tokens, (tokens, out)."""
    found = []
    layer = model.get_submodule(name)
    for batch in batches:
        mask = batch["attention_mask"].bool()
        handle = layer.register_forward_hook(lambda m, a, out, mask=mask: found.append(out[mask].double()))
        with torch.no_grad():
            model(**batch)
        handle.remove()
    return torch.cat(found)


class TestMoments:
    def test_mean_and_deviation_of_what_each_layer_gives_padding_left_out(self, qa_model):
        batches = make_batches()
        moments = output_moments(qa_model, compressible_weights(qa_model), batches)
        name = "bert.encoder.layer.1.intermediate.dense"
        values = outputs_of(qa_model.eval(), name, batches)
        assert moments[name].count == len(values) == 87
        torch.testing.assert_close(moments[name].mean, values.mean(0), rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(moments[name].std, values.std(0, correction=0), rtol=1e-5, atol=1e-7)
        assert len(moments) == 12

    def test_with_the_normalisations_of_the_blocks_on_request(self, qa_model):
        moments = output_moments(qa_model, compressible_weights(qa_model), make_batches(), norms=True)
        norms = [name for name in moments if "LayerNorm" in name]
        assert len(moments) == 16
        assert norms[0] == "bert.encoder.layer.0.attention.output.LayerNorm"
        assert len(norms) == 4


class TestRepair:
    @pytest.mark.parametrize("norms", [False, True])
    def test_every_channel_gets_its_mean_and_variance_back_and_zeros_stay(self, qa_model, norms):
        batches, weights = make_batches(), compressible_weights(qa_model)
        dense = output_moments(qa_model, weights, batches, norms=norms)
        prune(qa_model, 0.5)
        zeros = {name: w == 0 for name, w in weights.items()}
        repair_(qa_model, weights, batches, dense)
        after = output_moments(qa_model, weights, batches, norms=norms)
        for name, moments in dense.items():
            torch.testing.assert_close(after[name].mean, moments.mean, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(after[name].std, moments.std, rtol=1e-3, atol=1e-4)
        assert all(torch.equal(w == 0, zeros[name]) for name, w in weights.items())

    def test_a_dense_model_stays_as_it_is(self, qa_model):
        batches, weights = make_batches(), compressible_weights(qa_model)
        before = copy.deepcopy(qa_model.state_dict())
        repair_(qa_model, weights, batches, output_moments(qa_model, weights, batches))
        for name, value in qa_model.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=1e-4, atol=1e-5)

    def test_only_the_pruned_layers_and_their_biases_change(self, qa_model):
        batches, weights = make_batches(), compressible_weights(qa_model)
        dense = output_moments(qa_model, weights, batches)
        prune(qa_model, 0.5)
        before = copy.deepcopy(qa_model.state_dict())
        qa_model.train()
        repair_(qa_model, weights, batches, dense)
        changed = {name for name, value in qa_model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == set(weights) | {name.replace(".weight", ".bias") for name in weights}
        assert qa_model.training

    def test_a_channel_without_weights_gets_its_mean_in_the_bias(self, qa_model):
        batches, weights = make_batches(), compressible_weights(qa_model)
        dense = output_moments(qa_model, weights, batches)
        name = "bert.encoder.layer.0.attention.self.query"
        with torch.no_grad():
            weights[f"{name}.weight"][3] = 0
        repair_(qa_model, weights, batches, dense)
        layer = qa_model.get_submodule(name)
        assert not layer.weight[3].any()
        assert layer.bias[3].item() == pytest.approx(float(dense[name].mean[3]), abs=1e-6)

    def test_a_layer_without_bias_is_scaled(self, qa_model):
        batches, weights = make_batches(), compressible_weights(qa_model)
        name = "bert.encoder.layer.0.attention.self.query"
        layer = qa_model.get_submodule(name)
        layer.register_parameter("bias", None)
        dense = output_moments(qa_model, weights, batches)
        with torch.no_grad():
            layer.weight.mul_(0.25)
        repair_(qa_model, weights, batches, dense)
        torch.testing.assert_close(output_moments(qa_model, weights, batches)[name].std, dense[name].std)

    def test_it_brings_the_pruned_model_closer_to_the_dense_one(self, qa_model):
        with torch.no_grad():
            for weight in compressible_weights(qa_model).values():
                weight.mul_(10)  # the tiny model's own weights are too small to matter
        batches, weights = make_batches(), compressible_weights(qa_model)
        name = "bert.encoder.layer.1.output.LayerNorm"
        wanted, dense = outputs_of(qa_model.eval(), name, batches), output_moments(qa_model, weights, batches)
        prune(qa_model, 0.6)
        before = (outputs_of(qa_model, name, batches) - wanted).square().mean()
        repair_(qa_model, weights, batches, dense)
        assert (outputs_of(qa_model, name, batches) - wanted).square().mean() < before


class TestTune:
    def test_only_biases_and_normalisation_of_the_blocks_move(self, qa_model, tmp_path):
        prune(qa_model, 0.5)
        weights = compressible_weights(qa_model)
        before = copy.deepcopy(qa_model.state_dict())
        qa_model.qa_outputs.bias.requires_grad_(False)
        args = TrainingArguments(
            output_dir=str(tmp_path), max_steps=2, learning_rate=0.1, use_cpu=True, report_to=[], disable_tqdm=True
        )
        loss = tune_(qa_model, weights, args=args, train_dataset=rows("question_answering", 16))
        assert loss > 0
        changed = {name for name, value in qa_model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed <= set(small_parameters(qa_model, weights))
        assert "bert.encoder.layer.1.output.LayerNorm.weight" in changed
        assert "bert.encoder.layer.0.intermediate.dense.bias" in changed
        assert [name for name, p in qa_model.named_parameters() if not p.requires_grad] == ["qa_outputs.bias"]

    def test_flags_come_back_after_an_error(self, qa_model):
        def stop() -> None:
            assert not any(p.requires_grad for p in qa_model.parameters())
            raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"), only_trainable(qa_model, {}):
            stop()
        assert all(p.requires_grad for p in qa_model.parameters())


class WithBatchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.still = nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False)
        self.dropout = nn.Dropout(0.9)

    def forward(self, values: Tensor) -> Tensor:
        return self.still(self.dropout(self.norm(values)))


class TestBatchNorm:
    def test_the_statistics_become_the_plain_mean_over_the_batches(self):
        torch.manual_seed(0)
        model, batches = WithBatchNorm().eval(), [{"values": torch.randn(5, 3) + i} for i in range(4)]
        model.norm.momentum = 0.3
        model.norm.running_mean.fill_(100)
        assert recalibrate_batchnorm_(model, batches) == 1
        means = torch.stack([batch["values"].mean(0) for batch in batches])
        variances = torch.stack([batch["values"].var(0) for batch in batches])
        torch.testing.assert_close(model.norm.running_mean, means.mean(0))
        torch.testing.assert_close(model.norm.running_var, variances.mean(0))
        assert model.norm.momentum == 0.3
        assert not any(module.training for module in model.modules())

    def test_a_model_without_is_not_run(self, qa_model):
        assert recalibrate_batchnorm_(qa_model, [{"wrong": torch.zeros(1)}]) == 0

    def test_no_batch_is_refused_before_anything_is_reset(self):
        model = WithBatchNorm()
        model.norm.running_mean.fill_(7)
        with pytest.raises(ValueError, match="no batch to recalibrate batch normalisation on"):
            recalibrate_batchnorm_(model, [])
        assert model.norm.running_mean.tolist() == [7, 7, 7]


def test_the_helper_of_these_tests_sees_real_tokens_only(qa_model):
    found = gathered(qa_model.eval(), make_batches())
    assert {len(values) for values in found.values()} == {87}
