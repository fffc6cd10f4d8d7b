"""Text is read as it stands in every form of file, from folders of the Hub's form, and apart for evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlm_fixtures import LINES, write_lines
from squad_fixtures import SHARED, write_csv, write_json, write_parquet
from squad_fixtures import write_lines as write_json_lines

from cram_hf.tasks.mlm_arguments import MlmArguments
from cram_hf.tasks.mlm_sources import is_kept_apart, load_texts
from cram_hf.tasks.mlm_text import read_texts

RECORDS = [{"id": 1, "text": "one, two"}, {"id": 2, "text": "  "}, {"id": 3, "text": "three\nfour"}]
TEXTS = ["one, two", "three\nfour"]


class TestReading:
    def test_a_text_file_has_a_text_a_line_and_blank_lines_are_none(self, tmp_path):
        assert list(read_texts(write_lines(tmp_path / "a.txt"))) == [line for line in LINES if line]

    def test_only_line_feeds_end_a_line_and_a_byte_order_mark_is_dropped(self, tmp_path):
        (tmp_path / "a.txt").write_bytes("\ufeffa\u2028b\x0bc\r\nd\n\ne".encode())
        assert list(read_texts(tmp_path / "a.txt")) == ["a\u2028b\x0bc", "d", "e"]

    @pytest.mark.parametrize(
        ("name", "write"),
        [
            ("a.json", write_json),
            ("lines.json", write_json_lines),
            ("a.jsonl", write_json_lines),
            ("a.csv", write_csv),
            ("a.parquet", write_parquet),
        ],
    )
    def test_every_form_of_records_gives_the_same_texts(self, tmp_path, name, write):
        assert list(read_texts(write(tmp_path / name, RECORDS))) == TEXTS

    def test_a_json_object_with_data_holds_records(self, tmp_path):
        assert list(read_texts(write_json(tmp_path / "a.json", {"data": RECORDS}))) == TEXTS
        assert list(read_texts(write_json(tmp_path / "b.json", RECORDS[0]))) == ["one, two"]

    def test_na_and_null_are_texts(self, tmp_path):
        (tmp_path / "a.csv").write_text("text\nNA\nnull\n")
        assert list(read_texts(tmp_path / "a.csv")) == ["NA", "null"]

    def test_large_files_are_read_piece_by_piece(self, tmp_path):
        (tmp_path / "a.txt").write_bytes(b"good\n" + b"\xff\n")
        assert next(read_texts(tmp_path / "a.txt")) == "good"

    @pytest.mark.parametrize("name", ["books_valid.txt", "sotu_valid.txt"])
    def test_real_text_loads(self, name):
        path = SHARED / "text" / name
        if not path.is_file():
            pytest.skip(f"needs {path}")
        lines = path.read_text(encoding="utf-8").split("\n")
        assert list(read_texts(path)) == [line for line in lines if line.strip()]


class TestBadFiles:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.txt", b"fine\ncaf\xe9 au lait\n", r"a\.txt: line 2: not UTF-8 at byte 8 of the file \(0xe9\); save"),
            ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', r"line 2: not UTF-8 at byte 24 of the file"),
            ("a.txt", b" \n\n", "the file is empty; it must hold at least one line or record with text"),
            ("a.csv", b"", "the file is empty"),
            ("a.json", b"[]", "the file is empty"),
            ("a.json", b'[{"txt": "a", "id": 1}]', "record 1 has no column 'text'; it has txt, id. Name the column"),
            ("a.jsonl", b'{"text": "a"}\n{"txt": 1}\n', "line 2 has no column 'text'; it has txt"),
            ("a.csv", b"txt,id\na,b\n", "the header has no column 'text'; it has txt, id"),
            ("a.jsonl", b'{"text": "a"}\n{"text"\n', "line 2: not valid JSON"),
            ("a.json", b'{"text": "a"', "not valid JSON"),
            ("a.json", b'[{"text": 3}]', "record 1: 'text' is 3, but must be a string"),
            ("a.jsonl", b'"a"\n', "line 1 is 'a', but must be a record with the key 'text'"),
            ("a.json", b"3", "the top level is 3, but must be a list of records"),
            ("a.csv", b"text\na,b\n", "line 2: the number of cells is 2, but the header has 1: text; quote texts"),
            ("a.csv", b"text,id\na,1\n\nb\n", "line 4: the number of cells is 1, but the header has 2: text, id"),
            ("a.csv", b'text\n"a\n', "not valid CSV"),
            ("a.parquet", b"PAR2", "not a readable parquet file"),
        ],
    )
    def test_name_the_file_and_the_place(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message) as error:
            list(read_texts(tmp_path / name))
        assert str(tmp_path / name) in str(error.value)

    def test_a_parquet_file_without_text_or_with_none_in_it(self, tmp_path):
        with pytest.raises(ValueError, match="the table has no column 'text'; it has sentence"):
            list(read_texts(write_parquet(tmp_path / "a.parquet", [{"sentence": "a"}])))
        with pytest.raises(ValueError, match="row 2: 'text' is None, but must be a string"):
            list(read_texts(write_parquet(tmp_path / "b.parquet", [{"text": "a"}, {"text": None}])))

    def test_a_name_that_is_nearly_right_is_offered(self, tmp_path):
        write_lines(tmp_path / "train.txt")
        with pytest.raises(FileNotFoundError, match=r"no such file; did you mean .*train\.txt\?"):
            list(read_texts(tmp_path / "trian.txt"))
        with pytest.raises(FileNotFoundError, match=r"is a folder; give one file of \.txt, \.json"):
            list(read_texts(tmp_path))


class TestSources:
    def test_every_twentieth_text_is_kept_apart_with_5_percent(self):
        assert [i for i in range(100) if is_kept_apart(i, 5)] == [19, 39, 59, 79, 99]
        assert sum(is_kept_apart(i, 37) for i in range(1000)) == 370

    @pytest.mark.parametrize("streaming", [False, True])
    def test_without_a_validation_set_the_two_parts_make_up_the_whole(self, tmp_path, streaming):
        path = write_lines(tmp_path / "a.txt", [f"text {i}" for i in range(45)])
        args = MlmArguments(train_file=path, streaming=streaming)
        parts = {part: load_texts(args, part) for part in ("train", "evaluation")}
        kept = [row["text"] for row in parts["evaluation"].rows]
        assert kept == ["text 19", "text 39"]
        assert sorted([*kept, *(row["text"] for row in parts["train"].rows)]) == sorted(f"text {i}" for i in range(45))
        assert parts["train"].source == f"{path}, 95 % of the texts"

    def test_with_a_validation_file_all_training_texts_are_trained_on(self, tmp_path):
        train, dev = write_lines(tmp_path / "a.txt", times=9), write_lines(tmp_path / "b.txt")
        args = MlmArguments(train_file=train, validation_file=dev)
        assert (len(load_texts(args, "train").rows), len(load_texts(args, "evaluation").rows)) == (45, 5)
        assert load_texts(args, "evaluation").source == dev

    def test_too_few_texts_to_keep_some_apart(self, tmp_path):
        args = MlmArguments(train_file=write_lines(tmp_path / "a.txt"))
        with pytest.raises(ValueError, match="5 % of its 5 texts leave none to evaluate on; give --validation_file"):
            load_texts(args, "evaluation")

    def test_no_text_says_what_to_type(self, tmp_path):
        with pytest.raises(ValueError, match=r"--do_train needs text; give --train_file text\.txt or --dataset_name"):
            load_texts(MlmArguments(validation_file=write_lines(tmp_path / "a.txt")), "train")
        with pytest.raises(ValueError, match="--do_eval needs text; give --validation_file"):
            load_texts(MlmArguments(), "evaluation")

    @pytest.mark.parametrize("streaming", [False, True])
    def test_a_data_set_gives_its_splits(self, tmp_path, monkeypatch, streaming):
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        data = tmp_path / "set"
        data.mkdir()
        for split, count in (("train", 3), ("validation", 2)):
            rows = [{"id": i, "text": f"{split} {i}"} for i in range(count)]
            (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        args = MlmArguments(dataset_name=str(data), streaming=streaming)
        assert list(load_texts(args, "train").rows) == [{"text": f"train {i}"} for i in range(3)]
        assert list(load_texts(args, "evaluation").rows) == [{"text": "validation 0"}, {"text": "validation 1"}]
        assert load_texts(args, "train").source == f"{data} (train)"

    def test_a_data_set_without_text_or_out_of_reach(self, tmp_path, monkeypatch):
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "train.jsonl").write_text('{"sentence": "a"}\n')
        with pytest.raises(ValueError, match=r"--dataset_name .*set: no column 'text'; it has sentence\. Name the"):
            load_texts(MlmArguments(dataset_name=str(tmp_path / "set")), "train")
        with pytest.raises(ValueError, match=r"--dataset_name no/such: could not load it from the Hub .*--train_file"):
            load_texts(MlmArguments(dataset_name="no/such"), "train")

    def test_a_malformed_data_set_is_told_in_one_line(self, tmp_path, monkeypatch):
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text"\n')
        message = (
            r"could not load it from the Hub \(ArrowInvalid: JSON parse error: Missing a colon .* in row 1\)\. Check"
        )
        with pytest.raises(ValueError, match=message) as error:
            load_texts(MlmArguments(dataset_name=str(tmp_path)), "train")
        assert "\n" not in str(error.value)


def test_mistakes_in_the_flags_are_named_together():
    with pytest.raises(ValueError, match=r"--mlm_probability 1\.5: must be between 0 and 1") as error:
        MlmArguments(
            mlm_probability=1.5,
            max_seq_length=0,
            validation_split_percentage=100,
            train_file="a.pdf",
            dataset_name="x/y",
            vocab_size=100,
        )
    message = str(error.value)
    assert "--max_seq_length 0: must be at least 1" in message
    assert "--validation_split_percentage 100: must be from 1 to 99" in message
    assert "--train_file a.pdf: unknown extension; must be one of .txt, .json, .jsonl, .csv, .parquet" in message
    assert "--dataset_name x/y and --train_file a.pdf are both given" in message
    assert "--vocab_size 100 needs --train_tokenizer" in message
    with pytest.raises(ValueError, match="--train_tokenizer needs training text") as error:
        MlmArguments(train_tokenizer=True, dataset_config_name="v1")
    assert "--dataset_config_name v1 needs --dataset_name" in str(error.value)
    with pytest.raises(ValueError, match="would read the whole data set first"):
        MlmArguments(train_tokenizer=True, streaming=True, dataset_name="x/y")


def test_paths_are_taken_as_text_or_path(tmp_path: Path):
    assert list(read_texts(str(write_lines(tmp_path / "a.txt")))) == list(read_texts(tmp_path / "a.txt"))
