"""The update under a head with one output (STS-B, scores of your own), whose loss is a mean squared error."""

from __future__ import annotations

from typing import Any

import pytest
import reference
import torch
from conftest import rows, tiny_config
from trainer_fixtures import distance, train
from transformers import BertForSequenceClassification

from cram_hf import CrAMTrainer, compressible_weights

CUTS = {8: 1, 2: 4, 1: 8}


def model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = tiny_config(1)
    config.problem_type = "regression"
    return BertForSequenceClassification(config)


def scored(count: int) -> list[dict[str, object]]:
    """Rows with scores from -1 to 4."""
    return [{**row, "labels": i % 11 / 2 - 1} for i, row in enumerate(rows("sequence_classification", count))]


@pytest.mark.parametrize("plus", [True, False])
def test_equals_the_reference(tmp_path, plus):
    examples, oracle = scored(8), model()
    settings = {"compressors": ["topk:0.7"], "max_steps": 1, "plus": plus, "train_dataset": examples}
    _, seen = train(tmp_path, model(), **settings)
    weights = compressible_weights(oracle)
    count = int(0.7 * sum(w.numel() for w in weights.values()))
    batch = {key: torch.stack([torch.as_tensor(row[key]) for row in examples]) for key in examples[0]}
    expected = reference.cram_gradient(
        oracle, batch, list(weights), lambda w: reference.top_k(w, count), rho=0.1, plus=plus
    )
    assert distance(expected, seen.gradients[0]) < 1e-5


@pytest.mark.parametrize("compressors", [["topk:0.7"], ["nm:2:4+quantize:8"], []], ids=str)
def test_8x1_is_2x4_is_1x8(tmp_path, monkeypatch, compressors):
    monkeypatch.setattr(CrAMTrainer, "exact_loss", True)  # as the scripts set it, for the baseline
    settings: dict[str, Any] = {"compressors": compressors, "max_steps": 1, "train_dataset": scored(8)}
    whole, *pieces = (
        train(tmp_path, model(), per_device_train_batch_size=b, gradient_accumulation_steps=k, **settings)[1]
        for b, k in CUTS.items()
    )
    for other in pieces:
        assert distance(whole.gradients[0], other.gradients[0]) < 1e-5


def test_short_last_window_counts_every_row_alike(tmp_path):
    """Ten rows in windows of 2 x 4: the second update has one micro-batch of two."""
    settings = {"compressors": ["topk:0.7"], "train_dataset": scored(10), "max_steps": 2, "learning_rate": 0.0}
    settings |= {"train_sampling_strategy": "sequential"}
    _, whole = train(tmp_path, model(), **settings)
    _, pieces = train(tmp_path, model(), per_device_train_batch_size=2, gradient_accumulation_steps=4, **settings)
    for a, b in zip(whole.gradients, pieces.gradients, strict=True):
        assert distance(a, b) < 1e-5
