"""Sparse transfer: the zeros of the start stay zeros, and nothing else differs from the slow way of keeping them."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import reference
import torch
from conftest import rows
from test_trainer_precision import HugeScale, WithCpuScaler
from torch import Tensor, nn
from trainer_fixtures import distance, same, state, train, trainer
from transformers import TrainerCallback

from cram_hf import TopK, compressible_weights

SETTINGS: dict[str, Any] = {
    "keep_sparsity": True,
    "max_steps": 4,
    "weight_decay": 0.1,
    "lr_scheduler_type": "constant",
    "train_sampling_strategy": "sequential",
}
LAYER = "bert.encoder.layer.0.attention.self.query.weight"
CRAM = {"compressors": ["topk:0.8"]}


@pytest.fixture
def make_pruned(make_model):
    """Returns a function like `make_model`, whose model has 60 % zeros in its encoder."""

    def make(*args: Any, sparsity: float = 0.6, **kwargs: Any) -> nn.Module:
        model = make_model(*args, **kwargs)
        TopK(sparsity).apply_(compressible_weights(model))
        return model

    return make


def masks(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach() != 0 for name, weight in compressible_weights(model).items()}


def are_zero(model: nn.Module, kept: dict[str, Tensor]) -> bool:
    return not any(weight[~kept[name]].any() for name, weight in compressible_weights(model).items())


def masked(values: dict[str, Tensor], kept: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value * kept[name] if name in kept else value for name, value in values.items()}


def matrices(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the biases: the gradient of some is zero but for rounding, and AdamW makes whole steps of that."""
    return {name: value for name, value in values.items() if value.dim() == 2}


def batches(updates: int) -> list[dict[str, Tensor]]:
    examples = rows("question_answering", 32)
    cut = [examples[8 * i : 8 * i + 8] for i in range(updates)]
    return [{key: torch.stack([torch.as_tensor(row[key]) for row in part]) for key in part[0]} for part in cut]


def sgd(momentum: float = 0.9, rate: float = 0.1, decay: float = 0.1):
    """The update of `torch.optim.SGD`, written out: w, its gradient and the number of the update -> the new w."""
    buffers: dict[str, Tensor] = {}

    def update(name: str, w: Tensor, g: Tensor, t: int) -> Tensor:
        g = g + decay * w
        buffers[name] = momentum * buffers[name] + g if name in buffers else g
        return w - rate * buffers[name]

    return update


def adamw(rate: float = 0.01, decay: float = 0.1, b1: float = 0.9, b2: float = 0.999):
    """The update of AdamW; biases and norms are not decayed, as Trainer does it."""
    first: dict[str, Tensor] = {}
    second: dict[str, Tensor] = {}

    def update(name: str, w: Tensor, g: Tensor, t: int) -> Tensor:
        first[name] = b1 * first.get(name, torch.zeros_like(w)) + (1 - b1) * g
        second[name] = b2 * second.get(name, torch.zeros_like(w)) + (1 - b2) * g * g
        decayed = w if name.endswith("bias") or "LayerNorm" in name else w * (1 - rate * decay)
        m, v = first[name] / (1 - b1**t), second[name] / (1 - b2**t)
        return decayed - rate * m / (v.sqrt() + 1e-8)

    return update


def slowly(model: nn.Module, update, gradient, clip: float) -> dict[str, Tensor]:
    """Four updates on copies of the weights: mask the gradient, clip it, step, mask the weights."""
    kept = masks(model)
    w = {name: p.detach().clone() for name, p in model.named_parameters()}
    for t, batch in enumerate(batches(4), start=1):
        g = masked(gradient(w, batch), kept)
        norm = math.sqrt(sum(float((value**2).sum()) for value in g.values()))
        w = {name: update(name, w[name], g[name] * min(1.0, clip / norm), t) for name in w}
        w = masked(w, kept)
    return w


def torch_sgd(model: nn.Module) -> dict[str, Any]:
    return {"optimizers": (torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1), None)}


