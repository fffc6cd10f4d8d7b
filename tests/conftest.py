"""A tiny BERT and small batches, shared by the tests."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    PreTrainedModel,
)

HEADS = {
    "question_answering": BertForQuestionAnswering,
    "sequence_classification": BertForSequenceClassification,
    "masked_lm": BertForMaskedLM,
}


def tiny_config(labels: int = 2) -> BertConfig:
    return BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=labels,
    )


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    """Like `monkeypatch`, for properties: hypothesis wants fixtures that may outlive an example."""
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """torch.compile forgets what it learned, before the test and after it."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")],
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each place where weights can be."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def _models() -> dict[str, PreTrainedModel]:
    torch.manual_seed(0)
    return {head: cls(tiny_config(3 if head == "sequence_classification" else 2)) for head, cls in HEADS.items()}


@pytest.fixture
def qa_model(_models: dict[str, PreTrainedModel]) -> PreTrainedModel:
    return copy.deepcopy(_models["question_answering"])


@pytest.fixture
def make_model(_models: dict[str, PreTrainedModel]):
    """Returns a function: head name, dropout -> a fresh copy of the same tiny model."""

    def make(head: str = "question_answering", dropout: float = 0.0) -> PreTrainedModel:
        model = copy.deepcopy(_models[head])
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
        return model

    return make


def rows(head: str, count: int, length: int = 8, seed: int = 0) -> list[dict[str, object]]:
    """Examples as the Trainer takes them, with the labels of the head; masked-LM rows have differing label counts."""
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for i in range(count):
        ids = torch.randint(5, 50, (length,), generator=generator)
        row: dict[str, object] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if head == "question_answering":
            start = int(torch.randint(0, length, (1,), generator=generator))
            row |= {"start_positions": start, "end_positions": min(length - 1, start + 1)}
        elif head == "sequence_classification":
            row["labels"] = int(torch.randint(0, 3, (1,), generator=generator))
        else:
            labels = torch.full_like(ids, -100)
            labels[: 1 + i % 3] = ids[: 1 + i % 3]
            row["labels"] = labels
        examples.append(row)
    return examples


def snapshot(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(model: torch.nn.Module, before: dict[str, torch.Tensor]) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
