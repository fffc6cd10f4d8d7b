"""What an engine is given and gives back: token ids that nobody wrote, and the logits of the head."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Inputs = dict[str, Tensor]

LOGITS = {
    "ForQuestionAnswering": ("start_logits", "end_logits"),
    "ForSequenceClassification": ("logits",),
    "ForTokenClassification": ("logits",),
    "ForMaskedLM": ("logits",),
}
"""End of a class's name -> its outputs, in order."""


def check_model(model: PreTrainedModel) -> None:
    """Raises `ValueError` unless `model` is an encoder with one of the heads of `LOGITS`."""
    name = type(model).__name__
    if not name.endswith(tuple(LOGITS)) or model.config.is_encoder_decoder:
        raise ValueError(
            f"{name} cannot be measured or exported here: the model must be an encoder whose class ends in "
            f"{', '.join(LOGITS)}."
        )


def output_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Returns the names of the head's outputs, e.g. `("start_logits", "end_logits")`."""
    return next(names for ending, names in LOGITS.items() if type(model).__name__.endswith(ending))


def input_names(model: PreTrainedModel) -> list[str]:
    """Returns `input_ids`, `attention_mask` and, where the model knows two segments, `token_type_ids`."""
    takes = "token_type_ids" in inspect.signature(model.forward).parameters
    segments = getattr(model.config, "type_vocab_size", 0)  # only some architectures have segments
    return ["input_ids", "attention_mask"] + (["token_type_ids"] if takes and segments > 1 else [])


def longest(model: PreTrainedModel) -> int | None:
    """Returns the most tokens a row may have by the configuration, or `None` where it has no such limit."""
    limit = getattr(model.config, "max_position_embeddings", None)  # relative positions need none
    for name, module in model.named_modules():
        shifted = isinstance(module, nn.Embedding) and name.endswith("position_embeddings") and module.padding_idx
        if limit and shifted:  # RoBERTa counts positions from the one after its padding's
            return int(limit - shifted - 1)
    return limit


def example(model: PreTrainedModel, batch: int, length: int, seed: int) -> Inputs:
    """Returns random token ids, a mask of ones and, where the model takes them, segments: half 0, half 1.

    Each is int64 (batch, length). The ids are drawn with `seed` from the whole vocabulary but the padding token, and
    no global random state is touched.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(model.config.vocab_size - 1, (batch, length), generator=generator)
    ids += ids >= _padding(model)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "token_type_ids" in input_names(model):
        inputs["token_type_ids"] = (torch.arange(length) >= length // 2).long().repeat(batch, 1)
    return inputs


def padded(model: PreTrainedModel, inputs: Inputs) -> Inputs:
    """Returns a copy whose last row ends half-way; what comes after is padding, so that a lost mask shows."""
    copies = {name: tensor.clone() for name, tensor in inputs.items()}
    end = (copies["input_ids"].shape[1] + 1) // 2
    copies["input_ids"][-1, end:] = _padding(model)
    for name in copies.keys() - {"input_ids"}:
        copies[name][-1, end:] = 0
    return copies


def _padding(model: PreTrainedModel) -> int:
    return model.config.pad_token_id or 0


class Logits(nn.Module):
    """The model as engines see it: tensors in, the tuple of its logits out."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.names = output_names(model)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, **segments)
        return tuple(outputs[name] for name in self.names)
