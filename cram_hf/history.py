"""The results of a training in a user's own script: made from what its trainer logged, for the model card."""

from __future__ import annotations

import math
import sys
from contextlib import nullcontext
from typing import Any

import torch
from transformers.trainer_utils import has_length

from .compressors import parse_compressor
from .provenance import command_line, environment
from .results import DENSE, Results, Row
from .sparsity import measure
from .swap import compressed

TIMES = ("runtime", "_per_second", "model_preparation_time")
CONFIG = (
    *("compressors", "compressor_weights", "rho", "plus", "masked", "perturb", "normalize_grad", "same_dropout"),
    *("compress_include", "compress_exclude", "keep_sparsity"),
    *("learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps"),
)


def results_of(trainer: Any, task: str) -> Results | None:
    """Returns the last evaluation that the trainer logged, as results; `None` if it logged none with a score.

    The main metric is `metric_for_best_model` where that was scored, else the first one that is not a loss.
    The trainer's weights are compressed in turn, to measure the sparsities, and as before afterwards.

    Args:
        trainer (`CrAMTrainer`): after training.
        task (`str`): its name, e.g. `text-classification`.
    """
    scores = _last_scores(trainer)
    names = [name for name, value in scores.get(DENSE, {}).items() if name != "loss"]
    wanted = (trainer.args.metric_for_best_model or "").removeprefix("eval_")
    if not names:
        return None
    main = wanted if wanted in names else names[0]
    rows = [_row(trainer, spec, found) for spec, found in scores.items() if main in found]
    gpu = torch.cuda.get_device_name(trainer.args.device) if trainer.args.device.type == "cuda" else None
    name = trainer.model.config.name_or_path or f"{trainer.model.config.model_type} from scratch"
    return Results(
        task=task,
        label="CrAM" if trainer.args.compressors else "plain",
        model=name,
        model_parameters=sum(p.numel() for p in trainer.model.parameters()),
        compressible_parameters=sum(w.numel() for w in trainer.compressible.values()),
        command=command_line(sys.argv),
        seed=trainer.args.seed,
        config={key: value for key in CONFIG if (value := getattr(trainer.args, key)) not in (None, [])},
        data={},
        training=_training(trainer),
        main_metric=main,
        rows=tuple(rows),
        **environment(threads=torch.get_num_threads(), gpu=gpu),
    )


def _last_scores(trainer: Any) -> dict[str, dict[str, float | None]]:
    """The metrics of the last evaluation by compression, the dense one first; names without prefix."""
    logged = [entry for entry in trainer.state.log_history if any(key.startswith("eval_") for key in entry)]
    if not logged:
        return {}
    keys = {f"eval_{parse_compressor(spec).key}_": spec for spec in trainer.args.eval_compressors}
    found: dict[str, dict[str, float | None]] = {DENSE: {}, **{spec: {} for spec in keys.values()}}
    for name, value in logged[-1].items():
        if not name.startswith("eval_") or name.endswith(TIMES) or not isinstance(value, (int, float)):
            continue
        fitting = [key for key in keys if name.startswith(key)]
        key = max(fitting, key=len, default="eval_")  # eval_topk_0.5_layer_f1 starts with eval_topk_0.5_ too
        found[keys.get(key, DENSE)][name.removeprefix(key)] = value if math.isfinite(value) else None
    return found


def _row(trainer: Any, spec: str, scores: dict[str, float | None]) -> Row:
    with nullcontext() if spec == DENSE else compressed(trainer.compressible, parse_compressor(spec)):
        sparsity = measure(trainer.model, trainer.compressible)
    examples = len(trainer.eval_dataset) if has_length(trainer.eval_dataset) else 0
    return Row(spec, scores, sparsity.compressible, sparsity.model, seconds=0.0, examples=examples)


def _training(trainer: Any) -> dict[str, Any] | None:
    """What the results tell of the training, if it came to its end."""
    ends = [entry for entry in trainer.state.log_history if "train_runtime" in entry]
    if not ends:
        return None
    loss = ends[-1].get("train_loss")
    return {
        "updates": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "seconds": ends[-1]["train_runtime"],
        "loss": loss,
    }
