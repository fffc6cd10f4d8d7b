"""Every GLUE recipe parses with a task's name, comments its keys, and its baseline is fair to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cram_hf import CrAMArguments
from cram_hf.config import Parser
from cram_hf.loading import ModelArguments
from cram_hf.report import OutputArguments
from cram_hf.tasks.glue import Glue

RECIPES = sorted((Path(__file__).parents[1] / "configs" / "glue").glob("*.yaml"))


def raw(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def parse(path: Path, *words: str) -> tuple[Any, ...]:
    parser = Parser((ModelArguments, Glue.Arguments, CrAMArguments, OutputArguments), description="")
    return parser.parse([str(path), "--bf16", "false", *words])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
class TestRecipe:
    def test_parses_into_what_it_says(self, path: Path, tmp_path: Path) -> None:
        model, task, args, _ = parse(path, "--task_name", "RTE", "--output_dir", str(tmp_path))
        assert model.model_name_or_path == raw(path)["model_name_or_path"]
        assert (task.task_name, task.max_seq_length) == ("rte", 128)
        assert args.learning_rate == float(raw(path)["learning_rate"])
        assert args.compressors == raw(path).get("compressors", [])
        assert args.do_train
        assert args.do_eval

    def test_asks_for_the_task(self, path: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="--task_name"):
            parse(path, "--output_dir", str(tmp_path))

    def test_opens_with_a_comment_and_explains_every_key(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("# ")
        assert all("#" in line for line in lines)
        assert not path.stem.startswith("bert_base") or any("recalled" in line for line in lines[:3])

    def test_evaluates_what_it_trains_for(self, path: Path) -> None:
        assert set(raw(path).get("compressors", [])) <= set(raw(path)["eval_compressors"])


@pytest.mark.parametrize("model", ["minilm", "bert_base"])
def test_adamw_makes_as_many_passes_as_cram(model: str) -> None:
    adamw, cram = (raw(RECIPES[0].with_name(f"{model}_{kind}.yaml")) for kind in ("adamw", "cram_plus_multi"))
    assert adamw["num_train_epochs"] == 2 * cram["num_train_epochs"]
    chosen = {"num_train_epochs", "label", "learning_rate"}
    assert all(adamw[key] == cram[key] for key in set(adamw) & set(cram) - chosen)
