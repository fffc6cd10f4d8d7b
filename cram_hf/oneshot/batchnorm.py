"""Recomputes the running statistics of batch normalisation after the weights have changed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .walk import Batch, evaluating


@torch.no_grad()
def recalibrate_batchnorm_(model: nn.Module, batches: Sequence[Batch]) -> int:
    """Replaces the running statistics by the plain mean over `batches` and returns how many layers there were.

    The paper's authors do this for their image models after pruning (CrAM, section 4). Only running statistics are
    **mutated**: momentum, modes and parameters are as before. A model without batch normalisation is not run.

    Args:
        model: any module.
        batches: arguments of the forward pass; each counts the same, so they should be of one size.

    Raises:
        ValueError: there is something to recalibrate but no batch.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not layers:
        return 0
    momenta = [layer.momentum for layer in layers]
    device = next(model.parameters()).device
    if not batches:
        raise ValueError("There is no batch to recalibrate batch normalisation on: give at least one.")
    with evaluating(model):
        for layer in layers:
            layer.train()
            layer.reset_running_stats()
            layer.momentum = None  # the cumulative mean
        try:
            for batch in batches:
                model(**{name: value.to(device) for name, value in batch.items()})
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
    return len(layers)
