"""CrAMTrainer's update equals the paper's, however the batch is cut, and without compressors it is the Trainer."""

from __future__ import annotations

import copy

import pytest
import reference
import torch
from conftest import HEADS, rows
from torch import nn
from trainer_fixtures import arguments, distance, same, state, train, trainer
from transformers import Trainer, TrainingArguments

from cram_hf import CrAMArguments, CrAMTrainer, compressible_weights

MULTI = ["topk:0.5", "topk:0.7:layer", "nm:2:4"]


class TestIsThePlainTrainer:
    @pytest.mark.parametrize("head", HEADS)
    def test_bit_for_bit_without_compressors(self, tmp_path, make_model, head):
        plain, ours = make_model(head, dropout=0.2), make_model(head, dropout=0.2)
        settings = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4, "max_grad_norm": 0.5}
        plain_args = TrainingArguments(
            **{
                k: v
                for k, v in arguments(tmp_path, **settings).to_dict().items()
                if k in vars(TrainingArguments(str(tmp_path)))
            }
            | {"label_names": None}
        )
        reference_trainer = Trainer(model=plain, args=plain_args, train_dataset=rows(head, 32))
        reference_trainer.train()
        built, _ = train(tmp_path, ours, head, **settings)
        assert same(state(ours), state(plain))
        assert [log["loss"] for log in built.state.log_history if "loss" in log] == [
            log["loss"] for log in reference_trainer.state.log_history if "loss" in log
        ]

    def test_bit_for_bit_with_the_identity_compressor_and_no_ascent(self, tmp_path, make_model):
        plain, ours = make_model(dropout=0.2), make_model(dropout=0.2)
        settings = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}
        train(tmp_path, plain, **settings)
        train(tmp_path, ours, compressors=["topk:0"], rho=0.0, plus=False, **settings)
        assert same(state(ours), state(plain))

    def test_needs_its_own_arguments(self, tmp_path, qa_model):
        with pytest.raises(TypeError, match="takes CrAMArguments"):
            CrAMTrainer(model=qa_model, args=TrainingArguments(output_dir=str(tmp_path)))


