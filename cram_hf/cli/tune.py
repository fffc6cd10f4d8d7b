"""`cram-hf tune`: a short training, with labels, of what pruning left whole in the blocks; every zero stays."""

from __future__ import annotations

import argparse
import io
import math
import shutil
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import TrainingArguments

from ..card_bare import TUNING
from ..compressors import TopK
from ..export import appearing, check_free, export
from ..oneshot import tune_
from ..oneshot.tune import small_parameters
from ..provenance import command_line, environment
from ..results import write_json
from ..sparsity import measure
from ..table import percent
from ..tasks.base import Task, TaskData
from .evaluating import as_trained, fitting, gpu_of, task_of
from .models import weights_of
from .prune import RECORD as PRUNING
from .prune import tuned_before

POOL = 10  # of a training set so many times the rows that the steps use are read, as `choose` does for its layers


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the tuned model, whole or not at all, and returns what was trained, on what, and how sparse it is.

    The folder also gets `tuning.json`, which is what is returned, and the `pruning.json` of the model where it is a
    local folder with one, unchanged. A `tuning.json` of the model goes into the new one, as `before`.

    Raises:
        FileExistsError: `--out` exists and is not an empty folder.
        ValueError: flags are out of range or contradict each other, the model or the data do not fit, or the training
            diverged.
        OSError: a file cannot be read or written.
    """
    task, task_args = _checked(args)
    check_free(args.out)
    began = time.perf_counter()
    settings = _settings(args)
    rows = args.max_steps * settings.train_batch_size
    model, tokenizer, data = fitting(
        args.model, args, task, replace(task_args, max_train_samples=POOL * rows), settings
    )
    weights = weights_of(model, args)
    trained = sum(p.numel() for p in small_parameters(model, weights).values())
    before = measure(model, weights)
    loss = _tune(model, weights, data, settings)
    with appearing(Path(args.out)) as folder:
        after = export(model, tokenizer, TopK(0), folder, weights=weights).sparsity
        assert isinstance(data.train, Dataset)
        result = {
            "model": args.model,
            "out": args.out,
            "task": data.task,
            "labels": True,
            "before": tuned_before(Path(args.model)),
            "steps": args.max_steps,
            "learning_rate": args.learning_rate,
            "batch_size": settings.train_batch_size,
            "seed": args.seed,
            "rows": min(rows, len(data.train)),
            "data": data.report["train"],
            "loss": loss,
            "parameters": sum(p.numel() for p in model.parameters()),
            "trained_parameters": trained,
            "compressible_parameters": sum(w.numel() for w in weights.values()),
            "sparsity_before": before.compressible,
            "sparsity": after.compressible,
            "model_sparsity": after.model,
            "seconds": round(time.perf_counter() - began, 1),
            "command": command_line(sys.argv),
            **environment(threads=torch.get_num_threads(), gpu=gpu_of(settings)),
        }
        write_json(folder / TUNING, result)
        if (record := Path(args.model) / PRUNING).exists():
            shutil.copyfile(record, folder / PRUNING)
    return result


def text(result: dict[str, Any]) -> str:
    """Returns a few lines: the sparsity, what was trained and on what, and what a score of it is not."""
    weights = f"{result['compressible_parameters']:,} compressible weights"
    zeros = f"{percent(result['sparsity'])} of {weights} are zero, as before."
    if not result["sparsity"]:
        zeros = f"none of {weights} is zero, so the model that was tuned is not a pruned one."
    trained = f"{result['trained_parameters']:,} of {result['parameters']:,} parameters, biases and scales"
    steps = f"{result['steps']} steps of {result['batch_size']} rows of {result['task']}"
    return "\n".join(
        [
            f"{result['out']}: {zeros}",
            f"{trained}, were trained: {steps}, {result['rows']:,} different ones, "
            f"mean loss {result['loss']:.4g}; {result['seconds']} s.",
            "Labels were used for that, so a score of this model is no one-shot score: report it apart.",
        ]
    )


def _checked(args: argparse.Namespace) -> tuple[Task, Any]:
    """Returns the task and its arguments. Raises `ValueError` with all problems of the flags."""
    problems = [
        f"--{name} {getattr(args, name)}: a whole number from 1 on."
        for name in ("max_steps", "per_device_train_batch_size")
        if getattr(args, name) < 1
    ]
    if not (math.isfinite(args.learning_rate) and args.learning_rate > 0):
        problems.append(f"--learning_rate {args.learning_rate}: a number above 0. Type e.g. --learning_rate 0.001.")
    try:
        task, words = task_of(args)
        task_args = as_trained(args.model, task, words)
        if not any(getattr(task_args, flag, None) for flag in ("train_file", "dataset_name", "glue_dir")):
            problems.append(
                "There is nothing to train on. Add --train_file FILE, --dataset_name NAME or --glue_dir FOLDER."
            )
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return task, task_args


def _settings(args: argparse.Namespace) -> TrainingArguments:
    return TrainingArguments(
        output_dir=tempfile.gettempdir(),  # Trainer wants a folder; nothing is saved into it
        do_train=True,
        max_steps=args.max_steps,
        learning_rate=args.learning_rate,
        per_device_train_batch_size=args.per_device_train_batch_size,
        seed=args.seed,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,  # or the loss of a training that diverged would look like a number
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=not sys.stderr.isatty(),
    )


def _tune(model: nn.Module, weights: dict[str, nn.Parameter], data: TaskData, settings: TrainingArguments) -> float:
    """Tunes the model, which is on the CPU and in its own dtype again afterwards, and returns the mean training loss.

    Raises:
        ValueError: the loss, or what was trained, is no finite number.
        RuntimeError: a zero is not where it was.
    """
    zeros = {name: weight == 0 for name, weight in weights.items()}
    dtype = next(iter(weights.values())).dtype
    model.float()  # half precision would round the steps away
    with redirect_stdout(io.StringIO() if settings.disable_tqdm else sys.stderr):  # Trainer prints its last log
        sets = {"train_dataset": data.train, "data_collator": data.collator, "callbacks": list(data.callbacks)}
        loss = tune_(model, weights, args=settings, **sets)
    model.to(device="cpu", dtype=dtype)
    finite = all(bool(p.isfinite().all()) for p in small_parameters(model, weights).values())  # in half precision too
    if not (finite and math.isfinite(loss)):
        raise ValueError(
            f"the training diverged (mean loss {loss:.4g}), so nothing was written: --learning_rate "
            f"{settings.learning_rate} is too large "
            "for this model. Type a smaller one."
        )
    if moved := [name for name, weight in weights.items() if not torch.equal(weight == 0, zeros[name])]:
        raise RuntimeError(f"tune: zeros of {', '.join(moved[:5])} moved, so nothing was written")
    return loss
