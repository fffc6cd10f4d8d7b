"""Sparsity as measured: the share of weights that are zero, and whether they follow an N:M pattern."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Sparsity:
    """Measured shares of zeros, all in [0, 1].

    Args:
        compressible: of the compressible weights.
        model: of all parameters of the model, each shared one counted once.
        layers: name -> share of zeros of each compressible weight; an empty tensor counts as 0.
    """

    compressible: float
    model: float
    layers: dict[str, float]


def measure(model: nn.Module, weights: Mapping[str, Tensor]) -> Sparsity:
    """Counts the zeros (of either sign) in `weights` and in the whole model; mutates nothing."""
    zeros = {name: _zeros(weight) for name, weight in weights.items()}
    sizes = {name: weight.numel() for name, weight in weights.items()}
    parameters = list(model.parameters())
    return Sparsity(
        compressible=sum(zeros.values()) / max(1, sum(sizes.values())),
        model=sum(_zeros(p) for p in parameters) / max(1, sum(p.numel() for p in parameters)),
        layers={name: zeros[name] / max(1, sizes[name]) for name in weights},
    )


def follows_nm(weight: Tensor, n: int, m: int) -> bool:
    """Returns whether each `m` consecutive weights along the input dimension (dimension 1) hold at most `n` non-zeros.

    A weight (out, in, ...) whose input dimension is no multiple of `m` does not follow the pattern.
    """
    if weight.dim() < 2 or weight.shape[1] % m:
        return False
    groups: Tensor = weight.detach().movedim(1, -1).unflatten(-1, (-1, m))
    return bool(((groups != 0).sum(-1) <= n).all())


def _zeros(weight: Tensor) -> int:
    return weight.numel() - int(weight.detach().count_nonzero())
