"""What Trainer offers goes on working with CrAM: optimizers, checkpoints, resume, evaluation, logs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import rows
from torch import Tensor, nn
from trainer_fixtures import Gradients, distance, same, state, train, trainer
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
from transformers.trainer_utils import EvalPrediction

from cram_hf import CrAMArguments, CrAMTrainer, TopK, compressed

MULTI = ["topk:0.5", "topk:0.8", "nm:2:4"]

# newer and older versions of transformers call it differently
CHECKPOINTING = next(f for f in ("activation_checkpointing", "gradient_checkpointing") if hasattr(CrAMArguments, f))


def score(prediction: EvalPrediction) -> dict[str, float]:
    """A score that differs with every compression: the mean of the start logits' maxima."""
    return {"peak": float(np.max(prediction.predictions[0], axis=-1).mean())}


class TestTrainsWith:
    @pytest.mark.parametrize(
        "change",
        [
            {"bf16": True},
            {"optim": "adamw_torch_fused"},
            {"optim": "adafactor"},
            {"optim": "sgd"},
            {"optim": "rmsprop"},
            {"optim": "adagrad"},
            {"lr_scheduler_type": "cosine", "warmup_steps": 1},
            {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 1},
            {"neftune_noise_alpha": 5.0},
            {"max_grad_norm": 0.1},
            {"train_sampling_strategy": "group_by_length"},
        ],
        ids=str,
    )
    def test(self, tmp_path, make_model, change):
        model = make_model()
        before = state(model)
        built, _ = train(tmp_path, model, compressors=MULTI, **change)
        losses = [log["loss_compressed"] for log in built.state.log_history if "loss" in log]
        assert len(losses) == 3
        assert all(math.isfinite(loss) for loss in losses)
        assert not same(state(model), before)

    @pytest.mark.parametrize("same_dropout", [True, False])
    def test_neftune_noise_in_both_passes_which_is_replayed_like_dropout(self, tmp_path, make_model, same_dropout):
        def run(**noise: float) -> tuple[Trainer, list[Tensor]]:
            model, embedded = make_model(), []
            model.bert.embeddings.LayerNorm.register_forward_pre_hook(lambda _, x: embedded.append(x[0].detach()))
            settings = {"compressors": ["topk:0"], "rho": 0.0, "max_steps": 1, "same_dropout": same_dropout}
            return train(tmp_path, model, **settings, **noise)[0], embedded

        (plain, clean), (noisy, embedded) = run(), run(neftune_noise_alpha=2.0)
        dense, compressed_pass = (x - clean[0] for x in embedded)
        bound = 2.0 / (8 * 16) ** 0.5  # alpha over the root of the numbers of a row: 8 tokens of width 16
        assert all(0.9 * bound < noise.abs().max() <= 1.001 * bound for noise in (dense, compressed_pass))
        assert torch.equal(dense, compressed_pass) == same_dropout
        without, log = (next(log for log in t.state.log_history if "loss" in log) for t in (plain, noisy))
        assert abs(log["loss"] - without["loss"]) > 1e-3
        assert (log["loss"] == log["loss_compressed"]) == same_dropout

    def test_clipping_acts_on_the_combined_gradient(self, tmp_path, make_model):
        _, free = train(tmp_path, make_model(), compressors=["topk:0.7"], max_steps=1)
        _, clipped = train(tmp_path, make_model(), compressors=["topk:0.7"], max_steps=1, max_grad_norm=0.1)
        norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in free.gradients[0].values()]))
        expected = {name: g * 0.1 / norm for name, g in free.gradients[0].items()}
        assert distance(expected, clipped.gradients[0]) < 1e-4

    def test_activation_checkpointing_which_recomputes_in_both_passes_and_gets_the_same_gradient(
        self, tmp_path, make_model
    ):
        def run(**change: bool) -> tuple[dict[str, Tensor], int]:
            model, calls = make_model(dropout=0.3), []
            model.bert.encoder.layer[1].output.dense.register_forward_pre_hook(lambda *_: calls.append(1))
            _, seen = train(tmp_path, model, compressors=["topk:0.7"], max_steps=1, **change)
            return seen.gradients[0], len(calls)

        (usual, calls), (checkpointed, calls_with_recomputing) = run(), run(**{CHECKPOINTING: True})
        assert (calls, calls_with_recomputing) == (2, 4)
        assert distance(usual, checkpointed) < 1e-6

    def test_an_optimizer_and_a_schedule_that_are_passed_to_it(self, tmp_path, make_model):
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: 1 / (update + 1))
        _, seen = train(tmp_path, model, compressors=MULTI, optimizers=(optimizer, schedule))
        self.check_sgd(model, seen, [0.5, 0.5 / 2, 0.5 / 3])

    def test_an_optimizer_class_with_its_arguments(self, tmp_path, make_model):
        model, passed = make_model(), (torch.optim.SGD, {"lr": 0.5})
        _, seen = train(
            tmp_path, model, compressors=MULTI, optimizer_cls_and_kwargs=passed, lr_scheduler_type="constant"
        )
        self.check_sgd(model, seen, [0.5, 0.5, 0.5])

    def check_sgd(self, model: nn.Module, seen: Gradients, rates: list[float]) -> None:
        """Each update went from the dense weights along the combined gradient, at its rate."""
        ends = [*seen.weights[1:], dict(model.named_parameters())]
        for start, gradient, end, rate in zip(seen.weights, seen.gradients, ends, rates, strict=True):
            assert max(float(g.abs().max()) for g in gradient.values()) > 0.01
            for name, g in gradient.items():
                torch.testing.assert_close(end[name].detach(), start[name] - rate * g, rtol=1e-6, atol=1e-7)

    @pytest.mark.slow
    @pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
    def test_torch_compile_and_gets_the_same_gradients(self, tmp_path, make_model, backend):
        settings = {"compressors": MULTI}
        _, eager = train(tmp_path, make_model(), **settings)
        _, fast = train(tmp_path, make_model(), torch_compile=True, torch_compile_backend=backend, **settings)
        for a, b in zip(eager.gradients, fast.gradients, strict=True):
            assert distance(a, b) < 1e-4

    def test_auto_find_batch_size_after_an_error_in_the_compressed_pass(self, tmp_path, make_model):
        model = make_model()
        before, sizes = state(model), []

        def out_of_memory_above_4(module, args, kwargs):
            sizes.append(len(kwargs["input_ids"]))
            if len(sizes) == 2:
                raise RuntimeError("CUDA out of memory. Tried to allocate")
            if len(sizes) == 3:
                assert same(state(model), before)

        model.register_forward_pre_hook(out_of_memory_above_4, with_kwargs=True)
        built, _ = train(tmp_path, model, compressors=["topk:0.9"], auto_find_batch_size=True)
        assert sizes[0] == 8
        assert sizes[-1] < 8
        assert built.state.global_step == 3

    def test_hyperparameter_search(self, tmp_path, make_model):
        pytest.importorskip("optuna", reason='optuna is not installed: pip install "cram-hf[dev]"')
        seen = []

        class Watching(CrAMTrainer):
            def _compressed_window(self, model, *args, **kwargs):
                seen.append((self.args.rho, self.compressible["bert.encoder.layer.0.output.dense.weight"]))
                assert any(p is seen[-1][1] for p in self.model.parameters())
                return super()._compressed_window(model, *args, **kwargs)

        search = trainer(
            tmp_path,
            None,
            cls=Watching,
            model_init=lambda trial=None: make_model(),
            eval_dataset=rows("question_answering", 8),
            compressors=["topk:0.7"],
            eval_compressors=["topk:0.7"],
            max_steps=1,
        )
        best = search.hyperparameter_search(
            hp_space=lambda trial: {"rho": trial.suggest_categorical("rho", [0.0, 0.2])},
            compute_objective=lambda metrics: metrics["eval_topk_0.7_loss"],
            n_trials=3,
            backend="optuna",
        )
        assert {rho for rho, _ in seen} <= {0.0, 0.2}
        assert len({id(weight) for _, weight in seen}) == 3
        assert math.isfinite(best.objective)


