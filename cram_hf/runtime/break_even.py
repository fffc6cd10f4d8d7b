"""From which share of zeros on a sparse layer is faster than the dense one: the measured numbers, and their use."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from .layout import Precision

LEAST_ZEROS = 0.5
"""Where nothing was measured (fp16 layers): a cautious guess."""
NEAR = 0.01
"""A layer so little below a measured share counts too: a model pruned to 80 % as a whole has layers of 79.8 %."""


class Measured(NamedTuple):
    """The least share of zeros from which on a layer of this size was not slower with 16 tokens or more.

    "Not slower" holds for the least times and for the medians.
    """

    dense: torch.dtype  # of the layer that is replaced
    precision: Precision
    weights: int
    zeros: float


MEASURED: dict[str, tuple[Measured, ...]] = {
    "avx512_bf16": (
        Measured(torch.bfloat16, "bf16", 147456, 0.55),
        Measured(torch.bfloat16, "bf16", 589824, 0.65),
        Measured(torch.bfloat16, "bf16", 2359296, 0.65),
        Measured(torch.bfloat16, "fp32", 147456, 0.7),
        Measured(torch.bfloat16, "fp32", 589824, 0.7),
        Measured(torch.bfloat16, "fp32", 2359296, 0.7),
        Measured(torch.bfloat16, "int8", 147456, 0.6),
        Measured(torch.bfloat16, "int8", 589824, 0.7),
        Measured(torch.bfloat16, "int8", 2359296, 0.7),
        Measured(torch.float32, "bf16", 147456, 0.3),
        Measured(torch.float32, "bf16", 589824, 0.3),
        Measured(torch.float32, "bf16", 2359296, 0.3),
        Measured(torch.float32, "fp32", 147456, 0.35),
        Measured(torch.float32, "fp32", 589824, 0.3),
        Measured(torch.float32, "fp32", 2359296, 0.3),
        Measured(torch.float32, "int8", 147456, 0.4),
        Measured(torch.float32, "int8", 589824, 0.3),
        Measured(torch.float32, "int8", 2359296, 0.3),
    ),
    "avx512_vnni": (
        Measured(torch.bfloat16, "bf16", 147456, 0.35),
        Measured(torch.bfloat16, "bf16", 589824, 0.7),
        Measured(torch.bfloat16, "bf16", 2359296, 0.45),
        Measured(torch.bfloat16, "fp32", 147456, 0.3),
        Measured(torch.bfloat16, "fp32", 589824, 0.45),
        Measured(torch.bfloat16, "fp32", 2359296, 0.4),
        Measured(torch.bfloat16, "int8", 147456, 0.3),
        Measured(torch.bfloat16, "int8", 589824, 0.3),
        Measured(torch.bfloat16, "int8", 2359296, 0.3),
        Measured(torch.float32, "bf16", 147456, 0.8),
        Measured(torch.float32, "bf16", 589824, 0.6),
        Measured(torch.float32, "bf16", 2359296, 0.6),
        Measured(torch.float32, "fp32", 147456, 0.8),
        Measured(torch.float32, "fp32", 589824, 0.55),
        Measured(torch.float32, "fp32", 2359296, 0.55),
        Measured(torch.float32, "int8", 147456, 0.5),
        Measured(torch.float32, "int8", 589824, 0.45),
        Measured(torch.float32, "int8", 2359296, 0.3),
    ),
    "avx512_fp16": (
        Measured(torch.bfloat16, "bf16", 147456, 0.45),
        Measured(torch.bfloat16, "bf16", 589824, 0.5),
        Measured(torch.bfloat16, "bf16", 2359296, 0.45),
        Measured(torch.bfloat16, "fp16", 147456, 0.3),
        Measured(torch.bfloat16, "fp16", 589824, 0.45),
        Measured(torch.bfloat16, "fp16", 2359296, 0.45),
        Measured(torch.bfloat16, "fp32", 147456, 0.35),
        Measured(torch.bfloat16, "fp32", 589824, 0.5),
        Measured(torch.bfloat16, "fp32", 2359296, 0.45),
        Measured(torch.bfloat16, "int8", 147456, 0.3),
        Measured(torch.bfloat16, "int8", 589824, 0.3),
        Measured(torch.bfloat16, "int8", 2359296, 0.3),
        Measured(torch.float32, "bf16", 147456, 0.8),
        Measured(torch.float32, "bf16", 589824, 0.6),
        Measured(torch.float32, "bf16", 2359296, 0.6),
        Measured(torch.float32, "fp16", 147456, 0.8),
        Measured(torch.float32, "fp16", 589824, 0.6),
        Measured(torch.float32, "fp16", 2359296, 0.4),
        Measured(torch.float32, "fp32", 147456, 0.8),
        Measured(torch.float32, "fp32", 589824, 0.6),
        Measured(torch.float32, "fp32", 2359296, 0.55),
        Measured(torch.float32, "int8", 147456, 0.7),
        Measured(torch.float32, "int8", 589824, 0.4),
        Measured(torch.float32, "int8", 2359296, 0.3),
    ),
}
"""What `benchmarks/runtime_layers.py` printed at its end on one thread, for the instructions that were used: of an AMD
EPYC (Zen 4; `results/benchmarks/runtime_layers.json`) and of an Intel Xeon (Emerald Rapids; `runtime_layers_xeon.json`
and `runtime_layers_fp16.json` beside it). 0.3 is the least that was tried. Put other lines here, and nowhere else."""


def least_zeros(level: str, dense: torch.dtype, precision: Precision, weights: int) -> float:
    """Returns the share of zeros from which on a layer is replaced: `NEAR` below the measured layer nearest in size.

    Args:
        level (`str`): the instructions of the kernel. Of those that were not measured the most cautious answer of all.
        dense (`torch.dtype`): of the layer's weight.
        precision (`str`): of the sparse layer.
        weights (`int`): out_features times in_features.
    """
    measured = [MEASURED[level]] if level in MEASURED else MEASURED.values()
    return max(_nearest(rows, dense, precision, weights) for rows in measured)


def _nearest(measured: tuple[Measured, ...], dense: torch.dtype, precision: Precision, weights: int) -> float:
    rows = [row for row in measured if (row.dense, row.precision) == (dense, precision)]
    if not rows or not weights:
        return LEAST_ZEROS
    return round(min(rows, key=lambda row: abs(math.log(row.weights / weights))).zeros - NEAR, 4)
