"""The examples run as they stand, stay short, and show that CrAM bears the pruning that plain training does not."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel, BertTokenizer

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(name: str, *words: str) -> dict[str, list[float]]:
    """The printed table: label -> scores, dense first."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(ROOT / "examples" / name), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    _, *lines = done.stdout.splitlines()
    return {label: [float(word) for word in scores] for label, *scores in (line.split() for line in lines)}


def test_token_classification_keeps_its_score_at_90_percent_with_cram_only():
    scores = run("token_classification.py")
    assert min(scores["AdamW"][0], scores["CrAM+-Multi"][0]) > 95
    assert scores["CrAM+-Multi"][-1] > scores["AdamW"][-1] + 10


def test_token_classification_takes_an_encoder_from_a_folder(tmp_path):
    sizes = {"vocab_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**sizes, intermediate_size=16)).save_pretrained(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "b", "##a", "and"]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(tmp_path)
    tokenizer, model = runpy.run_path(str(ROOT / "examples" / "token_classification.py"))["load"](str(tmp_path))
    row = tokenizer(["ba", "and"], is_split_into_words=True)
    assert row.word_ids() == [None, 0, 0, 1, None]
    assert model.classifier.out_features == 4
    assert model.config.hidden_size == 16


def test_plain_loop_keeps_its_accuracy_at_90_and_95_percent_with_cram_only():
    pytest.importorskip("sklearn", reason='scikit-learn is not installed: pip install "cram-hf[dev]"')
    scores = run("plain_loop.py")
    assert min(scores["AdamW"][0], scores["CrAM+-Multi"][0]) > 97
    for place in (-1, -2):
        assert scores["CrAM+-Multi"][place] > scores["AdamW"][place] + 20


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_has_fewer_than_80_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 80
