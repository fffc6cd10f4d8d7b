"""The flags that say on what a model is scored or tuned: the task, and its data as in the training scripts."""

from __future__ import annotations

import argparse
from dataclasses import Field, fields
from typing import Any

from cram_hf.tasks.glue_arguments import GlueArguments
from cram_hf.tasks.mlm_arguments import MlmArguments
from cram_hf.tasks.squad_arguments import SquadArguments

ARGUMENTS: dict[str, type[Any]] = {"squad": SquadArguments, "glue": GlueArguments, "mlm": MlmArguments}
# What only training reads, and the sample, which `cram-hf choose` calls --subset.
NOT_HERE = {"train_tokenizer", "vocab_size", "streaming", "shuffle_buffer_size", "interim_eval_samples", "test_file"}
NOT_HERE |= {"max_train_samples", "max_predict_samples"}


def add_task(parser: argparse.ArgumentParser) -> None:
    """Adds `--task` with the data flags, and those of the evaluation."""
    add_data(parser)
    parser.add_argument(
        "--per_device_eval_batch_size", type=int, default=32, metavar="N", help="rows at once (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=42, help="of what the data draw (default: %(default)s)")


def add_data(parser: argparse.ArgumentParser) -> None:
    """Adds `--task`, and the data flags of every task as the training scripts have them."""
    parser.add_argument(
        "--task", required=True, metavar="TASK", help="squad, mlm, glue, or one of GLUE's tasks by its name, e.g. rte"
    )
    group = parser.add_argument_group(
        "data",
        "the flags of run_squad.py, run_glue.py and run_mlm.py; lengths and the like that are not typed\n"
        "are those of the model's own run where its folder holds the results.json, else the script's",
    )
    flags: dict[str, dict[str, Field[Any]]] = {}
    for task, arguments in ARGUMENTS.items():
        for field in fields(arguments):
            flags.setdefault(field.name, {})[task] = field
    for name, by_task in flags.items():
        if name not in NOT_HERE:
            _add_flag(group, name, by_task)


def _add_flag(group: Any, name: str, by_task: dict[str, Field[Any]]) -> None:
    """Adds a flag whose word is kept as typed, for the task's own parser; nothing is kept where it is not typed."""
    boolean = next(iter(by_task.values())).type in (bool, "bool")  # the word in the source becomes the type in time
    value: dict[str, Any] = {"nargs": "?", "const": "true", "metavar": "false"} if boolean else {"metavar": "VALUE"}
    group.add_argument(f"--{name}", default=argparse.SUPPRESS, help=_help(by_task).replace("%", "%%"), **value)


def _help(by_task: dict[str, Field[Any]]) -> str:
    """What each task says of the flag; said once, and without naming the tasks, where all say the same."""
    owners: dict[str, list[str]] = {}
    for task, field in by_task.items():
        owners.setdefault(field.metadata["help"], []).append(task)
    if len(owners) == 1 and len(by_task) == len(ARGUMENTS):
        return next(iter(owners))
    return " ".join(f"{', '.join(tasks)}: {text}" for text, tasks in owners.items())