class TestUpdateEqualsTheReference:
    @pytest.mark.parametrize("plus", [True, False])
    @pytest.mark.parametrize("masked", [True, False])
    @pytest.mark.parametrize("head", HEADS)
    def test_on_every_head(self, tmp_path, make_model, head, plus, masked):
        model, oracle = make_model(head), make_model(head)
        examples = rows(head, 8)
        _, seen = train(
            tmp_path,
            model,
            head,
            train_dataset=examples,
            max_steps=1,
            compressors=["topk:0.7"],
            plus=plus,
            masked=masked,
        )
        weights = compressible_weights(oracle)
        count = int(0.7 * sum(w.numel() for w in weights.values()))
        batch = {key: torch.stack([torch.as_tensor(row[key]) for row in examples]) for key in examples[0]}
        expected = reference.cram_gradient(
            oracle, batch, list(weights), lambda w: reference.top_k(w, count), rho=0.1, plus=plus, masked=masked
        )
        assert distance(expected, seen.gradients[0]) < 1e-5

    @pytest.mark.parametrize("compressor", ["topk:0.7", "nm:2:4", "quantize:4", "nm:2:4+quantize:8"])
    @pytest.mark.parametrize("head", HEADS)
    def test_8x1_is_2x4_is_4_2_2(self, tmp_path, make_model, head, compressor):
        """The masked-LM rows have unequal label counts, so that a mean of means would differ."""
        settings = {"compressors": [compressor], "max_steps": 1, "train_dataset": rows(head, 8)}
        cuts = {8: 1, 2: 4, 1: 8}
        gradients = [
            train(
                tmp_path,
                make_model(head),
                head,
                per_device_train_batch_size=b,
                gradient_accumulation_steps=k,
                **settings,
            )[1]
            for b, k in cuts.items()
        ]
        for other in gradients[1:]:
            assert distance(gradients[0].gradients[0], other.gradients[0]) < 1e-5

    @pytest.mark.parametrize("head", HEADS)
    def test_exact_loss_makes_the_cuts_equal_without_compressors_too(self, tmp_path, make_model, head, monkeypatch):
        monkeypatch.setattr(CrAMTrainer, "exact_loss", True)
        gradients = []
        for batch, steps in {8: 1, 2: 4}.items():
            cut = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps, "max_steps": 1}
            gradients.append(train(tmp_path, make_model(head), head, train_dataset=rows(head, 8), **cut)[1].gradients)
        assert distance(gradients[0][0], gradients[1][0]) < 1e-5

    @pytest.mark.parametrize("head", HEADS)
    def test_short_last_window_counts_every_micro_batch_alike(self, tmp_path, make_model, head):
        """Ten examples in windows of 2 x 4: the second update has one micro-batch of two."""
        examples = rows(head, 10)
        settings = {"compressors": ["topk:0.7"], "train_dataset": examples, "max_steps": 2, "learning_rate": 0.0}
        settings |= {"train_sampling_strategy": "sequential"}
        cut = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
        _, whole = train(tmp_path, make_model(head), head, **settings)
        _, pieces = train(tmp_path, make_model(head), head, **settings, **cut)
        for a, b in zip(whole.gradients, pieces.gradients, strict=True):
            assert distance(a, b) < 1e-5

    def test_label_smoothing_does_not_change_with_the_cut(self, tmp_path, make_model):
        settings = {"compressors": ["topk:0.7"], "max_steps": 1, "label_smoothing_factor": 0.1}
        head = "sequence_classification"
        settings["train_dataset"] = rows(head, 8)
        _, whole = train(tmp_path, make_model(head), head, **settings)
        _, cut = train(
            tmp_path, make_model(head), head, per_device_train_batch_size=2, gradient_accumulation_steps=4, **settings
        )
        assert distance(whole.gradients[0], cut.gradients[0]) < 1e-5

    def test_a_first_batch_that_cannot_tell_does_not_decide_for_the_run(self, tmp_path, make_model):
        """Without any label the loss of the masked-LM head is NaN, which equals nothing, itself included."""
        head = "masked_lm"
        built = trainer(tmp_path, make_model(head), head, compressors=["topk:0.5"])
        examples = rows(head, 2)
        batch = {key: torch.stack([row[key] for row in examples]) for key in examples[0]}
        unlabelled = batch | {"labels": torch.full_like(batch["labels"], -100)}
        assert built._loss_ignores(torch.tensor(3), unlabelled) is None
        assert built._loss_ignores(torch.tensor(3), batch) is True

    def test_a_head_that_divides_by_the_item_count_itself_is_left_alone(self, tmp_path, make_model):
        def loss_sum_over_count(outputs, labels, num_items_in_batch=None):
            losses = nn.functional.cross_entropy(outputs.logits, labels, reduction="sum")
            return losses / (labels.numel() if num_items_in_batch is None else num_items_in_batch)

        head = "sequence_classification"
        settings = {"compressors": ["topk:0.7"], "max_steps": 1, "train_dataset": rows(head, 8)}
        _, mean = train(tmp_path, make_model(head), head, **settings)
        _, total = train(
            tmp_path,
            make_model(head),
            head,
            compute_loss_func=loss_sum_over_count,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=4,
            **settings,
        )
        assert distance(mean.gradients[0], total.gradients[0]) < 1e-5


