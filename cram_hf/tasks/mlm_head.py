"""Training spares the vocabulary head the positions that have no label, five of six."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import ModernBertForMaskedLM, PreTrainedModel

IGNORED = -100


def predict_masked_only(model: PreTrainedModel) -> bool:
    """
    Makes the output matrix multiply, while training with labels, the hidden states of labelled positions alone.

    The loss is the mean over the same positions as before, up to the order of additions; the logits that come with it
    are (labelled positions, vocabulary) then. Evaluation, and a call without labels, give every position. `model` gets
    two hooks, and no parameter or file changes. ModernBERT's own way, `sparse_prediction`, is turned off: it would
    leave positions out of evaluation too.

    Returns:
        Whether it could be done: not if the model gives other logits than its output matrix makes (MobileBERT).
    """
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or not _makes_the_logits(model, head):
        return False
    if isinstance(model, ModernBertForMaskedLM):
        model.sparse_prediction = False
    labelled: list[Tensor] = []

    def choose(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        labelled.clear()
        if not module.training or kwargs.get("labels") is None:
            return None
        labelled.append(kwargs["labels"] != IGNORED)
        return args, {**kwargs, "labels": kwargs["labels"][labelled[0]]}

    def shorten(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return (args[0][labelled.pop()], *args[1:]) if labelled else None

    model.register_forward_pre_hook(choose, with_kwargs=True)
    head.register_forward_pre_hook(shorten)
    return True


def _makes_the_logits(model: PreTrainedModel, head: nn.Linear) -> bool:
    """Whether the model's logits are the output of `head`, tried on two tokens."""
    made: list[Tensor] = []
    handle = head.register_forward_hook(lambda module, args, output: made.append(output))
    training = model.training
    try:
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([[0, 1]], device=model.device)).logits
    finally:
        handle.remove()
        model.train(training)
    return len(made) == 1 and made[0].shape == logits.shape and torch.equal(made[0], logits)
