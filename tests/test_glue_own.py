"""Data of the user's own: which columns are texts, classes or scores, and labels that do not fit together."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from squad_fixtures import write_csv, write_json, write_lines, write_parquet

from cram_hf.tasks import hub
from cram_hf.tasks.glue_arguments import GlueArguments
from cram_hf.tasks.glue_own import find_schema, load_own
from cram_hf.tasks.glue_tables import Table


def table(**columns: list[Any]) -> Table:
    count = len(next(iter(columns.values())))
    return Table("own.csv", columns, range(2, count + 2), "line")


YES_NO = ["no", "yes"]


@pytest.mark.parametrize(
    ("columns", "texts"),
    [
        ({"sentence2": ["b", "b"], "label": YES_NO, "sentence1": ["a", "a"]}, ("sentence1", "sentence2")),
        ({"genre": ["g", "g"], "sentence1": ["a", "a"], "label": YES_NO}, ("sentence1",)),
        ({"id": ["x1", "x2"], "label": YES_NO, "title": ["a", "b"], "body": ["c", "d"]}, ("title", "body")),
        ({"votes": ["3", "4"], "text": ["a", "7"], "label": YES_NO}, ("text",)),
        ({"a": ["x", "y"], "b": ["x", "y"], "c": ["x", "y"], "label": YES_NO}, ("a", "b")),
        ({"stars": [3, 4], "text": [None, "a"], "label": YES_NO}, ("text",)),
    ],
)
def test_texts_are_sentence1_and_2_or_the_first_columns_of_text(
    columns: dict[str, list[Any]], texts: tuple[str, ...]
) -> None:
    assert find_schema(table(**columns)).texts == texts


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["yes", "no", "yes"], ("no", "yes")),
        (["10", "9", "1"], ("1", "9", "10")),
        ([2, 0, 1], ("0", "1", "2")),
        ([True, False, True], ("false", "true")),
        (["NA", "null", "1"], ("1", "NA", "null")),
        (["1.5", "high", "low"], ("1.5", "high", "low")),
    ],
)
def test_whole_numbers_and_words_are_classes_in_order(labels: list[Any], names: tuple[str, ...]) -> None:
    target = find_schema(table(text=["a", "b", "c"], label=labels)).target
    assert (target.task, target.main_metric, target.labels) == ("classification", "accuracy", names)
    assert target.model_config == {
        "num_labels": len(names),
        "problem_type": "single_label_classification",
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


@pytest.mark.parametrize("labels", [["1.5", "2", "-3e-1"], [0.5, 1, 2], [1.0, 2.0, 3.0]])
def test_numbers_with_a_fraction_are_scores(labels: list[Any]) -> None:
    target = find_schema(table(text=["a", "b", "c"], label=labels)).target
    assert (target.task, target.main_metric) == ("regression", "spearmanr")
    assert target.model_config == {"num_labels": 1, "problem_type": "regression"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"text": ["a", "b"], "labels": YES_NO},
            "own.csv: there is no column 'label', only 'text', 'labels'; rename 'la",
        ),
        ({"id": ["a", "b"], "label": YES_NO}, "own.csv: no column holds text, only 'id', 'label'; name the column of"),
        ({"text": ["a", "b"], "label": ["no", ""]}, "own.csv: line 3: the label is missing"),
        ({"text": ["a", "b"], "label": [None, 1]}, "own.csv: line 2: the label is missing"),
        ({"text": ["a", "b"], "label": [1, float("nan")]}, "own.csv: line 3: the label is missing"),
        (
            {"text": ["a", "b", "c"], "label": ["1.5", "nan", "2"]},
            "own.csv: line 3: the label is 'nan', but most are scores such as 1.5; correct it, or write all of",
        ),
        (
            {"text": ["a", "b"], "label": ["no", "no"]},
            "own.csv: all rows have the label 'no', but a classifier needs two",
        ),
    ],
)
def test_a_table_without_texts_or_labels_is_refused(columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        find_schema(table(**columns))


def test_scores_name_every_row_that_is_none_and_few_numbers_are_classes() -> None:
    with pytest.raises(ValueError, match="2 rows are wrong") as error:
        find_schema(table(text=["a"] * 5, label=["1", "?", "2", "2.5", "-"]))
    assert [line.split(",")[0] for line in str(error.value).splitlines()[1:]] == [
        "  line 3: the label is '?'",
        "  line 6: the label is '-'",
    ]
    assert find_schema(table(text=["a"] * 4, label=["1.5", "?", "2.5", "-"])).target.task == "classification"


TRAIN = [{"text": "Geese swim.", "label": "yes"}, {"text": "Stones swim.", "label": "no"}]


def args(folder: Path, **files: Any) -> GlueArguments:
    return GlueArguments(**{name: str(folder / file) for name, file in files.items()})


@pytest.mark.parametrize(
    ("writer", "name"),
    [(write_csv, "dev.csv"), (write_lines, "dev.jsonl"), (write_json, "dev.json"), (write_parquet, "dev.parquet")],
)
def test_parts_may_come_from_files_of_any_form(tmp_path: Path, writer: Any, name: str) -> None:
    write_csv(tmp_path / "train.csv", TRAIN)
    writer(tmp_path / name, TRAIN[1:])
    write_lines(tmp_path / "test.jsonl", [{"text": "Mills swim."}])
    flags = args(tmp_path, train_file="train.csv", validation_file=name, test_file="test.jsonl")
    loaded = load_own(flags, ["train", "evaluation", "predict"])
    assert loaded.parts["train"][0].examples.to_dict() == {
        "sentence1": ["Geese swim.", "Stones swim."],
        "labels": [1, 0],
    }
    assert loaded.parts["evaluation"][0].examples.to_dict() == {"sentence1": ["Stones swim."], "labels": [0]}
    assert loaded.parts["predict"][0].examples.to_dict() == {"sentence1": ["Mills swim."]}


def test_scores_may_be_whole_in_another_part(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [{"text": "a", "label": 0.5}, {"text": "b", "label": 2}])
    write_csv(tmp_path / "dev.csv", [{"text": "a", "label": 3}])
    loaded = load_own(args(tmp_path, train_file="train.csv", validation_file="dev.csv"), ["evaluation"])
    assert loaded.parts["evaluation"][0].examples.to_dict() == {"sentence1": ["a"], "labels": [3.0]}


def test_labels_that_differ_between_parts_are_refused_in_one_line(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", TRAIN)
    rows = [*TRAIN, {"text": "x", "label": "maybe"}, {"text": "x", "label": "never"}]
    write_csv(tmp_path / "dev.csv", rows)
    with pytest.raises(ValueError, match="labels") as error:
        load_own(args(tmp_path, train_file="train.csv", validation_file="dev.csv"), ["train", "evaluation"])
    assert str(error.value) == (
        f"{tmp_path / 'dev.csv'}: the labels differ from those of {tmp_path / 'train.csv'}: line 4 has 'maybe', "
        "others are unknown too: never; known are no, yes"
    )


def test_a_label_that_evaluation_lacks_is_told_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_csv(tmp_path / "train.csv", TRAIN)
    write_csv(tmp_path / "dev.csv", TRAIN[:1])
    with caplog.at_level(logging.WARNING):
        loaded = load_own(args(tmp_path, train_file="train.csv", validation_file="dev.csv"), ["evaluation"])
    assert loaded.target.labels == ("no", "yes")
    assert "dev.csv: no row has the label no" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"other": "x", "label": "no"}], r"dev\.csv: there is no column 'text', only 'other', 'label'"),
        ([{"text": "x"}], r"dev\.csv: there is no column 'label', only 'text'"),
    ],
)
def test_columns_that_differ_between_parts_are_refused(tmp_path: Path, rows: list[Any], message: str) -> None:
    write_csv(tmp_path / "train.csv", TRAIN)
    write_csv(tmp_path / "dev.csv", rows)
    with pytest.raises(ValueError, match=message):
        load_own(args(tmp_path, train_file="train.csv", validation_file="dev.csv"), ["train", "evaluation"])


def test_a_text_that_is_none_is_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [*TRAIN, {"text": None, "label": "no"}])
    with pytest.raises(ValueError, match=r"train\.jsonl: line 3: 'text' is null, but must be a string"):
        load_own(args(tmp_path, train_file="train.jsonl"), ["train"])


def test_a_score_that_is_none_is_named(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [{"text": "a", "label": 0.5}, {"text": "b", "label": 2.5}])
    write_csv(tmp_path / "dev.csv", [{"text": "a", "label": "high"}])
    with pytest.raises(ValueError, match=r"dev\.csv: line 2: the score in 'label' is 'high', but must be a number$"):
        load_own(args(tmp_path, train_file="train.csv", validation_file="dev.csv"), ["evaluation"])


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    write_csv(tmp_path / "test.csv", TRAIN)
    with pytest.raises(ValueError, match="--do_train needs --train_file, --do_eval needs --validation_file: give a"):
        load_own(args(tmp_path, test_file="test.csv"), ["train", "evaluation", "predict"])
    with pytest.raises(ValueError, match="does not say which labels there are; give --train_file as well"):
        load_own(args(tmp_path, test_file="test.csv"), ["predict"])


def test_a_set_of_the_hub_keeps_the_order_of_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    features = Features({"stars": Value("int32"), "review": Value("string"), "label": ClassLabel(names=["neg", "a"])})
    rows = {"stars": [1, 5], "review": ["dull", "fine"], "label": [0, 1]}
    monkeypatch.setattr(hub, "load_dataset", lambda *_, split: Dataset.from_dict(rows, features=features))
    loaded = load_own(GlueArguments(dataset_name="x/y"), ["evaluation"])
    assert loaded.target.labels == ("neg", "a")
    assert loaded.parts["evaluation"][0].source == "x/y (validation)"
    assert loaded.parts["evaluation"][0].examples.to_dict() == {"sentence1": ["dull", "fine"], "labels": [0, 1]}
