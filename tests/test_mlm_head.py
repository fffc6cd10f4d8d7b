"""Training a masked language model without the logits nobody asked for: the same loss and the same gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mlm_fixtures import tiny_model
from transformers import AutoConfig, AutoModelForMaskedLM

from cram_hf.tasks.mlm_head import predict_masked_only

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ARCHITECTURES = {
    **dict.fromkeys(("bert", "roberta", "electra", "albert", "deberta-v2", "xlm-roberta"), STILL),
    "distilbert": {"dropout": 0.0, "attention_dropout": 0.0},
    "modernbert": {"pad_token_id": 0},
}


def batch() -> dict[str, torch.Tensor]:
    ids = torch.arange(5, 29).reshape(3, 8)
    labels = torch.full_like(ids, -100)
    labels[0, 2], labels[0, 5], labels[2, 7] = 7, 9, 11
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def of(architecture: str, **changes: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, vocab_size=60, **SMALL, **ARCHITECTURES[architecture], **changes)
    return AutoModelForMaskedLM.from_config(config).train()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gives_the_same_loss_and_gradients(architecture):
    plain = of(architecture)
    spared = copy.deepcopy(plain)
    assert predict_masked_only(spared)
    losses = [model(**batch()) for model in (plain, spared)]
    assert [tuple(output.logits.shape) for output in losses] == [(3, 8, 60), (3, 60)]
    torch.testing.assert_close(losses[1].loss, losses[0].loss)
    for output in losses:
        output.loss.backward()
    for (name, a), b in zip(plain.named_parameters(), spared.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, msg=name)


def test_modernberts_own_sparse_prediction_makes_way():
    plain, spared = of("modernbert"), of("modernbert", sparse_prediction=True)
    assert predict_masked_only(spared)
    assert spared(**batch()).logits.shape == (3, 60)
    torch.testing.assert_close(spared(**batch()).loss, plain(**batch()).loss)
    assert spared.eval()(**batch()).logits.shape == (3, 8, 60)


def test_evaluation_and_calls_without_labels_give_every_position():
    model = tiny_model(60)
    assert predict_masked_only(model)
    inputs = batch()
    assert model.eval()(**inputs).logits.shape == (3, 8, 60)
    labels = inputs.pop("labels")
    assert model.train()(**inputs).logits.shape == (3, 8, 60)
    assert model(**inputs, labels=labels).logits.shape == (3, 60)


def test_a_batch_without_any_label_does_not_disturb_the_next():
    model = tiny_model(60).train()
    predict_masked_only(model)
    inputs = batch()
    expected = model(**inputs).loss
    model(**{**inputs, "labels": torch.full_like(inputs["labels"], -100)})
    torch.testing.assert_close(model(**inputs).loss, expected)


def test_a_model_whose_logits_come_from_elsewhere_is_left_alone():
    torch.manual_seed(0)
    config = AutoConfig.for_model("mobilebert", vocab_size=60, num_hidden_layers=1)
    model = AutoModelForMaskedLM.from_config(config).train()
    assert not predict_masked_only(model)
    assert model.training
    assert model(**batch()).logits.shape == (3, 8, 60)
