"""Every recipe parses against its script, comments its keys and names a run that its baseline is fair to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cram_hf import CrAMArguments
from cram_hf.config import Parser
from cram_hf.loading import ModelArguments
from cram_hf.report import OutputArguments
from cram_hf.tasks.squad import Squad

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "configs" / "squad").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
class TestRecipe:
    def test_parses_into_what_it_says(self, path, tmp_path):
        parser = Parser((ModelArguments, Squad.Arguments, CrAMArguments, OutputArguments), description="")
        words = [str(path), "--output_dir", str(tmp_path), "--bf16", "false"]
        model, task, args, _ = parser.parse(words)
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert model.model_name_or_path == raw["model_name_or_path"]
        assert args.learning_rate == float(raw["learning_rate"])
        assert args.compressors == raw.get("compressors", [])
        assert task.max_seq_length == raw["max_seq_length"]
        assert args.do_train
        assert args.do_eval

    def test_opens_with_a_comment_and_explains_its_method(self, path, tmp_path):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("# ")
        for line in lines:
            assert "#" in line, f"{line} has no comment"
        assert not path.stem.startswith("bert_base") or "recalled" in lines[1]

    def test_evaluates_what_it_trains_for(self, path, tmp_path):
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert set(raw.get("compressors", [])) - {"topk:0"} <= set(raw["eval_compressors"])


@pytest.mark.parametrize("stem", ["minilm", "demo"])
def test_adamw_makes_as_many_passes_as_cram(stem):
    adamw, cram = (
        yaml.safe_load((ROOT / "configs" / "squad" / f"{stem}_{kind}.yaml").read_text("utf-8"))
        for kind in ("adamw", "cram_plus_multi")
    )
    assert adamw["num_train_epochs"] == 2 * cram["num_train_epochs"]
    same = set(adamw) & set(cram) - {"num_train_epochs", "label", "learning_rate"}  # each has its own best one
    assert all(adamw[key] == cram[key] for key in same)
