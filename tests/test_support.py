"""What CrAM cannot work with is refused when the trainer is built, with every reason and what works instead."""

from __future__ import annotations

import re
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn
from trainer_fixtures import arguments, trainer
from transformers.trainer_pt_utils import LayerWiseDummyOptimizer
from transformers.training_args import OptimizerNames

from cram_hf.support import refuse_unsupported

INSTEAD = "What works: CrAM works in one process on a CPU or one GPU, and with one process per GPU (DDP): torchrun"


def stand_in(**changes) -> SimpleNamespace:
    """The parts of a Trainer that are looked at, of a set-up that works."""
    args = SimpleNamespace(
        n_gpu=changes.pop("n_gpu", 1),
        optim=changes.pop("optim", OptimizerNames.ADAMW_TORCH),
        device=torch.device(changes.pop("device", "cpu")),
    )
    accelerator = SimpleNamespace(parallelism_config=changes.pop("parallelism_config", None))
    parts = {"is_deepspeed_enabled": False, "is_fsdp_enabled": False, "model": nn.Linear(4, 4)}
    parts |= {"optimizer": None, "optimizer_cls_and_kwargs": None}
    return SimpleNamespace(args=args, accelerator=accelerator, **parts | changes)


def sizes(tp: int = 1, cp: int = 1, sp: int = 1) -> SimpleNamespace:
    return SimpleNamespace(tp_size=tp, cp_size=cp, sp_size=sp)


def spread(**placement: object) -> nn.Module:
    model = nn.Linear(4, 4)
    model.hf_device_map = placement
    return model


def refusal(of: SimpleNamespace, weights: dict[str, torch.Tensor] | None = None) -> list[str]:
    """The lines of the message but the last, which always says what works."""
    with pytest.raises(NotImplementedError) as caught:
        refuse_unsupported(of, weights or {})
    *lines, last = str(caught.value).splitlines()
    assert last.startswith(INSTEAD)
    return lines


class TestEachReason:
    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"n_gpu": 2}, "DataParallel over 2 GPUs of one process is not supported."),
            ({"is_deepspeed_enabled": True}, "DeepSpeed (--deepspeed) is not supported: its backward pass also steps"),
            ({"is_fsdp_enabled": True}, "FSDP and weights sharded while loading are not supported"),
            ({"is_distributed_loading_by_transformers": True}, "FSDP and weights sharded while loading are not"),
            ({"parallelism_config": sizes(tp=2)}, "tensor parallelism (size 2) is not supported."),
            ({"parallelism_config": sizes(cp=4)}, "context parallelism (size 4) is not supported."),
            ({"parallelism_config": sizes(sp=8)}, "sequence parallelism (size 8) is not supported."),
            ({"device": "xla"}, "XLA devices are not supported: their random numbers are not replayed."),
            ({"model": spread(embeddings=0, encoder="cpu")}, "The model is spread over 0, cpu (device_map). Load it"),
            (
                {"model": spread(embeddings=0, encoder=1)},
                "The model is spread over 0, 1 (device_map). Load it without",
            ),
            ({"model": spread(all="disk")}, "The model is spread over disk (device_map). Load it without device_map."),
        ],
    )
    def test_is_told_alone(self, changes, sentence):
        (line,) = refusal(stand_in(**changes))
        assert line.startswith(sentence)

    @pytest.mark.parametrize("optim", [o for o in OptimizerNames if "lomo" in o.value or "layerwise" in o.value])
    def test_optimizers_that_step_inside_the_backward_pass_are_told(self, optim):
        (line,) = refusal(stand_in(optim=optim))
        assert line == (
            f"--optim {optim.value} updates weights inside the backward pass, so there is no gradient left to "
            "combine. Type e.g. --optim adamw_torch."
        )

    def test_frozen_and_quantised_targets_are_counted_and_the_first_is_named(self):
        weights = {
            "query": nn.Parameter(torch.ones(2, 2), requires_grad=False),
            "key": nn.Parameter(torch.ones(2, 2)),
            "value": nn.Parameter(torch.ones(2, 2), requires_grad=False),
        }
        (line,) = refusal(stand_in(), weights)
        assert line.startswith(
            "2 of the 3 weights to compress are frozen (requires_grad=False), first query. Unfreeze"
        )
        weights["value"] = nn.Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)
        frozen, quantised = refusal(stand_in(), weights)
        assert quantised.startswith("1 of the 3 weights to compress are quantised or not floating point, first value.")
        assert frozen.endswith("or leave them out with --compress_exclude.")

    def test_all_reasons_are_told_at_once(self):
        everything = stand_in(
            n_gpu=4,
            is_deepspeed_enabled=True,
            is_fsdp_enabled=True,
            parallelism_config=sizes(2, 2, 2),
            optim=OptimizerNames.LOMO,
            model=spread(a="cpu", b="disk"),
        )
        assert len(refusal(everything, {"w": nn.Parameter(torch.ones(2, 2), requires_grad=False)})) == 9


class TestWhatWorks:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"n_gpu": 0},
            {"parallelism_config": sizes()},
            {"model": spread(all=0)},
            {"model": spread(all="cpu")},
            {"optim": OptimizerNames.ADAFACTOR},
            {"optim": OptimizerNames.GALORE_ADAMW},
            {"optim": "sgd"},
        ],
    )
    def test_is_not_refused(self, changes):
        weights = {"w": nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16))}
        assert refuse_unsupported(stand_in(**changes), weights) is None

    def test_older_transformers_and_accelerate_lack_some_attributes(self):
        older = stand_in()
        del older.accelerator.parallelism_config
        assert refuse_unsupported(older, {}) is None


