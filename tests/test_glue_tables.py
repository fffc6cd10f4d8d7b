"""Files of rows: every form gives the same columns, texts survive as they are, and every mistake names its place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from squad_fixtures import write_csv, write_json, write_lines, write_parquet

from cram_hf.tasks.glue_readers import read_table
from cram_hf.tasks.glue_tables import read_tsv

ROWS = [
    {"sentence1": "Geese swim.", "label": "yes"},
    {"sentence1": 'A lone " quote, NA', "label": "null"},
    {"sentence1": "one\u2028two", "label": "None"},
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ("sentence1", "label")}


def write_tsv(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


WRITERS = {
    "a.csv": write_csv,
    "a.tsv": write_tsv,
    "list.json": write_json,
    "data.json": lambda path, rows: write_json(path, {"data": rows}),
    "lines.json": write_lines,
    "A.JSONL": write_lines,
    "a.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_form_gives_the_same_columns(tmp_path: Path, name: str) -> None:
    table = read_table(WRITERS[name](tmp_path / name, ROWS))
    assert table.columns == COLUMNS
    assert table.skipped == 0


@pytest.mark.parametrize(
    ("name", "place"), [("a.csv", "line 3"), ("a.tsv", "line 3"), ("list.json", "record 2"), ("A.JSONL", "line 2")]
)
def test_rows_know_their_place(tmp_path: Path, name: str, place: str) -> None:
    assert read_table(WRITERS[name](tmp_path / name, ROWS)).at(1) == place


def test_json_keeps_types_and_a_missing_key_is_none(tmp_path: Path) -> None:
    table = read_table(
        write_json(tmp_path / "a.json", [{"text": "x", "label": 1}, {"label": 2.5, "text": "y", "n": 0}])
    )
    assert table.columns == {"text": ["x", "y"], "label": [1, 2.5], "n": [None, 0]}


def test_a_quoted_cell_of_a_csv_file_may_hold_commas_and_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"one, ""two""\nthree",1\n\n"x",0\n', encoding="utf-8")
    table = read_table(tmp_path / "a.csv")
    assert table.columns == {"text": ['one, "two"\nthree', "x"], "label": ["1", "0"]}
    assert table.at(1) == "line 5"


def test_tsv_takes_either_line_end_a_byte_order_mark_and_blank_lines_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"\xef\xbb\xbftext\tlabel\r\none\rtwo\t1\r\nx\t0\r\n\r\n\n")
    assert read_table(tmp_path / "a.tsv").columns == {"text": ["one\rtwo", "x"], "label": ["1", "0"]}


def test_tsv_without_a_header_and_with_few_of_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("own\t1\t\tGeese swim.\n", encoding="utf-8")
    table = read_tsv(tmp_path / "a.tsv", header=["source", "label", "mark", "sentence"], only=["sentence", "label"])
    assert table.columns == {"label": ["1"], "sentence": ["Geese swim."]}
    assert table.at(0) == "line 1"


def test_broken_rows_are_left_out_only_where_that_is_asked_for_and_they_are_few(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("a\tb\n1\t2\n3\n4\t5\n", encoding="utf-8")
    table = read_tsv(path, skip_broken=True)
    assert (table.columns, table.skipped, table.at(1)) == ({"a": ["1", "4"], "b": ["2", "5"]}, 1, "line 4")
    path.write_text("a\tb\n1\t2\n3\n4\n", encoding="utf-8")
    with pytest.raises(ValueError, match="2 rows are wrong\n  line 3 has 1 column, but must have 2: a, b\n  line 4 "):
        read_tsv(path, skip_broken=True)


WRONG = [
    ("a.tsv", "a\tb\n1\t2\n3\t4\t5\n", "a.tsv: line 3 has 3 columns, but must have 2: a, b"),
    ("a.tsv", "a\tb\n1\t2\n\n3\t4\n", "a.tsv: line 3 has 1 column, but must have 2: a, b"),
    ("a.tsv", "", "a.tsv: the file is empty; it must hold at least one row"),
    ("a.tsv", "\n\n", "a.tsv: the file is empty; it must hold at least one row"),
    ("a.tsv", "a\tb\n", "a.tsv: there is no row below the header; the file must hold at least one"),
    ("a.tsv", "a\tb\ta\n1\t2\t3\n", "a.tsv: the header has 'a' twice; name each column once"),
    ("a.csv", "", "a.csv: the file is empty"),
    ("a.csv", "a,b\n1\n", "a.csv: line 2 has 1 column, but must have 2: a, b"),
    ("a.csv", 'a,b\n"1" x,2\n', "a.csv: line 2: not valid CSV"),
    ("a.json", " ", "a.json: the file is empty"),
    ("a.json", "[]", "a.json: there is no record; the file must hold at least one"),
    ("a.json", '"text"', "a.json: holds a string, but must hold a list of records"),
    ("a.json", '[{"a": 1}, 2]', "a.json: record 2 is a number, but must be an object"),
    ("a.json", '[{"a": 1', "a.json: not valid JSON: Expecting ',' delimiter at line 1, column 9"),
    ("a.jsonl", '{"a": 1}\n\n{"a"\n', "a.jsonl: line 3: not valid JSON"),
    ("a.parquet", "x", "a.parquet: not a readable parquet file"),
    ("a.txt", "x", "a.txt: unknown extension '.txt'; name the file .csv, .tsv, .json, .jsonl, .parquet"),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG)
def test_a_malformed_file_is_named_with_the_place(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / message}")):
        read_table(tmp_path / name)


def test_of_many_wrong_rows_five_are_shown(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a\tb\n" + "1\n" * 9, encoding="utf-8")
    with pytest.raises(ValueError, match="9 rows are wrong") as error:
        read_table(tmp_path / "a.tsv")
    lines = str(error.value).splitlines()
    assert lines[1] == "  line 2 has 1 column, but must have 2: a, b"
    assert lines[5:] == ["  line 6 has 1 column, but must have 2: a, b", "  ... and 4 more"]


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.json"])
def test_a_file_that_is_not_utf8_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"text\tlabel\n\xe9\t1\n")
    with pytest.raises(ValueError, match=r"not UTF-8 \(byte 0xe9\); save the file as UTF-8"):
        read_table(tmp_path / name)


def test_an_empty_parquet_file_is_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"a": pyarrow.array([], pyarrow.string())}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: there is no row; the file must hold at least one"):
        read_table(tmp_path / "a.parquet")


def test_a_missing_file_offers_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(json.dumps(ROWS), encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"trian\.json: no such file; did you mean .*train\.json\?"):
        read_table(tmp_path / "trian.json")
    with pytest.raises(FileNotFoundError, match=r"is a folder; give one file of \.csv, \.tsv"):
        read_table(tmp_path)
