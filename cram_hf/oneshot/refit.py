"""Given which weights of a linear layer stay, the values that keep its output closest to the dense layer's."""

from __future__ import annotations

import torch
from torch import Tensor

from .sparsegpt import DAMPING


def refit(
    weight: Tensor, bias: Tensor | None, mask: Tensor, gram: Tensor, damping: float = DAMPING
) -> tuple[Tensor, Tensor | None]:
    """Returns weights and bias of least squared output error on the calibration inputs; mutates nothing.

    Each output row is a least-squares problem of its own: over the kept weights and the bias, it minimises the squared
    difference to the dense output plus `damping` times the mean of the Gram matrix's diagonal times the squared change
    of the weights. That is the loss SparseGPT descends column by column (there without the bias), at its optimum, so
    with the same mask no other update of the layer has a smaller one.

    Args:
        weight: the dense weights, (out, in).
        bias: (out,), or `None` if the layer has none.
        mask: (out, in), True where a weight is kept. Any number may be kept in a row, none too.
        gram: (in + 1, in + 1), the sum of x x^T over the calibration inputs x, each with a 1 appended.
        damping: see above.

    Returns:
        Weights (out, in), exactly zero where `mask` is False, and bias (out,) or `None`, both float64.
    """
    full = gram.double()
    extra = damping * float(full.diagonal()[:-1].mean())
    after = weight.double().clone()
    shift = None if bias is None else bias.double().clone()
    for row, keep in enumerate(mask):
        kept = keep.nonzero().flatten()
        if bias is not None:
            kept = torch.cat([kept, kept.new_tensor([len(keep)])])
        if not len(kept):
            continue
        rows = full[kept]
        lost, system = rows[:, :-1] @ after[row].masked_fill(keep, 0.0), rows[:, kept]
        system.diagonal()[: int(keep.count_nonzero())] += extra or 1.0
        change = torch.cholesky_solve(lost[:, None], torch.linalg.cholesky(system))[:, 0]
        if shift is not None:
            shift[row] += change[-1]
            change, kept = change[:-1], kept[:-1]
        after[row, kept] += change
    return after.masked_fill_(~mask, 0.0), shift