class TestTheTrainerRefusesWhenItIsBuilt:
    def build(self, tmp_path, model, **changes):
        def forbidden(*args, **kwargs):
            raise AssertionError("computed before the set-up was refused")

        model.register_forward_pre_hook(forbidden)
        return trainer(tmp_path, model, **{"compressors": ["topk:0.5"], **changes})

    def test_data_parallel(self, tmp_path, qa_model, monkeypatch):
        args = arguments(tmp_path, compressors=["topk:0.5"])
        args._n_gpu = 2
        monkeypatch.setattr("trainer_fixtures.arguments", lambda *_, **__: args)
        with pytest.raises(NotImplementedError, match=r"^DataParallel over 2 GPUs"):
            self.build(tmp_path, qa_model)

    @pytest.mark.parametrize("optim", ["lomo", "adalomo", "galore_adamw_layerwise"])
    def test_optimizers(self, tmp_path, qa_model, optim):
        with pytest.raises(NotImplementedError, match=f"^--optim {optim} updates weights inside the backward pass"):
            self.build(tmp_path, qa_model, optim=optim)

    @pytest.mark.parametrize("kind", [type("AdaLomo", (torch.optim.SGD,), {}), LayerWiseDummyOptimizer])
    @pytest.mark.parametrize("how", ["optimizers", "optimizer_cls_and_kwargs"])
    def test_optimizers_that_are_passed_to_it(self, tmp_path, qa_model, how, kind):
        passed = (kind, {}) if how == "optimizer_cls_and_kwargs" else (kind(qa_model.parameters()), None)
        with pytest.raises(
            NotImplementedError, match=rf"(?m)^{kind.__name__} updates weights inside the .*\nWhat work"
        ):
            self.build(tmp_path, qa_model, **{how: passed})

    @pytest.mark.parametrize("plugin", ["deepspeed_plugin", "fsdp_plugin"])
    def test_what_accelerate_was_told_to_shard_with(self, tmp_path, qa_model, monkeypatch, plugin):
        monkeypatch.setattr(AcceleratorState, plugin, MagicMock(), raising=plugin == "deepspeed_plugin")
        monkeypatch.setattr("transformers.trainer.propagate_args_to_deepspeed", lambda *_: None)  # reads its files
        word = "DeepSpeed (--deepspeed) is" if plugin == "deepspeed_plugin" else "FSDP and weights sharded while"
        with pytest.raises(NotImplementedError, match=f"^{re.escape(word)}"):
            self.build(tmp_path, qa_model)

    @pytest.mark.parametrize("kind", ["tensor", "context", "sequence"])
    def test_parallelism_inside_of_a_model(self, tmp_path, qa_model, monkeypatch, kind):
        """Names are transformers' and accelerate's own, so that a new name does not silence the refusal."""
        accelerate = pytest.importorskip("accelerate", "1.12")
        for needs_ranks in ("_validate_accelerator", "get_device_mesh"):
            monkeypatch.setattr(accelerate.ParallelismConfig, needs_ranks, lambda *_: None)
        sizes = accelerate.ParallelismConfig(**{f"{kind[0]}p_size": 2})
        with pytest.raises(NotImplementedError, match=rf"^{kind} parallelism \(size 2\) is not supported"):
            self.build(tmp_path, qa_model, parallelism_config=sizes)

    def test_quantised_targets(self, tmp_path, qa_model):
        layer = qa_model.bert.encoder.layer[0].output.dense
        layer.weight = nn.Parameter(layer.weight.detach().to(torch.int8), requires_grad=False)
        with pytest.raises(
            NotImplementedError, match=r"1 of the 12 weights .* quantised .* first bert.*layer\.0\.output\.dense"
        ):
            self.build(tmp_path, qa_model)

    def test_offloaded_models(self, tmp_path, qa_model):
        qa_model.hf_device_map = {"bert": "cpu", "qa_outputs": "disk"}
        with pytest.raises(NotImplementedError, match=re.escape("spread over cpu, disk (device_map)")):
            self.build(tmp_path, qa_model)

    def test_frozen_targets_unless_they_are_left_out(self, tmp_path, qa_model):
        for p in qa_model.bert.encoder.layer[0].parameters():
            p.requires_grad = False
        with pytest.raises(
            NotImplementedError, match=r"^6 of the 12 weights .* frozen .*layer\.0\.attention\.self\.query"
        ):
            self.build(tmp_path, qa_model)
        built = self.build(tmp_path, qa_model, compress_exclude=["layer.0"])
        assert len(built.compressible) == 6

    def test_several_reasons_in_one_message(self, tmp_path, qa_model):
        qa_model.bert.encoder.requires_grad_(False)
        with pytest.raises(NotImplementedError, match=r"(?s)--optim lomo.*12 of the 12.*frozen.*What works: "):
            self.build(tmp_path, qa_model, optim="lomo")

    def test_not_without_compressors(self, tmp_path, qa_model):
        qa_model.bert.encoder.requires_grad_(False)
        assert self.build(tmp_path, qa_model, compressors=[]).compressors == []

    def test_arguments_of_the_plain_trainer_are_a_type_error(self, tmp_path, qa_model):
        from transformers import TrainingArguments

        from cram_hf import CrAMTrainer

        with pytest.raises(TypeError, match=r"CrAMTrainer got TrainingArguments; it takes CrAMArguments"):
            CrAMTrainer(model=qa_model, args=TrainingArguments(str(tmp_path), report_to="none"))
