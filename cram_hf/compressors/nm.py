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
                self._mark(part, keep)
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

    def _mark(self, weight: Tensor, keep: Tensor) -> None:
        """Sets `keep` to True at the n largest of each group: those with fewer than n stronger members."""
        members = self._by_place(weight).abs().contiguous()
        stronger = torch.zeros_like(members, dtype=torch.int16 if self.m > 127 else torch.int8)
        for i, j in combinations(range(self.m), 2):
            later_wins = (members[j] > members[i]).view(torch.int8)  # 1 or 0; a tie goes to the lower index
            stronger[i] += later_wins
            stronger[j] += 1 - later_wins
        torch.lt(stronger, self.n, out=self._by_place(keep))

    def _by_place(self, tensor: Tensor) -> Tensor:
        """A view whose first dimension is the place in a group, 0 to m - 1."""
        groups: Tensor = tensor.movedim(1, -1).unflatten(-1, (-1, self.m))
        return groups.movedim(-1, 0)
