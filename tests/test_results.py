"""The results file: what is written is read back, what does not fit is said all at once, tokens never get in."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from results_fixtures import TOKEN, make_results, row

from cram_hf.results import Results, write_whole

EXAMPLE = Path(__file__).parents[1] / "docs" / "results-schema.md"


def document(**changes: Any) -> dict[str, Any]:
    return make_results().document() | changes


def load(tmp_path: Path, content: object) -> Results:
    path = tmp_path / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return Results.load(path)


def test_what_was_saved_is_loaded_equal(tmp_path):
    results = make_results()
    results.save(tmp_path / "new" / "results.json")
    assert Results.load(tmp_path / "new" / "results.json") == results
    assert os.listdir(tmp_path / "new") == ["results.json"]


def test_a_run_without_training_commit_and_gpu_is_loaded_equal(tmp_path):
    results = make_results(training=None, commit=None, dirty=False)
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results


def test_existing_results_are_not_overwritten_unless_told(tmp_path):
    path = tmp_path / "results.json"
    make_results().save(path)
    with pytest.raises(FileExistsError, match="results are never overwritten: choose another --output_dir"):
        make_results(seed=8).save(path)
    assert Results.load(path).seed == 7
    make_results(seed=8).save(path, overwrite=True)
    assert Results.load(path).seed == 8


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_whole(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert os.listdir(tmp_path) == ["a.json"]
    assert path.read_bytes() == b"old"


def test_numbers_of_numpy_are_stored_and_a_score_that_is_not_finite_is_null(tmp_path):
    metrics = {"f1": np.float32(0.5), "exact_match": math.nan, "total": np.int64(3)}
    make_results(rows=(row("dense", 1.0, 0.0, metrics=metrics),)).save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json").rows[0].metrics == {"f1": 0.5, "exact_match": None, "total": 3}


@pytest.mark.parametrize("key", ["token", "hub_token", "push_to_hub_token"])
def test_a_token_in_the_configuration_is_never_written(key, tmp_path):
    config = {key: TOKEN, "nested": [{key: "secret"}, TOKEN], "tokenizer_name": "bert"}
    make_results(config=config, command=f"python x --y={TOKEN}").save(tmp_path / "results.json")
    text = (tmp_path / "results.json").read_text()
    assert TOKEN not in text
    assert "secret" not in text
    assert json.loads(text)["config"] == {"nested": [{}, "TOKEN_REMOVED"], "tokenizer_name": "bert"}


def test_every_problem_is_reported_at_once_with_the_file_name(tmp_path):
    broken = document(seed="7", rows=[document()["rows"][0] | {"sparsity": 1.5, "metrics": {"exact_match": 3}}, 5])
    del broken["label"]
    broken["sed"] = 1
    broken["machine"] = broken["machine"] | {"gpu": 3}
    with pytest.raises(ValueError, match=r"results\.json: 7 problems") as caught:
        load(tmp_path, broken)
    assert str(caught.value).splitlines()[1:] == [
        '- "label" is missing',
        "- \"seed\" is '7'; it must be a whole number",
        '- unknown key "sed"; did you mean "seed"?',
        '- machine: "gpu" is 3; it must be a non-empty text or null',
        '- row 1 (dense): "sparsity" is 1.5; it must be a number in [0, 1]',
        '- row 1 (dense): the main metric "f1" is missing from "metrics", which has exact_match',
        "- row 2 is 5; a row is an object with spec, metrics, sparsity, model_sparsity, seconds, examples",
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", r"results\.json: not a results file, it is not valid JSON"),
        ([], "the file holds a list; a results file holds one JSON object"),
        ({"f1": 3}, '"schema" is None; a results file of cram_hf says "cram_hf/results"'),
        (document(schema_version=2), '"schema_version" is 2; this release reads version 1.*pip install -U cram-hf'),
        (document(rows=[]), r'"rows" is \[\]; it must be a list of at least one row'),
        (document(rows=document()["rows"] * 2), "the spec appears twice; one row a spec"),
        (document(training={"updates": 1, "epochs": None, "seconds": 1}), 'training: "loss" is missing'),
        (document(surprise=1), 'unknown key "surprise"; allowed are schema, schema_version, task'),
    ],
)
def test_a_file_that_is_no_results_file_is_refused(content, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        load(tmp_path, content)


def test_results_that_do_not_fit_cannot_be_made():
    with pytest.raises(ValueError, match="results: 1 problem\n- \"label\" is ''; it must be a non-empty text"):
        make_results(label="")


def test_scores_are_found_by_compression_and_metric():
    results = make_results()
    assert results.score("topk:0.5") == 76.0
    assert results.score("topk:0.5", "exact_match") == 66.0
    assert results.score("nm:4:8") is None
    assert results.score("dense", "accuracy") is None


def test_the_example_in_the_documentation_is_a_results_file(tmp_path):
    example = re.findall(r"```json\n(.*?)```", EXAMPLE.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert load(tmp_path, example).label == "example"


def test_the_documentation_names_every_key():
    text = EXAMPLE.read_text(encoding="utf-8")
    keys = [*document(), *document()["rows"][0], *document()["machine"], *document()["training"]]
    assert [key for key in keys if f"`{key}`" not in text] == []
