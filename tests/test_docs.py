"""The documents: links lead somewhere, code blocks run, tables are what the results files give."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import rows
from transformers import Trainer

from cram_hf import CrAMTrainer

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_in_code_style_exist(document):
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for name in re.findall(r"`((?:cram_hf|tests|benchmarks|configs|docs|results)/[\w./-]+\.\w+)`", text):
        assert (ROOT / name).exists(), f"{document.name} names {name}"


def test_no_document_or_result_names_a_path_of_a_machine():
    for path in [*DOCUMENTS, *(ROOT / "results").rglob("*"), *(ROOT / "configs").rglob("*.*")]:
        if path.is_file():
            found = re.findall(
                r"(?<![\w.:/~-])/(?:work|home|root|tmp|mnt|Users)/[\w./-]*", path.read_text(encoding="utf-8")
            )
            assert not found, f"{path.name}: {found}"


def run_block(code: str) -> torch.Tensor:
    names: dict[str, torch.Tensor] = {}
    exec(compile(code, "README.md", "exec"), names)
    return names["pruned_loss"].detach()


def test_python_blocks_of_the_readme_run_and_say_the_truth():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        torch.manual_seed(0)
        cram = run_block(block)
        torch.manual_seed(0)
        plain = run_block(
            block.replace("rho=0.01", "rho=0, masked=False").replace(
                "weights, TopK(0.7), rho", "weights, TopK(0), rho"
            )
        )
        assert float(plain) > 100 * float(cram)


@pytest.mark.parametrize(("side", "kind"), [("-", Trainer), ("+", CrAMTrainer)])
def test_both_sides_of_the_readme_diff_train(side, kind, make_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where its output_dir goes
    (block,) = re.findall(r"```diff\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    code = "\n".join(line[1:] for line in block.splitlines() if line[:1] in (side, " ", ""))
    names = {"model": make_model(), "train": rows("question_answering", 8), "dev": rows("question_answering", 8)}
    exec(compile(code, "README.md", "exec"), names)
    assert type(names["trainer"]) is kind
    assert names["trainer"].state.global_step == 3  # one update an epoch
    scored = {key for key in names["trainer"].evaluate() if key.endswith("_loss")}
    compressions = {f"eval_{spec.replace(':', '_')}_loss" for spec in getattr(names["args"], "eval_compressors", [])}
    assert scored == {"eval_loss", *compressions}
    assert bool(compressions) == (side == "+")


def test_every_make_target_of_the_documents_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for document in DOCUMENTS:
        named = re.findall(r"(?:^|&& |`)make ([\w-]+)", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(named) <= targets, document.name


@pytest.mark.parametrize("script", ["docs/generate.py", "docs/speed.py"])
def test_results_are_what_the_results_files_give(script):
    check = subprocess.run([sys.executable, script, "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr


def test_every_recipe_of_the_table_exists_and_every_file_is_in_it():
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    for path in (ROOT / "configs").glob("*/*.yaml"):
        name = path.name if path.parent.name == "squad" else f"{path.parent.name}/{path.name}"
        stem = path.stem.removeprefix("bert_base_cram_plus_")
        assert f"`{name}`" in text or f"`{stem}`" in text, path