class StopAt(TrainerCallback):
    """Ends the process's training abruptly before an update, as a kill would."""

    def __init__(self, update: int) -> None:
        self.update = update

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.update:
            raise KeyboardInterrupt


class TestResume:
    @pytest.mark.parametrize("killed_before", [1, 2, 3, 4, 5])
    def test_after_a_kill_gives_the_uninterrupted_weights_bit_for_bit(self, tmp_path, make_model, killed_before):
        settings = {
            "compressors": MULTI,
            "max_steps": 6,
            "save_strategy": "steps",
            "save_steps": 1,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "max_grad_norm": 1.0,
            "lr_scheduler_type": "cosine",
        }
        uninterrupted, resumed = make_model(dropout=0.3), make_model(dropout=0.3)
        train(tmp_path / "a", uninterrupted, **settings)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "b", resumed, callbacks=[StopAt(killed_before)], **settings)
        fresh = make_model(dropout=0.3)
        train(tmp_path / "b", fresh, resume=str(tmp_path / "b" / f"checkpoint-{killed_before}"), **settings)
        assert same(state(fresh), state(uninterrupted))

    @pytest.mark.parametrize("compressors", [MULTI, []])
    def test_from_the_last_update_of_an_unfinished_epoch_makes_no_further_one(self, tmp_path, make_model, compressors):
        settings = {"compressors": compressors, "lr_scheduler_type": "constant", "save_strategy": "steps"}
        finished, again = make_model(), make_model()
        train(tmp_path, finished, **settings)  # 3 of the 4 updates of an epoch
        made, _ = train(tmp_path, again, resume=str(tmp_path / "checkpoint-3"), **settings)
        assert made.state.global_step == 3
        assert same(state(again), state(finished))

    def test_checkpoints_hold_what_the_plain_trainer_saves(self, tmp_path, make_model):
        settings = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}
        train(tmp_path / "plain", make_model(), **settings)
        train(tmp_path / "cram", make_model(), compressors=["topk:0.7"], **settings)
        plain, ours = (
            {p.name: p.stat().st_size for p in (tmp_path / name / "checkpoint-1").iterdir()}
            for name in ("plain", "cram")
        )
        assert plain.keys() == ours.keys()
        for name in plain:
            assert abs(ours[name] - plain[name]) < 2048, (
                name
            )  # a few more log entries and arguments, no weights or masks


