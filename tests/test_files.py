"""What the readers of all tasks share; each task's own tests show the sentences in its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cram_hf.tasks.files import (
    count_problems,
    extension_problems,
    holds_lines,
    json_lines,
    no_such_file,
    source_problems,
)


def error_of(text: str) -> json.JSONDecodeError:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text)
    return caught.value


def test_a_first_line_that_is_whole_tells_json_lines_from_broken_json():
    assert holds_lines(error_of('{"a": 1}\n{"a": 2}'))
    assert not holds_lines(error_of('{"a": 1} {"a": 2}'))
    assert not holds_lines(error_of('{"a":\n'))


def test_blank_lines_are_counted_and_separators_inside_a_string_end_nothing():
    found = json_lines(Path("x"), ['{"a": "\u2028"}', "", "2"])
    assert list(found) == [(1, {"a": "\u2028"}), (3, 2)]


def test_a_near_name_of_the_folder_is_offered(tmp_path):
    (tmp_path / "train.json").touch()
    assert str(no_such_file(tmp_path / "trian.json", (".json",))).endswith(f"did you mean {tmp_path / 'train.json'}?")
    assert str(no_such_file(tmp_path / "other" / "x.json", (".json",))).endswith("; check the path")
    assert str(no_such_file(tmp_path, (".json", ".csv"))).endswith("is a folder; give one file of .json, .csv")


def test_every_problem_of_the_flags_is_told():
    assert count_problems({"a": 0, "b": None, "c": 1}) == ["--a 0: must be at least 1"]
    assert extension_problems({"train_file": "a.XLS", "test_file": "b.CSV"}, (".csv",)) == [
        "--train_file a.XLS: unknown extension; must be one of .csv"
    ]
    both = source_problems({"train_file": "a.csv"}, (".csv",), "a/set", None, "rows")
    assert both == [
        "--dataset_name a/set and --train_file a.csv are both given; take the rows either from the Hub or from files"
    ]
    assert source_problems({}, (), None, "plain", "rows") == ["--dataset_config_name plain needs --dataset_name"]
