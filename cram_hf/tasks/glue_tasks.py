"""The nine tasks of GLUE as data: columns, labels and scores, and their files in the official folders and the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HUB = "nyu-mll/glue"


@dataclass(frozen=True)
class Target:
    """
    What a model predicts about a text or a pair of texts.

    Args:
        task (`str`): word in the results file and for `glue_scores`: a task's name, `classification`, `regression`.
        main_metric (`str`): the score shown first.
        labels (`tuple[str, ...]`): names of the labels in the order of the logits; none where a score is predicted.
        codes (`tuple[str, ...]`): the labels as the task's files write them, in the same order.
        bounds (`tuple[float, float]`, *optional*): least and greatest score, where there is a scale.
    """

    task: str
    main_metric: str
    labels: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None

    @property
    def model_config(self) -> dict[str, Any]:
        """What a model's configuration says of its head."""
        if not self.labels:
            return {"num_labels": 1, "problem_type": "regression"}
        return {
            "num_labels": len(self.labels),
            "problem_type": "single_label_classification",
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: index for index, label in enumerate(self.labels)},
        }


@dataclass(frozen=True)
class File:
    """One file of a task: the name of its predictions' file, its own name, and its split on the Hub."""

    predictions: str
    name: str
    split: str


@dataclass(frozen=True)
class GlueTask:
    """
    One of the nine.

    Args:
        name (`str`): its word in flags, and its configuration on the Hub.
        folder (`str`): its official folder.
        target ([`Target`]): what is predicted. The order of the labels is the Hub's.
        texts (`tuple[str, ...]`): columns of its one or two sentences in the official files.
        label (`str`): column of the label there.
        hub_texts (`tuple[str, ...]`): columns of the sentences on the Hub.
        header (`tuple[str, ...]`): columns of the labelled files, where these have no header.
        broken_rows (`bool`): whether the official files hold rows with a wrong number of columns.
    """

    name: str
    folder: str
    target: Target
    texts: tuple[str, ...]
    label: str
    hub_texts: tuple[str, ...]
    header: tuple[str, ...] = ()
    broken_rows: bool = False

    def files(self, part: str) -> tuple[File, ...]:
        """Returns the files of `train`, `evaluation` or `predict`; two of the latter for MNLI."""
        file, split = {
            "train": ("train", "train"),
            "evaluation": ("dev", "validation"),
            "predict": ("test", "test"),
        }[part]
        if self.name != "mnli" or part == "train":
            return (File(self.folder, f"{file}.tsv", split),)
        return tuple(
            File(f"{self.folder}-{short}", f"{file}_{kind}.tsv", f"{split}_{kind}")
            for short, kind in (("m", "matched"), ("mm", "mismatched"))
        )


def _target(task: str, *labels: str, metric: str = "accuracy", named: bool = False) -> Target:
    """Returns a classification target; unless `named`, files write the labels as 0, 1, ..."""
    codes = labels if named else tuple(str(index) for index in range(len(labels)))
    return Target(task, metric, labels, codes)


_PAIR = ("sentence1", "sentence2")
_QUESTIONS = ("question1", "question2")
_ENTAILMENT = ("entailment", "not_entailment")

GLUE_TASKS = {
    task.name: task
    for task in (
        GlueTask(
            "cola",
            "CoLA",
            _target("cola", "unacceptable", "acceptable", metric="matthews_correlation"),
            ("sentence",),
            "label",
            ("sentence",),
            header=("source", "label", "mark", "sentence"),
        ),
        GlueTask("sst2", "SST-2", _target("sst2", "negative", "positive"), ("sentence",), "label", ("sentence",)),
        GlueTask(
            "mrpc",
            "MRPC",
            _target("mrpc", "not_equivalent", "equivalent", metric="f1"),
            ("#1 String", "#2 String"),
            "Quality",
            _PAIR,
        ),
        GlueTask("stsb", "STS-B", Target("stsb", "spearmanr", bounds=(0.0, 5.0)), _PAIR, "score", _PAIR),
        GlueTask(
            "qqp",
            "QQP",
            _target("qqp", "not_duplicate", "duplicate", metric="f1"),
            _QUESTIONS,
            "is_duplicate",
            _QUESTIONS,
            broken_rows=True,  # questions with a line break or tab in them: nyu-mll/GLUE-baselines#5
        ),
        GlueTask(
            "mnli",
            "MNLI",
            _target("mnli", "entailment", "neutral", "contradiction", named=True),
            _PAIR,
            "gold_label",
            ("premise", "hypothesis"),
        ),
        GlueTask(
            "qnli",
            "QNLI",
            _target("qnli", *_ENTAILMENT, named=True),
            ("question", "sentence"),
            "label",
            ("question", "sentence"),
        ),
        GlueTask("rte", "RTE", _target("rte", *_ENTAILMENT, named=True), _PAIR, "label", _PAIR),
        GlueTask("wnli", "WNLI", _target("wnli", "not_entailment", "entailment"), _PAIR, "label", _PAIR),
    )
}

# GLUE's diagnostic set, which an MNLI model answers: its places in a folder of all tasks, and on the Hub.
DIAGNOSTIC = File("AX", "diagnostic.tsv", "test")
DIAGNOSTIC_FOLDERS = ("diagnostic", "AX", "MNLI", ".")
