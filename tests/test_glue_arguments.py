"""The data flags of run_glue.py: what they become, and all that is wrong with them at once."""

from __future__ import annotations

from typing import Any

import pytest

from cram_hf.tasks.glue_arguments import GlueArguments
from cram_hf.tasks.glue_tasks import GLUE_TASKS


@pytest.mark.parametrize(("given", "name"), [("RTE", "rte"), ("SST-2", "sst2"), ("sts-b", "stsb"), ("mnli", "mnli")])
def test_a_task_may_be_called_as_its_folder_is(given: str, name: str) -> None:
    assert GlueArguments(task_name=given).task_name == name
    assert name in GLUE_TASKS


def test_a_task_without_a_folder_comes_from_the_hub() -> None:
    assert GlueArguments(task_name="rte").dataset_name == "nyu-mll/glue"
    assert GlueArguments(task_name="rte", dataset_name="my/mirror").dataset_name == "my/mirror"
    assert GlueArguments(task_name="rte", glue_dir="glue").dataset_name is None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"task_name": "rtee"}, "--task_name rtee: unknown; it must be one of cola, sst2, mrpc, .*; did you mean rte?"),
    ({"task_name": "mnli-mm"}, "--task_name mnli-mm: unknown; .*; did you mean mnli?"),
    ({"glue_dir": "glue"}, "--glue_dir glue needs --task_name: one of cola, "),
    ({"task_name": "rte", "train_file": "a.csv"}, "--task_name rte and --train_file a.csv are given; take the rows"),
    ({"dataset_name": "x/y", "test_file": "a.csv"}, "--dataset_name x/y and --test_file a.csv are given; take"),
    (
        {"task_name": "rte", "glue_dir": "g", "dataset_name": "x/y", "train_file": "a.csv", "test_file": "b.csv"},
        "--glue_dir g and --dataset_name x/y and --train_file a.csv are given; take the rows either from GLUE, or",
    ),
    ({}, "No data: give --task_name rte .*, or --train_file train.csv --validation_file dev.csv, or --dataset_name"),
    ({"train_file": "a.txt"}, "--train_file a.txt: unknown extension; must be one of .csv, .tsv, .json, .jsonl"),
    (
        {"train_file": "a.csv", "dataset_config_name": "c"},
        "--dataset_config_name c needs --dataset_name or --task",
    ),
    ({"task_name": "rte", "max_seq_length": 0}, "--max_seq_length 0: must be at least 1"),
    ({"task_name": "rte", "interim_eval_samples": -1}, "--interim_eval_samples -1: must be at least 1"),
]


@pytest.mark.parametrize(("flags", "message"), WRONG)
def test_a_mistake_says_what_was_given_and_what_is_allowed(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        GlueArguments(**flags)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ValueError, match="unknown") as error:
        GlueArguments(task_name="coal", max_train_samples=0, max_eval_samples=-3, train_file="a.doc")
    assert [problem.split(":")[0] for problem in str(error.value).splitlines()] == [
        "--max_train_samples 0",
        "--max_eval_samples -3",
        "--task_name coal",
        "--train_file a.doc",
        "--task_name coal and --train_file a.doc are given; take the rows either from GLUE, or the Hub, or files",
    ]
