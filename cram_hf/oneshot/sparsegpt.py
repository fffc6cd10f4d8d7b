"""SparseGPT: prune a linear layer column by column, and let the columns to the right make up for each loss."""

from __future__ import annotations

import torch
from torch import Tensor

from ..compressors import NM
from ..compressors.topk import prune_smallest_
from .patterns import Pattern, keep_nm

DAMPING = 0.01


def damped(gram: Tensor, damping: float = DAMPING) -> Tensor:
    """Returns H = gram + damping * (mean of its diagonal) * I, in float64; the identity where all inputs were zero."""
    hessian = gram.double().clone()
    extra = damping * float(hessian.diagonal().mean())
    hessian.diagonal().add_(extra or 1.0)
    return hessian


def sparsegpt(
    weight: Tensor,
    gram: Tensor,
    pattern: Pattern | Tensor,
    *,
    damping: float = DAMPING,
    columns: int = 128,
) -> Tensor:
    """Returns the pruned and updated weights of a linear layer, (out, in), in float64; mutates nothing.

    From left to right each pruned weight is removed the optimal-brain-surgeon way: the weights of its row to its right
    change so that the layer's output on the calibration inputs changes least. The mask is chosen `columns` columns at
    a time by the score w^2 / [H^-1]_qq of the weights as updated so far: over all rows together for a count, which is
    spread evenly over the columns (rounded down from the left, so that the total is exact), or within each N:M group
    when its first column is reached. Of equal scores the lower index is kept.

    Args:
        weight: (out, in).
        gram: (in, in), the sum of x x^T over the calibration inputs x.
        pattern: how many weights go, an N:M pattern, or a mask (out, in) to keep, True where a weight stays.
        damping: share of the mean of the Hessian's diagonal that is added to the diagonal.
        columns: how many columns the mask is chosen for at once; with N:M rounded down to a multiple of M.

    Source: Frantar and Alistarh, ICML 2023, algorithm 1.
    """
    factor = _inverse_factor(damped(gram, damping))
    work = weight.detach().double().clone()
    width = work.shape[1]
    if isinstance(pattern, NM):
        columns = max(pattern.m, columns // pattern.m * pattern.m)
    for start in range(0, width, columns):
        end = min(start + columns, width)
        part, corner = work[:, start:end], factor[start:end, start:end]
        keep = _first_mask(part, corner, pattern, start, end, width)
        errors = torch.zeros_like(part)
        for i in range(end - start):
            if isinstance(pattern, NM) and i % pattern.m == 0:
                group = slice(i, i + pattern.m)
                keep[:, group] = keep_nm(_scores(part[:, group], corner.diagonal()[group]), pattern)
            errors[:, i] = torch.where(keep[:, i], 0.0, part[:, i]) / corner[i, i]
            part[:, i:] -= errors[:, i, None] * corner[i, i:]
        part.masked_fill_(~keep, 0.0)
        work[:, end:] -= errors @ factor[start:end, end:]
    return work


def _inverse_factor(hessian: Tensor) -> Tensor:
    """The upper Cholesky factor U of H^-1 = U^T U; its rows hold what each column needs of the shrinking inverses."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    return torch.linalg.cholesky(inverse, upper=True)


def _scores(weight: Tensor, diagonal: Tensor) -> Tensor:
    return (weight / diagonal).square()


def _first_mask(part: Tensor, corner: Tensor, pattern: Pattern | Tensor, start: int, end: int, width: int) -> Tensor:
    """The mask of some columns as far as it is known when they are reached; N:M groups fill theirs in later."""
    if isinstance(pattern, Tensor):
        return pattern[:, start:end].clone()
    if isinstance(pattern, NM):
        return torch.ones_like(part, dtype=torch.bool)
    zeros = pattern * end // width - pattern * start // width
    scores = {"scores": _scores(part, corner.diagonal())}
    return prune_smallest_(scores, zeros).get("scores", torch.ones_like(part, dtype=torch.bool))
