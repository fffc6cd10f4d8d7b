"""A short training, with labels, of what pruning leaves whole in a block: biases and layer normalisation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import Trainer

from .walk import repeated_blocks


def small_parameters(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Returns the vectors (biases, scales of normalisation) inside the blocks that hold `weights`, by name."""
    homes = tuple(f"{name}." for name in repeated_blocks(model, weights))
    return {name: p for name, p in model.named_parameters() if name.startswith(homes) and p.dim() == 1}


@contextmanager
def only_trainable(model: nn.Module, chosen: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Freezes all parameters but `chosen` inside the block; `requires_grad` is as before afterwards."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    wanted = {id(parameter) for parameter in chosen.values()}
    try:
        for parameter, _ in before:
            parameter.requires_grad_(id(parameter) in wanted)
        yield
    finally:
        for parameter, flag in before:
            parameter.requires_grad_(flag)


def tune_(model: nn.Module, weights: Mapping[str, Tensor], **trainer: Any) -> float:
    """Trains biases and layer normalisation inside the blocks, nothing else, and returns the mean training loss.

    The weights are frozen, so that the zeros stay. Unlike everything else here this uses labels, so a score after it
    is not a one-shot score and is reported apart.

    Args:
        model: the pruned model; its small parameters are **mutated**.
        weights: name -> parameter, what was pruned.
        trainer: what `transformers.Trainer` takes: `args` with the number of steps and the learning rate,
            `train_dataset`, `data_collator`.
    """
    with only_trainable(model, small_parameters(model, weights)):
        return float(Trainer(model=model, **trainer).train().training_loss)
