"""GLUE's official folders and the Hub: all nine tasks, their labels in a fixed order, and what is refused."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from glue_fixtures import FILES, line, pairs, write_glue
from squad_fixtures import SHARED

from cram_hf.tasks import hub as module
from cram_hf.tasks.glue_examples import Loaded
from cram_hf.tasks.glue_files import load_folder
from cram_hf.tasks.glue_hub import load_hub_task
from cram_hf.tasks.glue_tasks import GLUE_TASKS

ALL = ("train", "evaluation", "predict")


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_glue(tmp_path_factory.mktemp("glue"))


def columns(loaded: Loaded, part: str, number: int = 0) -> dict[str, list[Any]]:
    return loaded.parts[part][number].examples.to_dict()


EXPECTED = {
    "cola": ({"sentence1": ["The miller sleeps.", 'Sleeps " the miller NA.'], "labels": [1, 0]}, 3, 2),
    "sst2": ({"sentence1": ["a fine mill ", "no geese at all "], "labels": [1, 0]}, 2, 1),
    "mrpc": ({"sentence1": ["Geese swim."], "sentence2": ["They swim."], "labels": [1]}, 2, 1),
    "stsb": ({"sentence1": ["Geese swim."], "sentence2": ["They swim."], "labels": [3.8]}, 3, 1),
    "qqp": (
        {"sentence1": ["Who sings?", "Who?"], "sentence2": ["Who is singing?", "Why?"], "labels": [1, 0]},
        2,
        1,
    ),
    "mnli": (
        {
            "sentence1": [f"{number} geese swim." for number in range(4)],
            "sentence2": ["Geese swim."] * 4,
            "labels": [0, 1, 2, 1],
        },
        3,
        3,
    ),
    "qnli": ({"sentence1": ["Who?"], "sentence2": ["A baker."], "labels": [0]}, 1, 1),
    "rte": (
        {
            "sentence1": [f"{number} geese swim." for number in range(3)],
            "sentence2": ["A goose swims."] * 3,
            "labels": [0, 1, 0],
        },
        4,
        3,
    ),
    "wnli": (
        {"sentence1": ["0 geese swim.", "1 geese swim."], "sentence2": ["A goose swims."] * 2, "labels": [1, 0]},
        3,
        3,
    ),
}


@pytest.mark.parametrize("name", GLUE_TASKS)
def test_a_task_loads_from_the_official_layout(glue: Path, name: str) -> None:
    train, dev, test = EXPECTED[name]
    loaded = load_folder(name, str(glue), ALL)
    assert columns(loaded, "train") == train
    assert len(loaded.parts["evaluation"][0].examples) == dev
    assert len(loaded.parts["predict"][0].examples) == test
    assert set(columns(loaded, "predict")) == set(train) - {"labels"}
    assert loaded.parts["train"][0].source == str(glue / GLUE_TASKS[name].folder / "train.tsv")


@pytest.mark.parametrize("name", GLUE_TASKS)
def test_the_folder_may_be_the_task_s_own(glue: Path, name: str) -> None:
    own = load_folder(name, str(glue / GLUE_TASKS[name].folder), ALL)
    whole = load_folder(name, str(glue), ALL)
    for part in ALL:
        assert [p.examples.to_dict() for p in own.parts[part]] == [p.examples.to_dict() for p in whole.parts[part]]


def test_words_that_stand_for_nothing_elsewhere_and_lone_quotes_are_text(glue: Path) -> None:
    assert columns(load_folder("cola", str(glue), ["evaluation"]), "evaluation")["sentence1"][:2] == ["null", "NA"]
    assert columns(load_folder("sst2", str(glue), ["evaluation"]), "evaluation")["sentence1"][0] == 'a " dull baker '
    assert columns(load_folder("mrpc", str(glue), ["evaluation"]), "evaluation")["sentence1"][0] == '" Geese swim .'


def test_mnli_has_two_evaluation_sets_and_predicts_the_diagnostic_set_if_there_is_one(glue: Path) -> None:
    loaded = load_folder("mnli", str(glue), ALL)
    assert [columns(loaded, "evaluation", number)["labels"] for number in (0, 1)] == [[0, 1, 2], [2, 0]]
    assert [part.predictions for part in loaded.parts["evaluation"]] == ["MNLI-m", "MNLI-mm"]
    assert [part.predictions for part in loaded.parts["predict"]] == ["MNLI-m", "MNLI-mm", "AX"]
    assert loaded.parts["predict"][2].source == str(glue / "diagnostic" / "diagnostic.tsv")


def test_mnli_without_a_diagnostic_set_predicts_two(tmp_path: Path) -> None:
    (write_glue(tmp_path) / "diagnostic" / "diagnostic.tsv").unlink()
    assert len(load_folder("mnli", str(tmp_path), ["predict"]).parts["predict"]) == 2


def test_broken_rows_of_qqp_are_left_out_and_counted(glue: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        loaded = load_folder("qqp", str(glue), ["train"])
    assert loaded.parts["train"][0].skipped == 2
    assert "train.tsv: 2 rows with a wrong number of columns are left out" in caplog.text
    assert columns(load_folder("qqp", str(glue), ["evaluation"]), "evaluation")["sentence2"][0] == ""


WRONG = [
    (
        "rte",
        "RTE/dev.tsv",
        pairs("entailment", "maybe"),
        "line 3: the label in 'label' is 'maybe', but must be one of ",
    ),
    (
        "rte",
        "RTE/dev.tsv",
        pairs("1", "0"),
        "2 rows are wrong\n  line 2: the label in 'label' is '1', but must be one",
    ),
    (
        "wnli",
        "WNLI/dev.tsv",
        pairs("entailment"),
        "line 2: the label in 'label' is 'entailment', but must be one of 0",
    ),
    (
        "cola",
        "CoLA/dev.tsv",
        line("own", "1", "Geese swim."),
        "line 1 has 3 columns, but must have 4: source, label, ",
    ),
    ("sst2", "SST-2/dev.tsv", line("sentence", "score") + line("x", 1), "there is no column 'label', only 'sentence'"),
    ("mrpc", "MRPC/dev.tsv", pairs("1"), "there is no column '#1 String', '#2 String', 'Quality', only 'index', "),
    ("mnli", "MNLI/dev_mismatched.tsv", "", "the file is empty"),
    ("qqp", "QQP/test.tsv", line("id", "question1", "question2") + "0\n", "line 2 has 1 column, but must have 3"),
    (
        "stsb",
        "STS-B/dev.tsv",
        FILES["STS-B/dev.tsv"].replace("5.000", "5.1"),
        "line 2: the score in 'score' is '5.1', ",
    ),
    (
        "stsb",
        "STS-B/dev.tsv",
        FILES["STS-B/dev.tsv"].replace("2.5", "nan"),
        "line 4: the score in 'score' is 'nan'",
    ),
]


@pytest.mark.parametrize(("name", "file", "content", "message"), WRONG)
def test_a_malformed_file_is_named_with_the_line(
    tmp_path: Path, name: str, file: str, content: str, message: str
) -> None:
    (write_glue(tmp_path) / file).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / file}: {message}")):
        load_folder(name, str(tmp_path), ALL)


def test_missing_folders_and_files_are_named_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--glue_dir .*absent: no such folder; check the path"):
        load_folder("rte", str(tmp_path / "absent"), ALL)
    (tmp_path / "MRPC").mkdir()
    message = r"neither the folder RTE nor train\.tsv and dev\.tsv, only MRPC; give the folder that holds RTE/train"
    with pytest.raises(FileNotFoundError, match=message):
        load_folder("rte", str(tmp_path), ["train", "evaluation"])
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / "dev.tsv").write_text(pairs("entailment"), encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"there is no train\.tsv and no test\.tsv in .*RTE, only dev\.tsv"):
        load_folder("rte", str(tmp_path), ALL)


def hub(monkeypatch: pytest.MonkeyPatch, **sets: dict[str, list[Any]]) -> list[tuple[str, str, str]]:
    """Replaces the Hub by these splits; returns the list of what will be asked of it."""
    asked = []

    def load(name: str, config: str, split: str) -> Dataset:
        asked.append((name, config, split))
        labels = sets["names"]
        features = Features({column: Value("string") for column in sets["columns"]})
        features |= {"label": ClassLabel(names=labels) if labels else Value("float32"), "idx": Value("int32")}
        return Dataset.from_dict(sets[split], features=Features(features))

    monkeypatch.setattr(module, "load_dataset", load)
    return asked


def test_a_task_of_the_hub_gets_the_same_columns_as_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"premise": ["Geese swim."], "hypothesis": ["They swim."], "label": [2], "idx": [0]}
    unlabelled = {**rows, "label": [-1]}
    asked = hub(
        monkeypatch,
        names=["entailment", "neutral", "contradiction"],
        columns=["premise", "hypothesis"],
        validation_matched=rows,
        validation_mismatched=rows,
        test_matched=unlabelled,
        test_mismatched=unlabelled,
        test=unlabelled,
    )
    loaded = load_hub_task("mnli", "nyu-mll/glue", None, ["evaluation", "predict"])
    assert columns(loaded, "evaluation", 1) == {
        "sentence1": ["Geese swim."],
        "sentence2": ["They swim."],
        "labels": [2],
    }
    assert columns(loaded, "predict", 2) == {"sentence1": ["Geese swim."], "sentence2": ["They swim."]}
    assert loaded.parts["evaluation"][0].source == "nyu-mll/glue (mnli, validation_matched)"
    assert asked[1] == ("nyu-mll/glue", "mnli", "validation_mismatched")
    assert asked[-1] == ("nyu-mll/glue", "ax", "test")


def test_scores_of_the_hub_are_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"sentence1": ["a"], "sentence2": ["b"], "label": [3.5], "idx": [0]}
    hub(monkeypatch, names=[], columns=["sentence1", "sentence2"], train=rows)
    assert columns(load_hub_task("stsb", "nyu-mll/glue", None, ["train"]), "train")["labels"] == [3.5]


@pytest.mark.parametrize(
    ("names", "label", "message"),
    [
        (
            ["no", "yes"],
            1,
            r"x/y \(rte, train\): the labels are no, yes, but rte has entailment, not_entailment; leave",
        ),
        (["entailment", "not_entailment"], -1, "row 1: the label is -1, but must be from 0 to 1"),
    ],
)
def test_other_labels_on_the_hub_are_refused(
    monkeypatch: pytest.MonkeyPatch, names: list[str], label: int, message: str
) -> None:
    rows = {"sentence1": ["a"], "sentence2": ["b"], "label": [label], "idx": [0]}
    hub(monkeypatch, names=names, columns=["sentence1", "sentence2"], train=rows)
    with pytest.raises(ValueError, match=message):
        load_hub_task("rte", "x/y", None, ["train"])


def test_other_columns_on_the_hub_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, names=[], columns=["text"], train={"text": ["a"], "label": [0.5], "idx": [0]})
    with pytest.raises(
        ValueError, match=r"x/y \(rte, train\): there is no column 'sentence1', 'sentence2', only 'text'"
    ):
        load_hub_task("rte", "x/y", None, ["train"])


def test_the_hub_out_of_reach_says_to_give_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"nyu-mll/glue: could not load the split 'train' of rte .*--glue_dir DIR"):
        load_hub_task("rte", "nyu-mll/glue", None, ["train"])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train.jsonl", '{"a": 1}\n{"a": ', r"ArrowInvalid: JSON parse error: Invalid value\. in row 1"),
        ("train.csv", "a,b\n1,2\n1,2,3\n", "ParserError: Error tokenizing data.* Expected 2 fields in line 3, saw 3"),
    ],
)
def test_a_malformed_set_is_told_in_one_line(tmp_path: Path, file: str, text: str, message: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=rf"'train' from the Hub \({message}\)\. Check") as error:
        module.load_split(str(tmp_path), None, "train", "--train_file a.csv")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "train", "dev", "ones"),
    [
        ("cola", 8551, 1043, 721),
        ("sst2", 67349, 872, 444),
        ("mrpc", 3668, 408, 279),
        ("rte", 2490, 277, 131),
        ("stsb", 5749, 1500, None),
    ],
)
def test_the_real_files_have_as_many_rows_as_glue_says(name: str, train: int, dev: int, ones: int | None) -> None:
    if not (SHARED / "glue" / GLUE_TASKS[name].folder).is_dir():
        pytest.skip(f"needs {SHARED / 'glue' / GLUE_TASKS[name].folder}")
    loaded = load_folder(name, str(SHARED / "glue"), ["train", "evaluation"])
    assert [len(loaded.parts[part][0].examples) for part in ("train", "evaluation")] == [train, dev]
    labels = columns(loaded, "evaluation")["labels"]
    assert ones is None or sum(labels) == ones
    assert 0 <= min(labels) < max(labels) <= (5 if ones is None else 1)
