"""`benchmarks/answers.py` on a tiny model: both steps into one file, what is known is kept, other settings refused."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from scoring_fixtures import qa_folder, squad_flags

ROOT = Path(__file__).parents[1]


@pytest.fixture
def answers(monkeypatch, tmp_path):
    """Runs a step of the script on three questions and returns the report."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for module in ("cpu_engines", "answers"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    script = importlib.import_module("answers")
    model, data, out = qa_folder(tmp_path / "model"), squad_flags(tmp_path)[3], tmp_path / "out.json"

    def answers(step: str, *words: str) -> dict:
        fixed = ["--model", model, "--validation_file", data, "--out", str(out), "--max_length", "128"]
        script.main([step, *fixed, "--specs", "dense", "topk:0.5", *words])
        return json.loads(out.read_text())

    before = torch.get_num_threads()
    yield answers
    torch.set_num_threads(before)


def test_scores_and_speeds_share_a_file_and_are_measured_once(answers):
    first = answers("score", "--engines", "dense-fp32")
    report = answers("score", "--engines", "dense-fp32", "dense-bf16")
    assert [row["engine"] for row in report["scores"]] == ["dense-fp32", "dense-fp32", "dense-bf16", "dense-bf16"]
    assert report["scores"][:2] == first["scores"]
    assert [row["zeros"] for row in report["scores"]] == [0, 0.5, 0, 0.5]
    report = answers("time", "--engines", "dense-bf16", "--questions", "2")
    assert [(row["spec"], row["engine"], row["questions"]) for row in report["speeds"]] == [
        ("dense", "dense-bf16", 2),
        ("topk:0.5", "dense-bf16", 2),
    ]
    for row in report["speeds"]:
        assert row["ms_per_question"] * row["questions_per_second"] == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize("words", [["--questions", "3"], ["--threads", "2"], ["--batch_size", "2"]])
def test_other_settings_do_not_go_into_the_same_file(answers, words):
    answers("time", "--engines", "dense-fp32", "--questions", "2")
    with pytest.raises(SystemExit, match=r"^error: .*out\.json .*; choose another --out\.$"):
        answers("time", "--engines", "dense-bf16", "--questions", "2", *words)


def test_the_table_shows_speeds_without_a_score_and_marks_the_fastest_of_all(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    speed = importlib.import_module("speed")
    run = {
        "command": "c",
        "created": "d",
        "dirty": False,
        "versions": {},
        "peers": {},
        "commit": "e",
        "instructions": "g",
    }
    run["machine"] = {"cpu": "f", "threads": 1}
    facts = {"spec": "dense", "questions": 2, "questions_per_second": 1, "ms_per_question": 1000, "run": run}
    content = {
        "settings": {"model": "runs/tiny", "batch_size": 1},
        "scores": [{**facts, "engine": "dense-fp32", "f1": 60}],
        "speeds": [{**facts, "engine": name, "speed_up": up} for name, up in (("dense-fp32", 1), ("openvino", 2))],
    }
    text = speed.answers(speed.RUNS / "answers.json", content)
    assert "| dense | PyTorch fp32 | 60.00 | 1.0 | 1000.0 | 1.00 |" in text
    assert "| dense | OpenVINO fp32 | - | 1.0 | 1000.0 | **2.00** |" in text
