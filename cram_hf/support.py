"""What CrAM cannot work with, told before any computing starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor
from transformers.training_args import OptimizerNames

if TYPE_CHECKING:
    from transformers import Trainer

INSTEAD = (
    "CrAM works in one process on a CPU or one GPU, and with one process per GPU (DDP): "
    "torchrun --nproc_per_node=N script.py"
)


def refuse_unsupported(trainer: Trainer, weights: Mapping[str, Tensor], *, training: bool = True) -> None:
    """Raises `NotImplementedError` with every reason why this trainer's set-up cannot make a CrAM update.

    CrAM moves the weights to another point and back between two backward passes of one update. That needs whole
    weights and whole gradients in this process, and an optimizer that steps only when asked. Scoring compressions
    without CrAM training (`training=False`) only needs the whole weights.
    """
    problems = _sharding(trainer) + _placement(trainer)
    if training:
        problems += _devices(trainer) + _optimizer(trainer) + _targets(weights)
    if problems:
        raise NotImplementedError("\n".join([*problems, f"What works: {INSTEAD}"]))


def _devices(trainer: Trainer) -> list[str]:
    problems = []
    if trainer.args.n_gpu > 1:
        problems.append(f"DataParallel over {trainer.args.n_gpu} GPUs of one process is not supported.")
    kind = trainer.args.device.type
    if kind not in ("cpu", "cuda"):
        problems.append(f"{kind.upper()} devices are not supported: their random numbers are not replayed.")
    return problems


def _sharding(trainer: Trainer) -> list[str]:
    problems = []
    if trainer.is_deepspeed_enabled:
        problems.append(
            "DeepSpeed (--deepspeed) is not supported: its backward pass also steps, and shards the gradients."
        )
    sharded = getattr(trainer, "is_distributed_loading_by_transformers", False)  # newer than transformers 5.0
    if trainer.is_fsdp_enabled or sharded:
        problems.append("FSDP and weights sharded while loading are not supported: no process holds a whole gradient.")
    sizes = getattr(trainer.accelerator, "parallelism_config", None)  # newer than accelerate 1.1
    if sizes is not None:
        kinds = {"tensor": sizes.tp_size, "context": sizes.cp_size, "sequence": sizes.sp_size}
        problems += [f"{kind} parallelism (size {size}) is not supported." for kind, size in kinds.items() if size > 1]
    return problems


def _optimizer(trainer: Trainer) -> list[str]:
    passed = trainer.optimizer_cls_and_kwargs[0] if trainer.optimizer_cls_and_kwargs else type(trainer.optimizer)
    names = [f"--optim {OptimizerNames(trainer.args.optim).value}", getattr(passed, "__name__", str(passed))]
    return [
        f"{name} updates weights inside the backward pass, so there is no gradient left to combine. "
        "Type e.g. --optim adamw_torch."
        for name in names
        if re.search("lomo|_layerwise$|LayerWiseDummyOptimizer", name, re.IGNORECASE)
    ]


def _placement(trainer: Trainer) -> list[str]:
    placement = getattr(trainer.model, "hf_device_map", None) or {}  # only models loaded with device_map have it
    away = sorted({str(device) for device in placement.values()})
    if len(away) > 1 or "disk" in away:
        return [f"The model is spread over {', '.join(away)} (device_map). Load it without device_map."]
    return []


def _targets(weights: Mapping[str, Tensor]) -> list[str]:
    problems = []
    for what, names in (
        ("frozen (requires_grad=False)", [name for name, w in weights.items() if not w.requires_grad]),
        ("quantised or not floating point", [name for name, w in weights.items() if not w.is_floating_point()]),
    ):
        if names:
            problems.append(
                f"{len(names)} of the {len(weights)} weights to compress are {what}, first {names[0]}. Unfreeze or "
                "load them in fp32, fp16 or bf16, or leave them out with --compress_exclude."
            )
    return problems
