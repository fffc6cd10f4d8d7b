"""The task that a command scores a model on, and what that takes: model, data and trainer."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from ..arguments import CrAMArguments
from ..config import Parser
from ..provenance import command_line, environment
from ..results import Results
from ..scoring import Scores, digests
from ..tasks.base import EvalSet, Task, TaskData
from ..tasks.glue import Glue
from ..tasks.glue_tasks import GLUE_TASKS
from ..tasks.mlm import MaskedLM
from ..tasks.squad import Squad
from ..trainer import CrAMTrainer
from .models import load_checkpoint

logger = logging.getLogger(__name__)

TASKS: tuple[Task, ...] = (Squad(), Glue(), MaskedLM())
# How a task reads its rows; where they come from and how many are scored is the user's to say.
READING = (
    *("max_seq_length", "doc_stride", "pad_to_max_length", "max_answer_length", "n_best_size"),
    *("version_2_with_negative", "null_score_diff_threshold", "mlm_probability", "line_by_line", "whole_word_mask"),
)
TRAINING = "train_file"  # tells labels, or is what layers are measured on: what comes of it is in the digests


def task_of(args: argparse.Namespace) -> tuple[Task, dict[str, str]]:
    """Returns the task that the flags name, and what was typed for it, flag name -> word.

    Raises:
        ValueError: there is no such task, or a flag is none of it.
    """
    words = {name: value for name, value in vars(args).items() if name in _all_flags()}
    name = args.task.lower()
    if name in GLUE_TASKS:
        name, words = "glue", {"task_name": name, **words}
    task = next((task for task in TASKS if task.name == name), None)
    if task is None:
        raise ValueError(f"--task {args.task}: there are squad, mlm, glue, and GLUE's {', '.join(GLUE_TASKS)}.")
    if foreign := [f"--{word}" for word in words if word not in _names(task)]:
        raise ValueError(f"{', '.join(foreign)}: no flag of the task {name}. --help tells whose it is.")
    return task, words


def as_trained(name: str, task: Task, words: dict[str, str]) -> Any:
    """Returns the task's arguments: what was typed, then the lengths and other `READING` of the run of the model.

    The run's are read from the `results.json` in the model's folder, where there is one. The rest are defaults.

    Raises:
        ValueError: that file is no results file, or the values do not go together.
    """
    file = Path(name) / "results.json"
    config = Results.load(file).config if file.exists() else {}
    defaults = {field.name: field.default for field in fields(task.Arguments)}
    known = {flag: config[flag] for flag in READING if flag in config and flag in defaults and flag not in words}
    taken = {flag: str(value) for flag, value in known.items() if value != defaults[flag]}
    if taken:
        told = " ".join(f"--{flag} {value}" for flag, value in taken.items())
        logger.warning("As in %s: %s. Type others to change them.", file, told)
    chosen = [f"--{flag}={value}" for flag, value in (words | taken).items()]
    return Parser((task.Arguments,), "").parse(chosen)[0]


def _all_flags() -> set[str]:
    return {name for task in TASKS for name in _names(task)}


@dataclass(frozen=True)
class Ready:
    """A model and the sets it is scored on.

    Args:
        name (`str`): the model as it was typed.
        args (`argparse.Namespace`): the command's flags.
        task_args (`Any`): the task's own.
        trainer (`CrAMTrainer`): evaluates the model.
        data (`TaskData`): made with the model's own tokenizer.
        evaluation, sample (`EvalSet`): the whole set and a fixed part of it, the same object where no part was asked
            for or the set is no larger.
    """

    name: str
    args: argparse.Namespace
    task_args: Any
    trainer: CrAMTrainer
    data: TaskData
    evaluation: EvalSet
    sample: EvalSet


def prepare(name: str, args: argparse.Namespace, task: Task, task_args: Any, sample: int | None = None) -> Ready:
    """Returns what evaluates the model `name` on the data of `task_args`, which `as_trained` gives.

    Args:
        sample (`int`, *optional*): how many examples the sample has: those that the task draws by a hash for its
            interim evaluations, or the first rows where it draws none (masked language modelling).

    Raises:
        ValueError: the model cannot be loaded, has no tokenizer, or its head is not that of the task and the data.
        OSError: a file cannot be read.
    """
    settings = _settings(args)
    draws = sample is not None and "interim_eval_samples" in _names(task)
    asked = replace(task_args, interim_eval_samples=sample) if draws else task_args
    model, tokenizer, data = fitting(name, args, task, asked, settings)
    evaluation, part = data.evaluation, data.interim
    assert evaluation is not None
    assert part is not None
    if sample is not None and not draws and sample < evaluation.examples:
        part = task.prepare(replace(task_args, max_eval_samples=sample), tokenizer, settings).evaluation
        assert part is not None
    trainer = CrAMTrainer(
        model=model,
        args=settings,
        data_collator=data.collator,
        processing_class=tokenizer,
        preprocess_logits_for_metrics=data.preprocess_logits,
    )
    return Ready(name, args, task_args, trainer, data, evaluation, part)


def fitting(
    name: str, args: argparse.Namespace, task: Task, task_args: Any, settings: TrainingArguments
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, TaskData]:
    """Returns the model `name`, its tokenizer, and the sets that `settings` ask for, which fit the model.

    Raises: as `prepare`.
    """
    model, tokenizer = load_checkpoint(name, args.trust_remote_code)
    if tokenizer is None:
        raise ValueError(f"{name} has no tokenizer, so no data can be read for it. Save one beside the model.")
    _check_class(name, model, task)
    data = task.prepare(task_args, tokenizer, settings)
    _check_labels(name, model, data)
    if data.prepare_model:
        data.prepare_model(model)
    return model, tokenizer, data


def calibration(ready: Ready, task: Task, count: int) -> tuple[EvalSet, str]:
    """Returns `count` examples to measure layers on, and where they are from: the training file if the flags name one.

    Of a training file only the first `10 * count` are read, of an evaluation set all, and the sample is drawn from
    them as in `prepare`.
    """
    flags = ready.task_args
    changes: dict[str, Any] = {}
    if flags.train_file and flags.validation_file:
        changes = {"validation_file": flags.train_file, "max_eval_samples": 10 * count}
    changes |= {"interim_eval_samples" if "interim_eval_samples" in _names(task) else "max_eval_samples": count}
    tokenizer: Any = ready.trainer.processing_class
    data = task.prepare(replace(flags, **changes), tokenizer, ready.trainer.args)
    assert data.interim is not None
    return data.interim, data.report["evaluation"]["source"]


def scores_of(ready: Ready, sets: EvalSet, path: Path | None, **facts: Any) -> Scores:
    """Returns the scores of a set, kept in the results file `path` if one is given.

    Args:
        facts: fields of `Results` that differ, such as `label`; `config` is added to.

    Raises:
        ValueError: the file is of another model, task or set of data.
    """
    args, trainer, data = ready.args, ready.trainer, ready.data
    given = {f.name: getattr(ready.task_args, f.name) for f in fields(ready.task_args) if f.name != TRAINING}
    config = {f.name: given[f.name] for f in fields(ready.task_args) if given.get(f.name, f.default) != f.default}
    config |= {flag: value for flag in ("compress_include", "compress_exclude") if (value := getattr(args, flag))}
    known = {
        "task": data.task,
        "label": label_of(ready.name),
        "model": ready.name,
        "model_parameters": sum(p.numel() for p in trainer.model.parameters()),
        "compressible_parameters": sum(w.numel() for w in trainer.compressible.values()),
        "command": command_line(sys.argv),
        "seed": args.seed,
        "data": {part: report for part, report in data.report.items() if part != "interim"},
        "training": None,
        "main_metric": data.main_metric,
        **environment(threads=torch.get_num_threads(), gpu=gpu_of(trainer.args)),
        **facts,
        "config": config | facts.get("config", {}) | digests(trainer, sets),
    }
    return Scores(trainer, sets, known, path)


def label_of(name: str) -> str:
    """Returns what a model is called in tables and pictures: the last part of its folder or of its name on the Hub."""
    return Path(name).name or Path(name).resolve().name


def gpu_of(settings: TrainingArguments) -> str | None:
    """Returns the name of the GPU that a trainer runs on, `None` on a CPU."""
    return torch.cuda.get_device_name(settings.device) if settings.device.type == "cuda" else None


def _settings(args: argparse.Namespace) -> CrAMArguments:
    if args.per_device_eval_batch_size < 1:
        raise ValueError(f"--per_device_eval_batch_size {args.per_device_eval_batch_size}: a whole number from 1 on.")
    return CrAMArguments(
        output_dir=tempfile.gettempdir(),  # Trainer wants a folder; an evaluation writes nothing into it
        do_eval=True,
        per_device_eval_batch_size=args.per_device_eval_batch_size,
        seed=args.seed,
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
        compress_include=args.compress_include,
        compress_exclude=args.compress_exclude,
    )


def _names(task: Task) -> set[str]:
    return {field.name for field in fields(task.Arguments)}


def _check_class(name: str, model: PreTrainedModel, task: Task) -> None:
    """Raises `ValueError` unless the model has the head of the task: others would be scored with random numbers."""
    try:
        with torch.device("meta"):
            wanted = type(task.auto_class.from_config(model.config))
    except ValueError as error:
        raise ValueError(f"{name} is a {type(model).__name__}, which has no head for {task.name}: {error}") from None
    if not isinstance(model, wanted):
        raise ValueError(
            f"{name} is a {type(model).__name__}, but the task {task.name} needs a {wanted.__name__}. Give a model "
            "that was trained on it, or another --task."
        )


def _check_labels(name: str, model: PreTrainedModel, data: TaskData) -> None:
    """Raises `ValueError` if the model's classes are not those of the data, or in another order."""
    own, wanted = model.config.label2id or {}, data.model_config.get("label2id", {})
    count = data.model_config.get("num_labels", model.config.num_labels)
    if count != model.config.num_labels or (set(own) == set(wanted) and own != wanted):
        raise ValueError(
            f"{name} tells {', '.join(sorted(own, key=own.__getitem__))} apart, in this order; the data have "
            f"{', '.join(wanted) or 'scores'}. Its scores would be wrong: give the data that it was trained on, with "
            "--train_file too if they are your own."
        )
