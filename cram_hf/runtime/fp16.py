"""Weights as 16-bit floats, each row divided by a power of two, so that no sum of a tile is too great for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]
MAGNITUDE, EXPONENT = 0x7FFFFFFF, 0x7F800000
"""Of an fp32 number's bits all but the sign, and those of its exponent: all of them set in infinities and NaN."""
SHIFT = 5
"""A row's greatest magnitude becomes 2^5 or more, at most 2^6: 192 products with activations up to 4 fit into fp16."""
LEAST = (SHIFT + 1) << 23
"""Bits of the least magnitude that is taken for a row's greatest, so that its scale is no denormal."""


def scale_rows(there: Array, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Divides each row by the power of two that takes its greatest finite magnitude to 32 or more, below 64.

    So nothing is rounded here. Once the quotients are fp16, a weight has its 11 bits if it is at least 2^-19 of its
    row's greatest; a smaller one is rounded to a multiple of 2^-29 of that, or less. A matrix that was fp16 stays as
    it was if its magnitudes are below 64. Infinities and NaN stay what they are.

    Args:
        there (`Array`): bool (rows, width), where the values are.
        kept (`Tensor`): the values in row-major order.

    Returns:
        The quotients, fp32 like `kept`; and the powers of two, fp32 (rows,).
    """
    counts = there.sum(axis=1, dtype=np.int32)  # half of the time of np.count_nonzero
    full = counts > 0
    begins = (np.cumsum(counts) - counts)[full]
    values, powers = kept.float().numpy(), np.full(len(there), LEAST, np.int32)
    if full.any():
        bits = values.view(np.int32) & MAGNITUDE
        most = np.maximum.reduceat(bits, begins)
        if (most >= EXPONENT).any():
            bits[bits >= EXPONENT] = 0
            most = np.maximum.reduceat(bits, begins)
        powers[full] = np.maximum(most & EXPONENT, LEAST)
    scales = (powers - (SHIFT << 23)).view(np.float32)
    scales[~full] = 1
    return torch.from_numpy(values * np.repeat(1 / scales, counts)), torch.from_numpy(scales)
