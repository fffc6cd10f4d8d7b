"""Weights as whole numbers with a scale for each row, activations with one for each token; exact sums in int32."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]
STEPS = 127
"""Whole numbers run from -127 to 127."""
WIDEST = 2**16
"""Columns of a matrix whose sums fit into int32 for certain."""


def round_rows(there: Array, kept: Tensor) -> tuple[Array, Tensor, Tensor, Tensor]:
    """Rounds the values of a sparse matrix as `quantize:8` does, so that a matrix that it rounded stays as it was.

    Args:
        there (`Array`): bool (rows, width), where the values are.
        kept (`Tensor`): the values in row-major order.

    Returns:
        Where those are that were not rounded to 0; these as int8; each row's largest magnitude, fp32 (rows,); and the
        sum of its int8 values, int32 (rows,).

    Raises:
        ValueError: a value is not finite, or the matrix is wider than `WIDEST`.
    """
    if there.shape[1] > WIDEST:
        raise ValueError(f"the matrix has {there.shape[1]:,} columns; int8 takes {WIDEST:,}. Use fp32, bf16 or fp16.")
    counts = there.sum(axis=1, dtype=np.int32)  # half of the time of np.count_nonzero
    full = counts > 0
    begins = (np.cumsum(counts) - counts)[full]
    values, peaks, totals = kept.float().numpy(), np.zeros(len(there), np.float32), np.zeros(len(there), np.int32)
    peaks[full] = np.maximum.reduceat(np.abs(values), begins)  # a NaN is the greatest
    if not np.isfinite(peaks).all():
        raise ValueError(
            "the matrix holds a value that is not finite, so that int8 has no scale for its row. "
            "Use fp32, bf16 or fp16."
        )
    scaled = values.astype(np.float64)
    scaled *= STEPS
    scaled /= np.repeat(np.where(peaks == 0, np.float32(1), peaks), counts)
    steps = np.rint(scaled, out=scaled).astype(np.int8)
    totals[full] = np.add.reduceat(steps, begins, dtype=np.int32)
    stay = steps != 0
    if not stay.all():  # in a matrix that `quantize:8` made all do
        places = np.flatnonzero(there)[~stay]
        there = there.copy()
        there.reshape(-1)[places] = False
    return there, torch.from_numpy(steps[stay]), torch.from_numpy(peaks), torch.from_numpy(totals)


def widen(steps: Tensor, peaks: Tensor) -> Tensor:
    """Returns the fp32 weights (rows, width) that whole numbers stand for, as `quantize:8` makes them."""
    return (steps.double() / STEPS * peaks.double().unsqueeze(1)).float()


def product(x: Tensor, steps: Tensor, peaks: Tensor, bias: Tensor | None) -> Tensor:
    """What the kernel computes, bit for bit, in plain PyTorch.

    Each token of x is rounded to whole numbers, its largest magnitude becoming 127. A token that is not finite gives
    NaN everywhere; one with no magnitude above 1e-30 counts as zeros.

    Args:
        x (`Tensor`): fp32 (tokens, width).
        steps (`Tensor`): whole numbers (rows, width), of any type.
        peaks (`Tensor`): fp32 (rows,), the largest magnitude of each row.
        bias (`Tensor`, *optional*): fp32 (rows,).
    """
    most = x.abs().amax(dim=1, keepdim=True) if x.shape[1] else x.new_zeros(len(x), 1)
    finite = most.isfinite()
    counts = finite & (most > 1e-30)
    whole = torch.where(counts, x * (STEPS / most), 0.0).round_()
    sums = whole.double() @ steps.double().t()
    y = sums.float() * torch.where(finite, most / STEPS**2, torch.nan) * peaks
    return y if bias is None else y + bias
