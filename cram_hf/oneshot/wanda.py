"""Wanda: a weight counts as much as its magnitude times the norm of the input it multiplies."""

from __future__ import annotations

import torch
from torch import Tensor

from ..compressors import NM
from .patterns import Pattern, keep_highest, keep_nm


def wanda_mask(weight: Tensor, squares: Tensor, pattern: Pattern) -> Tensor:
    """Returns which weights of a linear layer Wanda keeps, (out, in) bool; mutates nothing.

    The score of a weight is `|w| * ||x||_2`, its input's norm taken over all calibration tokens. Scores are compared
    within an output row, where each row loses the same number of weights (the first rows one more where the count
    does not divide), or within the groups of an N:M pattern. Of equal scores the lower index is kept.

    Args:
        weight: (out, in).
        squares: (in,), sums of the squares of each input.
        pattern: how many weights go in all, or an N:M pattern.

    Source: Sun et al., ICLR 2024, equation 1 and section 3.
    """
    scores = weight.detach().double().abs() * squares.double().sqrt()
    if isinstance(pattern, NM):
        return keep_nm(scores, pattern)
    rows, columns = weight.shape
    each, more = divmod(pattern, rows)
    zeros = each + (torch.arange(rows, device=weight.device) < more).long()
    return keep_highest(scores, columns - zeros)
