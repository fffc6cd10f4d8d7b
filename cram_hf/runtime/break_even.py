"""From which share of zeros on a sparse layer is faster than the dense one: the measured numbers, and their use."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from .layout import Precision

LEAST_ZEROS = 0.5
"""Where nothing was measured: a cautious guess."""


class Measured(NamedTuple):
    """The least share of zeros from which on a layer of this size was not slower with 16 tokens or more."""

    dense: torch.dtype  # of the layer that is replaced
    precision: Precision
    weights: int
    zeros: float


MEASURED: tuple[Measured, ...] = ()
"""Lines that `benchmarks/runtime_layers.py` prints at its end. Put them here, and nowhere else."""


def least_zeros(dense: torch.dtype, precision: Precision, weights: int) -> float:
    """Returns the share of zeros from which on a layer is replaced: that of the measured layer nearest in size.

    Args:
        dense (`torch.dtype`): of the layer's weight.
        precision (`str`): of the sparse layer.
        weights (`int`): out_features times in_features.
    """
    rows = [row for row in MEASURED if (row.dense, row.precision) == (dense, precision)]
    if not rows or not weights:
        return LEAST_ZEROS
    return min(rows, key=lambda row: abs(math.log(row.weights / weights))).zeros
