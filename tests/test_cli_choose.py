"""`cram-hf choose`: what it answers, tries and keeps, on written-down scores and on a tiny model from end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from scoring_fixtures import mlm_flags, mlm_folder, qa_folder, squad_flags

from cram_hf import parse_compressor, scoring
from cram_hf.choosing import sensitivity
from cram_hf.cli import main
from cram_hf.cli.choose_text import _remarks
from cram_hf.results import Results, Row


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return qa_folder(tmp_path_factory.mktemp("models") / "multi")


@pytest.fixture
def squad(tmp_path):
    return [*squad_flags(tmp_path), "--subset", "2"]


@pytest.fixture
def written(monkeypatch):
    """Scores as `written["rule"](spec, sparsity, examples)` says; `written["specs"]` are those that were asked for."""
    rules: dict[str, Any] = {"rule": lambda spec, sparsity, examples: 80 - 10 * sparsity, "specs": []}

    def score(trainer, sets, compressor, weights=None, spec=None):
        spec = spec or "dense"
        parts = spec.partition(" ")[0].split(":")
        sparsity = {"dense": 0.0, "nm": 0.5}.get(parts[0])
        if sparsity is None:
            sparsity = float(parts[1]) if parts[0] == "topk" else float(Path(parts[1]).stem)
        rules["specs"].append(f"{spec} {sets.examples}")
        value = rules["rule"](spec, sparsity, sets.examples)
        metrics = {"f1": value, "loss": 3 - value / 40}
        return Row(spec, metrics, sparsity, sparsity / 2, 0.1, sets.examples), np.array([value])

    monkeypatch.setattr(scoring, "score", score)
    monkeypatch.setattr(sensitivity, "score", score)
    return rules


def choose(capsys, *words: str) -> dict[str, Any]:
    code = main(["choose", *words, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert code == (0 if result["ok"] else 1)
    return result


def refused(capsys, *words: str) -> str:
    assert main(["choose", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    return told.err[told.err.index("error: ") :]


class TestAnswers:
    def test_one_for_each_pattern_with_all_points(self, model, squad, capsys, written):
        result = choose(capsys, model, *squad, "--max-drop", "6")
        assert [answer["pattern"] for answer in result["answers"]] == ["global", "layer", "nm:2:4"]
        assert [answer["spec"] for answer in result["answers"]] == ["topk:0.6", "topk:0.6:layer", "nm:2:4"]
        assert [answer["drop"] for answer in result["answers"]] == pytest.approx([6, 6, 5])
        assert result["examples"] == {"all": 3, "subset": 2}
        assert len({(point["on"], point["spec"]) for point in result["tried"]}) == len(result["tried"])
        assert len(result["tried"]) + 2 == len(written["specs"])  # and the two dense scores
        assert "nm:2:4 2" not in written["specs"]
        assert (result["step"], result["metric"], result["comparison"]) == (0.01, "f1", None)
        assert {"command", "versions", "machine", "commit"} <= result.keys()

    def test_the_text_says_what_was_found_tried_and_typed_next(self, model, squad, capsys, written):
        written["rule"] = lambda spec, sparsity, examples: 80 - (9 if examples == 3 else 8) * sparsity
        assert main(["choose", model, *squad, "--max_drop", "6", "--patterns", "global", "2:4"]) == 0
        told = capsys.readouterr().out
        assert "f1 80 dense, and 74 or more wanted, on 3 examples (tried first on 2 of them)." in told
        assert "| global  | topk:0.66                 |   66.0 % | 74.06 | 5.94 |" in told
        assert "global: the whole set refutes topk:0.75, which the sample had found: stepped down." in told
        assert f"cram-hf prune {model} --to topk:0.66 --out FOLDER" in told
        assert "global, subset: 0.50+ 0.75+ 0.87- 0.81- 0.78- 0.76-\n" in told
        assert "  nm:2:4, all: 0.50+" in told

    def test_nothing_within_the_budget_is_exit_code_1(self, model, squad, capsys, written):
        written["rule"] = lambda spec, sparsity, examples: 80.0 if spec == "dense" else 60.0
        assert main(["choose", model, *squad, "--max-drop", "1"]) == 1
        told = capsys.readouterr().out
        assert "| nm:2:4  | none                      |        - | 60.00 | 20.00 |" in told
        assert "global: not even topk:0.01 is within the budget on the sample." in told

    def test_without_a_smaller_sample_the_whole_set_is_searched(self, model, squad, capsys, written):
        result = choose(capsys, model, *squad, "--subset", "3", "--max-drop", "6", "--patterns", "lamp")
        assert {point["on"] for point in result["tried"]} == {"all"}
        assert result["answers"][0]["spec"] == "topk:0.6:lamp"
        assert result["answers"][0]["subset_spec"] is None

    def test_another_metric(self, model, squad, capsys, written):
        result = choose(capsys, model, *squad, "--metric", "loss", "--max-drop", "0.1", "--patterns", "global")
        assert result["answers"][0]["spec"] == "topk:0.4"
        assert result["answers"][0]["drop"] == pytest.approx(0.1)

    def test_a_score_that_is_not_finite_is_no_score(self, model, squad, capsys, written):
        written["rule"] = lambda spec, sparsity, examples: math.inf if sparsity > 0.4 else 80.0
        result = choose(capsys, model, *squad, "--max-drop", "6")
        assert [answer["spec"] for answer in result["answers"]] == ["topk:0.4", "topk:0.4:layer", None]
        assert (result["answers"][2]["score"], result["answers"][2]["drop"]) == (None, None)


class TestGoingOn:
    def test_nothing_is_measured_twice(self, model, squad, tmp_path, capsys, written):
        words = [model, *squad, "--max-drop", "6", "--out", str(tmp_path / "choice")]
        first = choose(capsys, *words)
        assert json.loads((tmp_path / "choice" / "choice.json").read_text()) == first
        asked = list(written["specs"])
        again = choose(capsys, *words)
        assert written["specs"] == asked
        assert again["answers"] == first["answers"]
        choose(capsys, *words[:-4], "--max-drop", "5", *words[-2:])
        assert len(set(written["specs"])) == len(written["specs"])
        assert Results.load(tmp_path / "choice" / "all" / "results.json").rows[0].spec == "dense"

    def test_another_sample_is_refused(self, model, squad, tmp_path, capsys, written):
        words = ["--max-drop", "6", "--out", str(tmp_path / "choice")]
        choose(capsys, model, *squad, *words)
        told = refused(capsys, model, *squad, *words, "--subset", "1")
        assert "config: subset was 2, and is 1 now" in told


class TestAllocated:
    def test_spreads_the_budget_by_what_layers_cost_alone_and_is_compared_with_global(
        self, model, squad, tmp_path, capsys, written
    ):
        def rule(spec, sparsity, examples):
            if " in " in spec:  # a layer alone: the queries cost nothing
                return 80.0 if "query" in spec else 80 - 10 * sparsity
            return 80 - (5 if spec.startswith("layers:") else 10) * sparsity

        written["rule"] = rule
        words = ["--max-drop", "3", "--patterns", "global", "allocated", "--calibration", "1"]
        result = choose(capsys, model, *squad, *words, "--out", str(tmp_path / "choice"))
        spec = result["answers"][1]["spec"]
        assert spec == f"layers:{tmp_path}/choice/layers/0.6.json"
        assert result["comparison"] == {
            "sparsity": 0.6,
            "allocated": 77.0,
            "global": 74.0,
            "gain": pytest.approx(3),
            "global_highest": 0.3,
            "beats": True,
        }
        assert result["calibration"]["examples"] == 1
        zeros = {name: count / size for name, size, count in parse_compressor(spec).layers}
        assert all(share == 1.0 for name, share in zeros.items() if "query" in name)
        text = main(["choose", model, *squad, *words, "--out", str(tmp_path / "choice")])
        assert text == 0
        assert (
            "allocated beats global: f1 77.0000 against 74.0000 at 60.0 % sparsity on the same examples; within"
            in capsys.readouterr().out
        )

    def test_says_when_it_does_not_beat_global(self, model, squad, tmp_path, capsys, written):
        words = ["--max-drop", "3", "--patterns", "allocated", "--calibration", "1", "--out", str(tmp_path / "choice")]
        assert main(["choose", model, *squad, *words]) == 0
        told = capsys.readouterr().out
        assert "allocated does not beat global: f1 77.0000 against 77.0000 at 30.0 % sparsity on the same exa" in told
        assert "within the budget it goes" not in told

    def test_a_better_score_at_a_sparsity_below_that_of_global_is_no_win(
        self, model, squad, tmp_path, capsys, written
    ):
        def rule(spec, sparsity, examples):
            layers = spec.startswith("layers:")
            return 80 - ((2 if sparsity <= 0.2 else 99) if layers else 10) * sparsity

        written["rule"] = rule
        words = ["--max-drop", "3", "--patterns", "allocated", "global", "--calibration", "1"]
        assert main(["choose", model, *squad, *words, "--out", str(tmp_path / "choice")]) == 0
        told = capsys.readouterr().out
        assert "allocated does not beat global: f1 79.6000 against 78.0000 at 20.0 % sparsity" in told
        assert "within the budget it goes to 20.0 %, global to 30.0 %." in told

    def test_what_it_answers_can_be_pruned(self, model, squad, tmp_path, capsys):
        out, train = tmp_path / "choice", ["--train_file", str(tmp_path / "squad.json")]
        words = ["--metric", "loss", "--max-drop", "3", "--patterns", "allocated", "--calibration", "2"]
        result = choose(capsys, model, *squad, *train, *words, "--out", str(out))
        spec = result["answers"][0]["spec"]
        assert result["calibration"]["source"].endswith("squad.json")
        alone = Results.load(out / "layers_alone" / "results.json")
        assert len(alone.rows) == 1 + 12 * 4
        for method in (["--method", "magnitude"], ["--method", "sparsegpt", "--data", str(tmp_path / "squad.json")]):
            pruned = str(tmp_path / method[1])
            assert main(["prune", model, "--to", spec, "--out", pruned, *method, "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["sparsity"] == result["answers"][0]["sparsity"]
            tensors = load_file(f"{pruned}/model.safetensors")
            for name, _, zeros in parse_compressor(spec).layers:
                assert int((tensors[name] == 0).sum()) == zeros


def test_a_masked_language_model_by_its_perplexity_on_its_first_rows(tmp_path, capsys):
    words = ["--max-drop", "20", "--subset", "3", "--patterns", "global"]
    result = choose(capsys, mlm_folder(tmp_path / "bert"), *mlm_flags(tmp_path), *words)
    assert result["metric"] == "perplexity"
    assert result["examples"]["subset"] == 3
    for point in result["tried"]:
        worse = point["score"] - result["dense"][point["on"]]
        assert point["drop"] == pytest.approx(worse)
        assert point["within"] is (worse <= 20)


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--max-drop", "-1"], "--max-drop -1.0: a number, 0 or more."),
            (["--max-drop", "nan"], "--max-drop nan: a number, 0 or more."),
            (["--max-drop", "1", "--subset", "0"], "--subset 0: a whole number from 1 on."),
            (
                ["--max-drop", "1", "--patterns", "gloabl"],
                "there are global, layer, erk, lamp, nm:N:M and allocated. Did",
            ),
            (["--max-drop", "1", "--patterns", "nm:2:4", "2:4"], "a pattern is named twice"),
            (["--max-drop", "1", "--patterns", "nm:5:4"], "nm: 5:4 was given"),
            (["--max-drop", "1", "--patterns", "allocated"], "needs --out FOLDER for the layers' counts"),
            (["--max-drop", "1", "--patterns", "allocated", "--out", "a+b"], "without ':' and '+'"),
            (["--max-drop", "1", "--metric", "f11"], "--metric f11: the task has f1, loss. Did you mean f1?"),
            (["--max-drop", "90"], "the dense model has f1 80, so this would allow anything"),
            ([], "the following arguments are required: --max-drop"),
        ],
    )
    def test_one_message(self, words, sentence, model, squad, capsys, written):
        assert sentence in refused(capsys, model, *squad, *words)


def test_a_note_that_ends_in_a_stop_gets_no_second_one():
    answer = {"pattern": "nm:2:4", "spec": None, "note": "does not fit the model: leave them out."}
    assert _remarks({"answers": [answer], "comparison": None}) == ["nm:2:4: does not fit the model: leave them out."]
