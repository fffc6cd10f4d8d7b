"""N:M sparsity: keep n of each m consecutive weights of a row, the pattern GPU kernels accelerate (2:4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from .base import Compressor, blocks, prune_, refuse_nan


@dataclass(frozen=True)
class NM(Compressor):
    """Keeps the `n` largest magnitudes of each `m` consecutive weights along the input dimension.

    n counts the weights that are **kept** (some codes count the removed ones). The input dimension is dimension 1 of
    a weight of shape (out, in) or (out, in, ...). Of equal magnitudes the lower index is kept.

    Args:
        n (`int`): weights kept in a group, 0 < n <= m.
        m (`int`): size of a group; must divide the input dimension.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 0 < self.n <= self.m:
            raise ValueError(
                f"nm: {self.n}:{self.m} was given; n of each m weights are kept, 0 < n <= m. Type e.g. nm:2:4."
            )

    @property
    def spec(self) -> str:
        return f"nm:{self.n}:{self.m}"

    def apply_(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.check(weights)
        refuse_nan(weights)
        if self.n == self.m:
            return {}
        masks = {}
        for name, weight in weights.items():
            masks[name] = torch.empty(weight.shape, dtype=torch.bool, device=weight.device)
            for part, keep in blocks(weight.detach(), masks[name]):
                keep.copy_(self._mask(part))
            prune_(weight, masks[name])
        return masks

    def check(self, weights: Mapping[str, Tensor]) -> None:
        bad = [
            f"{name} {tuple(weight.shape)}"
            for name, weight in weights.items()
            if weight.dim() < 2 or weight.shape[1] % self.m
        ]
        if bad:
            raise ValueError(
                f"{self.spec} needs weights (out, in, ...) whose input dimension is a multiple of {self.m}; "
                f"{', '.join(bad)} {'is' if len(bad) == 1 else 'are'} not. Leave them out with --compress_exclude."
            )

    def _mask(self, weight: Tensor) -> Tensor:
        """True at the n largest of each group: those with fewer than n stronger members before or after them."""
        rows = weight.abs().movedim(1, -1)
        groups: Tensor = rows.unflatten(-1, (-1, self.m))
        stronger = torch.zeros_like(groups, dtype=torch.int16 if self.m > 127 else torch.int8)
        for i, j in combinations(range(self.m), 2):
            later_wins = groups[..., j] > groups[..., i]  # a tie goes to the lower index
            stronger[..., i] += later_wins
            stronger[..., j] += ~later_wins
        return (stronger < self.n).flatten(-2).movedim(-1, 1)
