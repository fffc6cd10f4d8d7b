"""How the trainer tests build a trainer on a tiny BERT and look at its updates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from conftest import rows
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from cram_hf import CrAMArguments, CrAMTrainer
from cram_hf.tasks.mlm_scoring import MaskedScorer, reduce_logits


class Gradients(TrainerCallback):
    """Keeps a copy of the gradients and of the weights as the optimizer finds them, one entry an update."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, Tensor]] = []
        self.weights: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        self.gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        self.weights.append({name: p.detach().clone() for name, p in model.named_parameters()})


def arguments(folder: Path, **changes: Any) -> CrAMArguments:
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "max_steps": 3,
        "learning_rate": 0.01,
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "rho": 0.1,
        "seed": 7,
        "use_cpu": True,  # the same on every machine; tests/test_devices.py goes to the GPU
    }
    return CrAMArguments(**settings | changes)


def trainer(
    folder: Path, model: nn.Module, head: str = "question_answering", cls: type[Trainer] = CrAMTrainer, **changes: Any
) -> Trainer:
    """A trainer over 32 examples of `head`; `changes` go to the arguments, those it cannot take to the trainer."""
    to_trainer = {
        key: changes.pop(key)
        for key in (
            "callbacks",
            "eval_dataset",
            "compute_metrics",
            "optimizers",
            "optimizer_cls_and_kwargs",
            "model_init",
            "compute_loss_func",
            "train_dataset",
        )
        if key in changes
    }
    to_trainer = {"train_dataset": rows(head, 32), **to_trainer}
    return cls(model=model, args=arguments(folder, **changes), **to_trainer)


def train(*args: Any, resume: str | None = None, **kwargs: Any) -> tuple[Trainer, Gradients]:
    """Trains and returns the trainer with what its updates looked like."""
    seen = Gradients()
    kwargs["callbacks"] = [*kwargs.pop("callbacks", []), seen]
    built = trainer(*args, **kwargs)
    built.train(resume_from_checkpoint=resume)
    return built, seen


def evaluate_masked(built: Trainer) -> dict[str, float]:
    """The scores of the masked-LM task on 7 rows, which 2 ranks cannot share evenly."""
    evaluation = rows("masked_lm", 7)
    masked = sum(int((row["labels"] != -100).sum()) for row in evaluation)
    built.compute_metrics, built.preprocess_logits_for_metrics = MaskedScorer(7, masked), reduce_logits
    metrics = built.evaluate(evaluation)
    return {name: metrics[f"eval_{name}"] for name in ("loss", "perplexity", "accuracy")}


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference of two gradients relative to the largest entry of the first."""
    assert a.keys() == b.keys()
    scale = max(float(value.abs().max()) for value in a.values())
    return max(float((a[name] - b[name]).abs().max()) for name in a) / scale