class TestEqualsMaskingAfterEveryStep:
    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    @pytest.mark.parametrize("clip", [0.5, 1000.0])
    def test_without_compressors(self, tmp_path, make_pruned, optimizer, clip):
        model, oracle = make_pruned(), make_pruned()
        steps = torch_sgd(model) if optimizer == "sgd" else {}
        train(tmp_path, model, **SETTINGS, **steps, max_grad_norm=clip)
        update = sgd() if optimizer == "sgd" else adamw()
        expected = slowly(oracle, update, lambda w, batch: reference.gradient(oracle, w, batch), clip)
        assert distance(matrices(expected), matrices(state(model))) < 1e-5
        assert same(masks(model), masks(oracle))

    @pytest.mark.parametrize("plus", [True, False])
    def test_with_cram_on_top(self, tmp_path, make_pruned, monkeypatch, plus):
        """Denser to sparser, 60 % to 80 %: both gradients of the literal update are masked, the dense one first."""
        model, oracle = make_pruned(), make_pruned()
        kept, plain = masks(oracle), reference.gradient
        monkeypatch.setattr(reference, "gradient", lambda *args: masked(plain(*args), kept))
        weights = compressible_weights(oracle)
        count = int(0.8 * sum(w.numel() for w in weights.values()))

        def cram(w: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
            oracle.load_state_dict(w, strict=False)
            return reference.cram_gradient(
                oracle, batch, list(weights), lambda v: reference.top_k(v, count), rho=0.1, plus=plus
            )

        train(tmp_path, model, **SETTINGS, **CRAM, **torch_sgd(model), plus=plus, max_grad_norm=0.5)
        expected = slowly(oracle, sgd(), cram, 0.5)
        assert distance(expected, state(model)) < 1e-5
        assert are_zero(model, kept)

    def test_a_model_trained_without_it_loses_its_zeros(self, tmp_path, make_pruned):
        model = make_pruned()
        kept = masks(model)
        train(tmp_path, model, **SETTINGS | {"keep_sparsity": False})
        assert not are_zero(model, kept)


class Rotating(torch.optim.SGD):
    """Moves every weight at every step, whatever its gradient, as an orthogonalised update (Muon) does."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(0.01)


class TestHolds:
    @pytest.mark.parametrize("compressors", [[], ["topk:0.8", "nm:2:4", "quantize:8"]], ids=["plain", "cram"])
    @pytest.mark.parametrize(
        "change", [{"optim": "adafactor"}, {"optim": "rmsprop"}, {"optim": "sgd"}, "muon", "ours"]
    )
    def test_under_any_optimizer(self, tmp_path, make_pruned, change, compressors):
        model = make_pruned()
        before, kept = state(model), masks(model)
        if change == "muon":  # takes matrices only
            muon = torch.optim.Muon(list(compressible_weights(model).values()), lr=0.01, weight_decay=0.1)
            change = {"optimizers": (muon, None)}
        elif change == "ours":
            change = {"optimizers": (Rotating(model.parameters(), lr=0.1), None)}
        train(tmp_path, model, **SETTINGS, **change, compressors=compressors)
        assert are_zero(model, kept)
        assert not same(state(model), before)

    @pytest.mark.parametrize("settings", [{}, CRAM, CRAM | {"plus": False, "masked": False}], ids=str)
    def test_from_the_gradient_on(self, tmp_path, make_pruned, settings):
        model = make_pruned()
        kept = masks(model)
        _, seen = train(tmp_path, model, gradient_accumulation_steps=2, **SETTINGS, **settings)
        for gradient in seen.gradients:
            assert not any(gradient[name][~mask].any() for name, mask in kept.items())
            assert all(gradient[name][mask].any() for name, mask in kept.items())

    def test_under_accumulation_with_the_same_gradient(self, tmp_path, make_pruned):
        cut = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
        _, whole = train(tmp_path, make_pruned(), **SETTINGS, **CRAM)
        _, pieces = train(tmp_path, make_pruned(), **SETTINGS, **CRAM, **cut)
        assert distance(whole.gradients[0], pieces.gradients[0]) < 1e-5

    @pytest.mark.parametrize("change", [{"bf16": True}, {"cls": WithCpuScaler}, {"cls": HugeScale}], ids=str)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_in_lower_precision(self, tmp_path, make_pruned, change, dtype):
        model = make_pruned().to(dtype)
        kept = masks(model)
        train(tmp_path, model, **change, **SETTINGS, **CRAM)
        assert are_zero(model, kept)

    @pytest.mark.slow
    def test_under_torch_compile(self, tmp_path, make_pruned):
        eager, compiled = make_pruned(), make_pruned()
        train(tmp_path, eager, **SETTINGS, **CRAM)
        train(tmp_path, compiled, torch_compile=True, torch_compile_backend="aot_eager", **SETTINGS, **CRAM)
        assert are_zero(compiled, masks(eager))
        assert distance(state(eager), state(compiled)) < 1e-3

    def test_what_is_saved(self, tmp_path, make_pruned):
        model = make_pruned()
        kept = masks(model)
        train(tmp_path, model, **SETTINGS, save_strategy="steps", save_steps=2)
        for folder in ("checkpoint-2", "checkpoint-4"):
            assert are_zero(type(model).from_pretrained(tmp_path / folder), kept)

    def test_no_weight_that_only_becomes_zero_later(self, tmp_path, make_pruned):
        class Zero(TrainerCallback):
            def on_step_begin(self, args, state, control, model, **kwargs):
                if state.global_step == 2:
                    dict(model.named_parameters())[LAYER].data.zero_()

        model = make_pruned()
        kept = masks(model)[LAYER]
        train(tmp_path, model, callbacks=[Zero()], **SETTINGS)
        assert (dict(model.named_parameters())[LAYER][kept] != 0).all()


class TestTheEnd:
    def test_of_training_checks_the_zeros_and_names_the_layer(self, tmp_path, make_pruned):
        class Meddles(TrainerCallback):
            def on_step_end(self, args, state, control, model, **kwargs):
                dict(model.named_parameters())[LAYER].data.add_(1e-3)

        with pytest.raises(RuntimeError, match=rf"^--keep_sparsity: \d+ weights .* are not, first in {LAYER}\. "):
            train(tmp_path, make_pruned(), callbacks=[Meddles()], **SETTINGS)

    @pytest.mark.parametrize("fails", [False, True])
    def test_leaves_no_hook_behind(self, tmp_path, make_pruned, fails):
        class Interrupts(TrainerCallback):
            def on_optimizer_step(self, args, state, control, **kwargs):
                if fails:
                    raise KeyboardInterrupt

        model = make_pruned()
        built = trainer(tmp_path, model, callbacks=[Interrupts()], **SETTINGS)
        try:
            built.train()
        except KeyboardInterrupt:
            assert fails
        assert not any(p._backward_hooks for p in model.parameters())

    def test_is_a_start_for_more_training(self, tmp_path, make_pruned):
        model = make_pruned()
        kept = masks(model)
        built = trainer(tmp_path, model, **SETTINGS)
        built.train()
        built.train()
        assert are_zero(model, kept)


class TestResume:
    @pytest.mark.parametrize("settings", [{}, CRAM], ids=["plain", "cram"])
    def test_bit_for_bit(self, tmp_path, make_pruned, settings):
        settings = SETTINGS | settings | {"save_strategy": "steps", "save_steps": 2}
        through, resumed = make_pruned(dropout=0.3), make_pruned(dropout=0.3)
        train(tmp_path, through, **settings)
        train(tmp_path, resumed, resume=str(tmp_path / "checkpoint-2"), **settings)
        assert same(state(resumed), state(through))

    def test_takes_the_masks_from_the_model_not_from_the_checkpoint(self, tmp_path, make_pruned):
        """A kept weight that is zero in the checkpoint goes on training, as it would have without the stop."""

        class Zero(TrainerCallback):
            def on_step_begin(self, args, state, control, model, **kwargs):
                if state.global_step == 1:
                    dict(model.named_parameters())[LAYER].data.zero_()

        settings = SETTINGS | {"save_strategy": "steps", "save_steps": 1, "learning_rate": 0.0, "max_steps": 2}
        model = make_pruned()
        kept = masks(model)[LAYER]
        train(tmp_path, model, callbacks=[Zero()], **settings)
        assert not model.get_parameter(LAYER).any()
        checkpoint = str(tmp_path / "checkpoint-2")
        _, seen = train(tmp_path, make_pruned(), resume=checkpoint, **settings | {"max_steps": 3})
        assert torch.equal(seen.gradients[0][LAYER] != 0, kept)

    def test_from_a_checkpoint_that_lost_the_zeros_is_refused(self, tmp_path, make_pruned):
        settings = SETTINGS | {"save_strategy": "steps", "save_steps": 2}
        train(tmp_path, make_pruned(), **settings | {"keep_sparsity": False})
        with pytest.raises(ValueError, match="The checkpoint to resume from was trained without these zeros"):
            train(tmp_path, make_pruned(), resume=str(tmp_path / "checkpoint-2"), **settings)


class TestTheModelGiven:
    def test_without_zeros_is_an_error(self, tmp_path, make_model):
        with pytest.raises(ValueError, match=r"^--keep_sparsity: none of the 4,096 .* Start from a pruned checkpoint"):
            trainer(tmp_path, make_model(), **SETTINGS)

    def test_with_zeros_where_nothing_is_compressible_too(self, tmp_path, make_pruned):
        with pytest.raises(ValueError, match="none of the 32 compressible weights"):
            trainer(tmp_path, make_pruned(), compress_include=["qa_outputs"], **SETTINGS)

    def test_is_told_in_one_line(self, tmp_path, make_pruned, caplog):
        caplog.set_level(logging.INFO, logger="cram_hf.keep")
        trainer(tmp_path, make_pruned(), **SETTINGS)
        assert [r.getMessage() for r in caplog.records if r.name == "cram_hf.keep"] == [
            "Keeping the zeros: 2,457 of 4,096 compressible weights (60.0%)"
        ]

    def test_by_model_init_has_its_own_zeros_in_each_training(self, tmp_path, make_pruned):
        made: list[tuple[nn.Module, dict[str, Tensor]]] = []

        def init() -> nn.Module:
            model = make_pruned(sparsity=(0.3, 0.5, 0.7)[len(made)])
            made.append((model, masks(model)))
            return model

        built = trainer(tmp_path, None, model_init=init, **SETTINGS)
        for _ in range(2):
            built.train()
            model, kept = made[-1]
            assert built.model is model
            assert same(masks(model), kept)

    def test_costs_one_byte_for_each_weight_of_a_layer_with_zeros(self, tmp_path, make_model):
        model = make_model()
        weights = compressible_weights(model)
        TopK(0.5).apply_({LAYER: weights[LAYER]})
        built = trainer(tmp_path, model, **SETTINGS)
        assert {name: mask.nbytes for name, mask in built._kept._masks.items()} == {LAYER: weights[LAYER].numel()}


@pytest.mark.distributed
@pytest.mark.timeout(600)
def test_two_ranks_make_the_update_of_one_process(tmp_path, make_pruned):
    from safetensors.torch import load_file
    from test_distributed import launch

    settings = SETTINGS | CRAM | {"max_steps": 2, "max_grad_norm": 0.5}
    launch(
        tmp_path / "two",
        "question_answering",
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        **settings,
    )
    model = make_pruned()
    _, one = train(tmp_path / "one", model, train_dataset=rows("question_answering", 8), **settings)
    for update, gradient in enumerate(one.gradients):
        ranks = [load_file(tmp_path / "two" / f"{rank}-{update}.safetensors") for rank in (0, 1)]
        assert same(ranks[0], ranks[1])
        assert distance(gradient, ranks[0]) < 1e-4
        assert all(torch.equal(ranks[0][name] != 0, gradient[name] != 0) for name in masks(model))
