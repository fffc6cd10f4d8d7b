"""Every file form gives the same table; every malformed file says which file, which record and what is wrong."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from squad_fixtures import CONTEXT, RECORDS, UNANSWERABLE, nested, write_csv, write_json, write_lines, write_parquet

from cram_hf.tasks.squad_answers import Alignment, align_answers
from cram_hf.tasks.squad_files import read_squad
from cram_hf.tasks.squad_hub import load_hub
from cram_hf.tasks.squad_records import FEATURES

ALL = [*RECORDS, UNANSWERABLE]


def listed_answers(row: dict[str, Any]) -> dict[str, Any]:
    answers = row["answers"]
    pairs = zip(answers["text"], answers["answer_start"], strict=True)
    return {**row, "answers": [{"text": text, "answer_start": start} for text, start in pairs]}


def json_cell(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "answers": json.dumps(row["answers"])}


WRITERS = {
    "nested.json": lambda path: write_json(path, nested(ALL)),
    "articles.json": lambda path: write_json(path, nested(ALL)["data"]),
    "list.json": lambda path: write_json(path, ALL),
    "data.json": lambda path: write_json(path, {"version": "1", "data": ALL}),
    "listed_answers.json": lambda path: write_json(path, [listed_answers(row) for row in ALL]),
    "lines.json": lambda path: write_lines(path, ALL),
    "lines.jsonl": lambda path: write_lines(path, ALL),
    "LINES.JSONL": lambda path: write_lines(path, ALL),
    "table.csv": lambda path: write_csv(path, [json_cell(row) for row in ALL]),
    "table.parquet": lambda path: write_parquet(path, ALL),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_form_gives_the_same_table(tmp_path: Path, name: str) -> None:
    dataset = read_squad(WRITERS[name](tmp_path / name))
    assert dataset.features == FEATURES
    assert dataset.to_list() == ALL


def test_csv_with_plain_answer_columns_gives_one_answer_or_none(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "context": CONTEXT, "question": "Who?", "answer_text": "a baker", "answer_start": 70},
        {"id": "b", "context": CONTEXT, "question": "Who\nelse?", "answer_text": "", "answer_start": ""},
    ]
    dataset = read_squad(write_csv(tmp_path / "plain.csv", rows))
    assert dataset["answers"][:] == [
        {"text": ["a baker"], "answer_start": [70]},
        {"text": [], "answer_start": []},
    ]
    assert dataset["title"][:] == ["", ""]


def test_a_set_of_unanswerable_questions_only_keeps_the_type_of_answers(tmp_path: Path) -> None:
    assert read_squad(write_json(tmp_path / "none.json", [UNANSWERABLE])).features == FEATURES


def test_a_single_json_line_under_json_is_one_record(tmp_path: Path) -> None:
    assert read_squad(write_json(tmp_path / "one.json", RECORDS[0]))["id"][:] == ["q1"]


def test_a_byte_order_mark_and_unicode_line_separators_in_texts_are_no_record_ends(tmp_path: Path) -> None:
    row = {**RECORDS[0], "title": "one\u2028two"}
    path = write_lines(tmp_path / "bom.jsonl", [row, RECORDS[1]])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_squad(path).to_list() == [row, RECORDS[1]]


def test_answers_may_be_missing_only_where_they_are_not_needed(tmp_path: Path) -> None:
    row = {key: value for key, value in RECORDS[0].items() if key != "answers"}
    path = write_json(tmp_path / "test.json", [row])
    assert read_squad(path, need_answers=False)["answers"][:] == [{"text": [], "answer_start": []}]
    with pytest.raises(ValueError, match=r"test\.json: 1 malformed record\n  record 1: the key 'answers' is missing"):
        read_squad(path)


def broken(**changes: Any) -> dict[str, Any]:
    return {**RECORDS[0], **changes}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in RECORDS[0].items() if name != key}


WRONG_RECORDS = [
    (without("context"), "record 2: the key 'context' is missing; it has 'id', 'title', 'question', 'answers'"),
    (broken(id="q2", question=7), "record 2: 'question' is a number (7), but must be a string"),
    (broken(id="q2", context=""), "record 2: 'context' is empty, but must hold some text"),
    (broken(id="q2", title=["x"]), "record 2: 'title' is a list (['x']), but must be a string"),
    ("text", "record 2: is a string, but must be an object with the keys id, context, question, answers"),
    (broken(id="q1"), "record 2: the id 'q1' was already used by record 1; ids must differ"),
    (broken(id="q2", answers=3), "record 2: 'answers' is a number, but must be"),
    (broken(id="q2", answers={"text": ["nine"]}), "record 2: an answer lacks the key 'answer_start'; it has 'text'"),
    (broken(id="q2", answers={"text": "nine", "answer_start": [1]}), "'text' of the answers is a string, but must be"),
    (broken(id="q2", answers={"text": ["a", "b"], "answer_start": [1]}), "have 2 text but 1 answer_start"),
    (broken(id="q2", answers=["nine"]), "record 2: an answer is a string, but must be an object"),
    (broken(id="q2", answers=[{"text": "", "answer_start": 0}]), "an answer's text is '', but must be a string with"),
    (broken(id="q2", answers=[{"text": "x", "answer_start": -1}]), "answer_start is -1, but must be an integer of 0"),
    (broken(id="q2", answers=[{"text": "x", "answer_start": True}]), "answer_start is True, but must be an integer"),
]


@pytest.mark.parametrize(("row", "message"), WRONG_RECORDS)
def test_a_malformed_record_is_named_with_what_is_wrong(tmp_path: Path, row: Any, message: str) -> None:
    path = write_json(tmp_path / "train.json", [RECORDS[0], row])
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_squad(path)
    assert str(error.value).startswith(f"{path}: 1 malformed record\n  ")


def test_many_malformed_records_are_reported_at_once_five_in_full(tmp_path: Path) -> None:
    path = write_json(tmp_path / "train.json", [{"id": str(number)} for number in range(7)])
    with pytest.raises(ValueError, match=r"7 malformed records\n  record 1: (.*\n){5}  \.\.\. and 2 more"):
        read_squad(path)


PARAGRAPH = {"context": CONTEXT, "qas": [{"id": "q", "question": "Who?", "answers": []}]}
WRONG_FILES = [
    ("a.json", "", "a.json: the file is empty"),
    ("a.json", '{"data": [', "a.json: not valid JSON: Expecting value at line 1, column 11"),
    ("a.json", '{"version": "1"}', "the top level has the keys 'version' but no 'data'"),
    ("a.json", '{"data": 3}', "'data' is a number, but must be a list"),
    ("a.json", '"text"', "the top level is a string, but must be a list"),
    ("a.json", "[]", "a.json: the file holds no questions"),
    ("a.json", '[{"paragraphs": 1}]', "article 1: 'paragraphs' is a number, but must be a list"),
    ("a.json", '[{"paragraphs": []}, {"title": "x"}]', "article 2: the key 'paragraphs' is missing; it has 'title'"),
    ("a.json", '[{"paragraphs": [[]]}]', "article 1, paragraph 1 is a list, but must be an object with the key 'qas'"),
    (
        "a.json",
        '[{"paragraphs": [{"qas": []}]}]',
        "article 1, paragraph 1: the key 'context' is missing; it has 'qas'",
    ),
    (
        "a.json",
        json.dumps([{"paragraphs": [PARAGRAPH, {"context": CONTEXT, "qas": [{"id": "r"}]}]}]),
        "article 1, paragraph 2, question 1: the key 'question' is missing",
    ),
    ("a.json", '{"question": 1}\n{"question"', "a.json: line 2: not valid JSON: Expecting ':' delimiter at column 12"),
    ("a.jsonl", '\n{"id"\n', "a.jsonl: line 2: not valid JSON"),
    ("a.jsonl", "\n[]\n", "a.jsonl: 1 malformed record\n  line 2: is a list"),
    ("a.csv", "id,question\n1,2\n", "a.csv: the header lacks context; it has id, question"),
    ("a.csv", "id,context,question,answers\n1,c,q,{\n", "a.csv: line 2: the column 'answers' is not valid JSON"),
    ("a.csv", "id,context,question\n1,c,q\n", "line 2: the key 'answers' is missing; it has 'id', 'context'"),
    ("a.csv", "id,context,question,answers\n1,c,q,,9\n", "a.csv: line 2: has more cells than the header"),
    ("a.csv", "id,context,question,answer_text,answer_start\n1,c,q,c,x\n", "line 2: answer_start is 'x', but must be"),
    ("a.csv", 'id,context,question\n1,"c" c,q\n', "a.csv: line 2: not valid CSV"),
    ("a.parquet", "no parquet", "a.parquet: not a readable parquet file"),
    ("a.txt", "x", "a.txt: unknown extension '.txt'; name the file .json, .jsonl, .csv, .parquet"),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG_FILES)
def test_a_malformed_file_is_named_with_the_place(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        read_squad(tmp_path / name)


def test_a_file_that_is_not_utf8_says_where(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes(b'[{"id": "\xe9"}]')
    with pytest.raises(ValueError, match=r"latin\.json: not UTF-8 at byte 9 \(0xe9\); save the file as UTF-8"):
        read_squad(tmp_path / "latin.json")


def test_a_missing_file_offers_the_nearest_name(tmp_path: Path) -> None:
    write_json(tmp_path / "dev.json", ALL)
    with pytest.raises(FileNotFoundError, match=r"dve\.json: no such file; did you mean .*dev\.json\?"):
        read_squad(tmp_path / "dve.json")
    with pytest.raises(FileNotFoundError, match="is a folder; give one file of"):
        read_squad(tmp_path)


def test_the_hub_out_of_reach_says_to_give_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"rajpurkar/squad: could not load .*--train_file train\.json"):
        load_hub("rajpurkar/squad", None, "train")


def test_a_hub_set_gets_the_columns_and_types_of_files(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write_lines(tmp_path / "set" / "train.jsonl", [{**row, "extra": 1} for row in ALL])
    dataset = load_hub(str(tmp_path / "set"), None, "train")
    assert dataset.features == FEATURES
    assert dataset.to_list() == ALL
    with pytest.raises(ValueError, match="could not load the split 'test'"):
        load_hub(str(tmp_path / "set"), None, "test")


def misaligned(tmp_path: Path) -> Any:
    texts = {"q1": ("nine", 3), "q2": ("geese", 3), "q3": ("camel", 3), "q4": ("miller", 4)}
    rows = [
        {**RECORDS[0], "id": key, "answers": {"text": [text], "answer_start": [start]}}
        for key, (text, start) in texts.items()
    ]
    return read_squad(write_json(tmp_path / "off.json", rows))


def test_training_moves_an_answer_to_its_only_place_and_drops_it_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        repaired, found = align_answers(misaligned(tmp_path), "off.json", repair=True)
    assert found == Alignment(misaligned=3, realigned=1, dropped=2, dropped_questions=2)
    assert repaired["id"][:] == ["q1", "q4"]
    assert [row["answer_start"] for row in repaired["answers"]] == [[CONTEXT.index("nine")], [4]]
    assert "3 answers are not at their offset: 1 moved" in caplog.text
    assert "question 'q1' has the answer 'nine' at 3, where the context says ' mil'" in caplog.text


def test_evaluation_keeps_misaligned_answers_and_counts_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = misaligned(tmp_path)
    with caplog.at_level(logging.WARNING):
        same, found = align_answers(dataset, "off.json", repair=False)
    assert same.to_list() == dataset.to_list()
    assert found == Alignment(misaligned=3)
    assert "Scores are not affected" in caplog.text
