"""Mixed precision: a gradient scaler scales the ascent step back, and bf16 holds in both passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from trainer_fixtures import distance, same, state, train

from cram_hf import CrAMTrainer


class WithCpuScaler(CrAMTrainer):
    """accelerate makes a gradient scaler on GPUs only; torch has one for CPUs, which is put in its place here."""

    initial_scale = 1024.0

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=self.initial_scale)


class HugeScale(WithCpuScaler):
    initial_scale = 2.0**127


class TestFp16Scaler:
    def test_gives_the_same_update_as_without_it(self, tmp_path, make_model):
        settings = {"compressors": ["topk:0.7"], "optim": "sgd", "learning_rate": 0.1}
        plain, scaled = make_model(), make_model()
        _, expected = train(tmp_path, plain, **settings)
        _, seen = train(tmp_path, scaled, cls=WithCpuScaler, **settings)
        for unscaled, times_1024 in zip(expected.gradients, seen.gradients, strict=True):
            assert distance({name: g * 1024 for name, g in unscaled.items()}, times_1024) < 1e-5
        assert distance(state(plain), state(scaled)) < 1e-6

    def test_overflow_in_the_dense_pass_alone_skips_the_update_without_plus(self, tmp_path, make_model):
        model = make_model()
        before, calls = state(model), []

        def spoil_the_first(grad):
            calls.append(1)
            return grad * float("inf") if len(calls) == 1 else grad

        model.qa_outputs.bias.register_hook(spoil_the_first)
        built, _ = train(tmp_path, model, cls=WithCpuScaler, compressors=["topk:0.7"], max_steps=1, plus=False)
        assert same(state(model), before)
        assert built.accelerator.scaler.get_scale() == 512

    @pytest.mark.parametrize("plus", [True, False])
    def test_overflow_skips_the_update_leaves_the_weights_and_backs_off(self, tmp_path, make_model, plus):
        model = make_model()
        before = state(model)
        built, seen = train(tmp_path, model, cls=HugeScale, compressors=["topk:0.7"], max_steps=1, plus=plus)
        assert not all(g.isfinite().all() for g in seen.gradients[0].values())
        assert same(state(model), before)
        assert built.accelerator.scaler.get_scale() == 2.0**126
        assert next(log for log in built.state.log_history if "loss" in log)["skipped_perturbations"] == 1


def test_bf16_is_used_in_both_passes_and_gets_about_the_same_gradient(tmp_path, make_model):
    def run(**change: bool) -> tuple[list[torch.dtype], dict[str, Tensor]]:
        model, dtypes = make_model(), []
        linear = model.bert.encoder.layer[0].attention.self.query
        linear.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
        _, seen = train(tmp_path, model, compressors=["topk:0.7"], max_steps=1, **change)
        return dtypes, seen.gradients[0]

    (usual, exact), (mixed, rounded) = run(), run(bf16=True)
    assert usual == [torch.float32] * 2
    assert mixed == [torch.bfloat16] * 2
    assert {g.dtype for g in rounded.values()} == {torch.float32}
    assert 1e-5 < distance(exact, rounded) < 0.05
