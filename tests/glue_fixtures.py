"""GLUE's nine tasks as tiny files in the official layout, with sentences of our own, shared by the GLUE tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cram_hf import CrAMTrainer

MNLI = "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
STSB = "index genre filename year old_index source1 source2 sentence1 sentence2"


def line(*cells: object) -> str:
    return "\t".join(map(str, cells)) + "\n"


def mnli_row(index: int, first: str, second: str, *labels: str) -> str:
    return line(index, "p", "p1", "letters", "( )", "( )", "(ROOT)", "(ROOT)", first, second, *labels)


def stsb_row(index: int, first: str, second: str, *score: str) -> str:
    return line(index, "main-captions", "own", "2024test", "0001", "none", "none", first, second, *score)


def mnli(*labels: str) -> str:
    """A file with a row for each label, the last of several annotators' columns; none: a test file of three rows."""
    if not labels:
        head = line(*MNLI.split(), "sentence1", "sentence2")
        return head + "".join(mnli_row(index, f"{index} geese swim.", "Geese swim.") for index in range(3))
    head = line(*MNLI.split(), "sentence1", "sentence2", "label1", "label2", "gold_label")
    rows = enumerate(labels)
    return head + "".join(mnli_row(i, f"{i} geese swim.", "Geese swim.", "neutral", "-", label) for i, label in rows)


def pairs(*labels: str) -> str:
    """RTE's and WNLI's files; without labels a test file of three rows."""
    if not labels:
        return line("index", "sentence1", "sentence2") + "".join(line(i, f"{i} geese swim.", "No.") for i in range(3))
    head = line("index", "sentence1", "sentence2", "label")
    return head + "".join(line(i, f"{i} geese swim.", "A goose swims.", label) for i, label in enumerate(labels))


MRPC_HEAD = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
QQP_HEAD = line("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
MNLI_ORDER = ("entailment", "neutral", "contradiction")
RTE_ORDER = ("entailment", "not_entailment")

FILES = {
    "CoLA/train.tsv": line("own", 1, "", "The miller sleeps.") + line("own", 0, "*", 'Sleeps " the miller NA.'),
    "CoLA/dev.tsv": line("own", 0, "*", "null") + line("own", 1, "", "NA") + line("own", 1, "", "Nine geese swim."),
    "CoLA/test.tsv": line("index", "sentence") + line(0, "The baker sings.") + line(1, "Sings baker."),
    "SST-2/train.tsv": line("sentence", "label") + line("a fine mill ", 1) + line("no geese at all ", 0),
    "SST-2/dev.tsv": line("sentence", "label") + line('a " dull baker ', 0) + line("good ", 1),
    "SST-2/test.tsv": line("index", "sentence") + line(0, "dull"),
    "MRPC/train.tsv": MRPC_HEAD + line(1, 7, 8, "Geese swim.", "They swim."),
    "MRPC/dev.tsv": MRPC_HEAD + line(1, 7, 8, '" Geese swim .', "They swim.") + line(0, 9, 10, "No.", "Geese fly."),
    "MRPC/test.tsv": line("index", *MRPC_HEAD.split("\t")[1:]).rstrip() + "\n" + line(0, 1, 2, "Geese.", "A goose."),
    "STS-B/train.tsv": line(*STSB.split(), "score") + stsb_row(0, "Geese swim.", "They swim.", "3.800"),
    "STS-B/dev.tsv": line(*STSB.split(), "score")
    + stsb_row(0, "Geese swim.", "Geese swim.", "5.000")
    + stsb_row(1, "Geese swim.", "A long and quite different sentence.", "0.0")
    + stsb_row(2, "Geese swim.", "Geese sleep.", "2.5"),
    "STS-B/test.tsv": line(*STSB.split()) + stsb_row(0, "Geese swim.", "They swim."),
    "QQP/train.tsv": QQP_HEAD
    + line(1, 2, 3, "Who sings?", "Who is singing?", 1)
    + line(4, 5, 6, '"Where', "")
    + line('is the mill?"', "Where?", 0)
    + line(7, 8, 9, "Who?", "Why?", 0),
    "QQP/dev.tsv": QQP_HEAD + line(1, 2, 3, "Who sings?", "", 0) + line(4, 5, 6, "Why?", "Why is it?", 1),
    "QQP/test.tsv": line("id", "question1", "question2") + line(0, "Who?", "Why?"),
    "MNLI/train.tsv": mnli(*MNLI_ORDER, "neutral"),
    "MNLI/dev_matched.tsv": mnli(*MNLI_ORDER),
    "MNLI/dev_mismatched.tsv": mnli("contradiction", "entailment"),
    "MNLI/test_matched.tsv": mnli(),
    "MNLI/test_mismatched.tsv": mnli(),
    "QNLI/train.tsv": line("index", "question", "sentence", "label") + line(0, "Who?", "A baker.", "entailment"),
    "QNLI/dev.tsv": line("index", "question", "sentence", "label") + line(0, "Who?", "Nine.", "not_entailment"),
    "QNLI/test.tsv": line("index", "question", "sentence") + line(0, "Who?", "Nine."),
    "RTE/train.tsv": pairs(*RTE_ORDER, "entailment"),
    "RTE/dev.tsv": pairs("not_entailment", "entailment", "entailment", "not_entailment"),
    "RTE/test.tsv": pairs(),
    "WNLI/train.tsv": pairs("1", "0"),
    "WNLI/dev.tsv": pairs("0", "1", "1"),
    "WNLI/test.tsv": pairs(),
    "diagnostic/diagnostic.tsv": pairs(),
}


def write_glue(folder: Path) -> Path:
    """Writes all files into a folder, and returns it."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return folder


@contextmanager
def killed_at(update: int) -> Iterator[None]:
    """Surrounds a run that is stopped by Ctrl-C before this update, counted from 0."""
    usual = CrAMTrainer.training_step

    def step(self: CrAMTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == update:
            raise KeyboardInterrupt
        return usual(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CrAMTrainer, "training_step", step)
        yield