class TestEvaluation:
    def test_scores_each_compression_and_leaves_the_dense_weights(self, tmp_path, make_model):
        model, examples = make_model(), rows("question_answering", 16)
        before = state(model)
        built = trainer(
            tmp_path,
            model,
            eval_dataset=examples,
            compute_metrics=score,
            eval_compressors=["topk:0.8", "nm:2:4+quantize:8"],
        )
        metrics = built.evaluate()
        assert same(state(model), before)
        with compressed(built.compressible, TopK(0.8)):
            by_hand = trainer(tmp_path, model, eval_dataset=examples, compute_metrics=score).evaluate()
        assert metrics["eval_topk_0.8_peak"] == by_hand["eval_peak"]
        assert metrics["eval_topk_0.8_loss"] == by_hand["eval_loss"]
        assert len({metrics[f"eval_{key}peak"] for key in ("", "topk_0.8_", "nm_2_4+quantize_8_")}) == 3

    def test_prediction_stays_dense(self, tmp_path, make_model):
        built = trainer(tmp_path, make_model(), compute_metrics=score, eval_compressors=["topk:0.8"])
        metrics = built.predict(rows("question_answering", 8)).metrics
        assert "test_peak" in metrics
        assert not any("topk" in key for key in metrics)

    def test_of_several_sets(self, tmp_path, make_model):
        sets = {"one": rows("question_answering", 8, seed=1), "two": rows("question_answering", 8, seed=2)}
        built = trainer(
            tmp_path, make_model(), eval_dataset=sets, compute_metrics=score, eval_compressors=["topk:0.8"]
        )
        metrics = built.evaluate()
        keys = {"eval_one_peak", "eval_one_topk_0.8_peak", "eval_two_peak", "eval_two_topk_0.8_peak"}
        assert keys <= metrics.keys()

    def test_keeps_the_order_of_the_set_when_training_is_grouped_by_length(self, tmp_path, make_model):
        examples = [row for n in (4, 8, 6) for row in rows("question_answering", 4, length=n)]
        built = trainer(
            tmp_path, make_model(), train_sampling_strategy="group_by_length", per_device_eval_batch_size=4
        )
        starts = built.predict(examples).label_ids[0]
        assert starts.tolist() == [row["start_positions"] for row in examples]

    def test_best_model_early_stopping_and_checkpoint_limit_by_a_compressed_metric(self, tmp_path, make_model):
        values = iter([1.0, 5.0, 2.0, 1.0, 0.5, 0.4])

        def metric(prediction: EvalPrediction) -> dict[str, float]:
            metric.calls += 1
            return {"f1": next(values) if metric.calls % 2 == 0 else 0.0}  # every second call is the compressed one

        metric.calls = 0
        built, _ = train(
            tmp_path,
            make_model(),
            eval_dataset=rows("question_answering", 8),
            compute_metrics=metric,
            callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
            compressors=["topk:0.8"],
            eval_compressors=["topk:0.8"],
            metric_for_best_model="eval_topk_0.8_f1",
            greater_is_better=True,
            load_best_model_at_end=True,
            eval_strategy="steps",
            eval_steps=1,
            save_strategy="steps",
            save_steps=1,
            save_total_limit=2,
            max_steps=6,
        )
        assert built.state.best_metric == 5.0
        assert built.state.best_model_checkpoint.endswith("checkpoint-2")
        assert built.state.global_step == 4
        assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