class TestWhatAnUpdateLeaves:
    def test_the_dense_weights_wait_for_the_optimizer(self, tmp_path, make_model):
        model = make_model()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        pointers = {name: p.data_ptr() for name, p in model.named_parameters()}
        _, seen = train(tmp_path, model, compressors=["topk:0.9"], max_steps=1)
        assert same(seen.weights[0], before)
        assert {name: p.data_ptr() for name, p in model.named_parameters()} == pointers
        assert all(not p._backward_hooks for p in model.parameters())

    def test_the_dense_weights_when_the_compressed_pass_raises(self, tmp_path, make_model):
        model = make_model()
        before, calls = state(model), []

        def fails_the_second_time(module, inputs, kwargs):
            calls.append(1)
            if len(calls) == 2:
                raise RuntimeError("no memory")

        model.register_forward_pre_hook(fails_the_second_time, with_kwargs=True)
        with pytest.raises(RuntimeError, match="no memory"):
            train(tmp_path, model, compressors=["topk:0.9"])
        assert same(state(model), before)

    def test_the_returned_loss_is_the_dense_one(self, tmp_path, make_model):
        dense, _ = train(tmp_path, make_model(), learning_rate=0.0)
        ours, _ = train(tmp_path, make_model(), learning_rate=0.0, compressors=["topk:0.9"])
        first, second = ([log["loss"] for log in t.state.log_history if "loss" in log] for t in (dense, ours))
        assert first == second

    def test_flops_are_doubled(self, tmp_path, make_model):
        dense, _ = train(tmp_path, make_model())
        ours, _ = train(tmp_path, make_model(), compressors=["topk:0.9"])
        assert ours.state.total_flos == 2 * dense.state.total_flos > 0

    def test_each_update_draws_anew_and_the_window_shares_the_draw(self, tmp_path, make_model):
        cut = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
        built, _ = train(tmp_path, make_model(), compressors=MULTI, max_steps=12, **cut)
        logs = [log for log in built.state.log_history if "loss" in log]
        assert all(sum(value for key, value in log.items() if key.startswith("drawn_")) == 1 for log in logs)
        assert {key for log in logs for key in log if key.startswith("drawn_")} == {
            "drawn_topk_0.5",
            "drawn_topk_0.7_layer",
            "drawn_nm_2_4",
        }

    def test_same_dropout_replays_the_masks_of_each_micro_batch(self, tmp_path, make_model):
        """With the identity and no ascent the compressed loss is the dense one exactly if the masks are the same."""
        settings = {"compressors": ["topk:0"], "rho": 0.0, "gradient_accumulation_steps": 2}
        for same_dropout in (True, False):
            built, _ = train(tmp_path, make_model(dropout=0.5), same_dropout=same_dropout, **settings)
            logs = [log for log in built.state.log_history if "loss" in log]
            assert all((abs(log["loss"] - log["loss_compressed"]) < 1e-6) == same_dropout for log in logs)

    def test_a_gradient_that_is_not_finite_moves_nothing_and_is_counted(self, tmp_path, make_model):
        model = make_model()
        calls = []

        def spoil_the_first(grad):
            calls.append(1)
            return grad * float("inf") if len(calls) == 1 else grad

        model.qa_outputs.bias.register_hook(spoil_the_first)
        built, seen = train(tmp_path, model, compressors=["topk:0.5"], max_steps=1)
        log = next(log for log in built.state.log_history if "loss" in log)
        assert log["skipped_perturbations"] == 1
        assert "relative_step" not in log
        assert not torch.isfinite(seen.gradients[0]["qa_outputs.bias"]).all()


class TestArgumentsReachTheUpdate:
    @pytest.mark.parametrize(
        "change",
        [
            {"rho": 0.5},
            {"plus": False},
            {"masked": False},
            {"perturb": "compressible"},
            {"normalize_grad": True},
            {"compress_exclude": ["query"]},
            {"compress_include": ["intermediate"]},
            {"compressors": ["nm:2:4"]},
        ],
        ids=str,
    )
    def test_each_changes_the_gradient(self, tmp_path, make_model, change):
        settings = {"compressors": ["topk:0.7"], "max_steps": 1}
        _, usual = train(tmp_path, make_model(), **settings)
        _, changed = train(tmp_path, make_model(), **settings | change)
        assert distance(usual.gradients[0], changed.gradients[0]) > 1e-4

    def test_compressor_weights_reach_the_draw(self, tmp_path, make_model):
        built, _ = train(
            tmp_path, make_model(), compressors=["topk:0.5", "nm:2:4"], compressor_weights=[0, 1], max_steps=6
        )
        logs = [log for log in built.state.log_history if "loss" in log]
        assert all(log["drawn_nm_2_4"] == 1 for log in logs)

    def test_arguments_survive_a_copy(self, tmp_path):
        args = arguments(tmp_path, compressors=MULTI)
        assert isinstance(copy.deepcopy(args), CrAMArguments)
        assert args.to_dict()["compressors"] == MULTI

    @pytest.mark.parametrize("field", ["compressors", "eval_compressors"])
    def test_what_cannot_work_is_refused_before_training(self, tmp_path, qa_model, field):
        with pytest.raises(ValueError, match="matches no weight"):
            trainer(tmp_path, qa_model, compress_exclude=["quary"], **{field: ["topk:0.5"]})
        with pytest.raises(ValueError, match="multiple of 7"):
            trainer(tmp_path, qa_model, **{field: ["nm:2:7"]})

    def test_a_step_outside_of_train_works(self, tmp_path, make_model):
        built = trainer(tmp_path, make_model(), compressors=["topk:0.5"])
        examples = rows("question_answering", 4)
        batch = {key: torch.stack([torch.as_tensor(row[key]) for row in examples]) for key in examples[0]}
        built.optimizer = torch.optim.SGD(built.model.parameters(), lr=0.0)
        built.current_gradient_accumulation_steps = 1
        losses = [built.training_step(built.model, batch) for _ in range(2)]
        assert losses[0] == losses[1]
