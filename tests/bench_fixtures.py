"""A small encoder, dense and pruned, for the tests of `cram_hf.bench`."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering, PreTrainedModel

from cram_hf import compressible_weights, parse_compressor
from cram_hf.bench import Subject

needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason='needs pip install "cram-hf[onnx]"',
)
needs_openvino = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "openvino")),
    reason='needs pip install "cram-hf[openvino]"',
)


def small_model(hidden: int = 16, head: type = BertForQuestionAnswering, **changes: object) -> PreTrainedModel:
    """One layer; its weights are large, so that its logits depend on each input."""
    torch.manual_seed(0)
    config = BertConfig(
        **{
            "vocab_size": 50,
            "hidden_size": hidden,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 2 * hidden,
            "max_position_embeddings": 32,
            "initializer_range": 0.5,
            **changes,
        }
    )
    return head(config).eval()


def make_subject(spec: str, folder: Path, model: PreTrainedModel | None = None) -> Subject:
    """A compressed copy of `model`, of the small one if none is given; `as it is` leaves it dense."""
    own = copy.deepcopy(model or small_model())
    if spec != "as it is":
        parse_compressor(spec).apply_(compressible_weights(own))
    return Subject(spec, own.requires_grad_(False), folder)