class TestLogs:
    def test_average_over_the_logging_window(self, tmp_path, make_model):
        each, _ = train(tmp_path, make_model(), compressors=MULTI, max_steps=8)
        window, _ = train(tmp_path, make_model(), compressors=MULTI, max_steps=8, logging_steps=8)
        singles = [log for log in each.state.log_history if "loss" in log]
        whole = next(log for log in window.state.log_history if "loss" in log)
        assert whole["loss_compressed"] == pytest.approx(
            np.mean([log["loss_compressed"] for log in singles]), rel=1e-5
        )
        assert sum(value for key, value in whole.items() if key.startswith("drawn_")) == pytest.approx(1)
        assert 0 < whole["relative_step"] < 1
        assert whole["skipped_perturbations"] == 0
        for key in ("topk_0.5", "topk_0.8", "nm_2_4"):
            own = [log[f"loss_compressed_{key}"] for log in singles if log.get(f"drawn_{key}")]
            assert whole[f"loss_compressed_{key}"] == pytest.approx(np.mean(own), rel=1e-5)

    def test_relative_step_is_rho_g_over_w(self, tmp_path, make_model):
        built, seen = train(tmp_path, make_model(), compressors=["topk:0.5"], max_steps=1, learning_rate=0.0)
        _, plain = train(tmp_path, make_model(), max_steps=1, learning_rate=0.0)
        length = {
            name: torch.linalg.vector_norm(torch.stack([t.norm() for t in tensors.values()]))
            for name, tensors in (("g", plain.gradients[0]), ("w", seen.weights[0]))
        }
        log = next(log for log in built.state.log_history if "loss" in log)
        assert log["relative_step"] == pytest.approx(float(0.1 * length["g"] / length["w"]), rel=1e-4)

    def test_reach_tensorboard(self, tmp_path, make_model, monkeypatch):
        pytest.importorskip("tensorboard", reason='tensorboard is not installed: pip install "cram-hf[dev]"')
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tb"))
        train(tmp_path, make_model(), compressors=["topk:0.5"], report_to="tensorboard")
        events = EventAccumulator(str(tmp_path / "tb")).Reload()
        tags = set(events.Tags()["scalars"])
        assert {
            f"train/{key}" for key in ("loss", "loss_compressed", "drawn_topk_0.5", "relative_step", "mask_change")
        } <= tags
        assert [event.step for event in events.Scalars("train/loss_compressed")] == [1, 2, 3]


def test_the_arguments_file_holds_no_weights(tmp_path: Path, make_model) -> None:
    built, _ = train(tmp_path, make_model(), compressors=["topk:0.5"], max_steps=1)
    built.save_model()
    assert (tmp_path / "training_args.bin").stat().st_size < 20_000
