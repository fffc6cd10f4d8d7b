"""PyTorch's compressed-sparse-row matrices as the weights of linear layers."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor


def to_csr(weight: Tensor) -> Tensor:
    """Returns the matrix in CSR, without the warning that PyTorch gives each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return weight.to_sparse_csr()


@torch.compiler.disable
def csr_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns `x @ weight.T + bias`, (..., rows), for a CSR `weight` (rows, width) and `x` (..., width)."""
    flat = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = (weight @ flat.t().contiguous()).t()
    return (y if bias is None else y + bias).reshape(*x.shape[:-1], weight.shape[0])
