"""Fake quantization: round each weight to a grid of its output row, values stay floating point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Compressor, blocks, refuse_nan


@dataclass(frozen=True)
class Quantize(Compressor):
    """Rounds weights to symmetric integers of `bits` bits with one scale per output row.

    A row with largest magnitude a takes the values q * a / L for whole q in [-L, L], L = 2^(bits-1) - 1; halves round
    to the even q. The products are taken in float64, so a itself survives and quantizing twice changes nothing.
    A row is `weight[i]`; a tensor with fewer than two dimensions is one row. Rows of zeros stay zero.

    Args:
        bits (`int`): from 2 to 16.
    """

    bits: int

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise ValueError(f"quantize: bits is {self.bits}; allowed are 2 to 16. Type e.g. quantize:8.")

    @property
    def spec(self) -> str:
        return f"quantize:{self.bits}"

    def apply_(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        refuse_nan(weights)
        infinite = [name for name, weight in weights.items() if weight.isinf().any()]
        if infinite:
            raise ValueError(
                f"{self.spec} cannot scale a row that holds an infinite weight: {', '.join(infinite)}. "
                "Look for a diverged training run."
            )
        for weight in weights.values():
            rows = weight.detach() if weight.dim() > 1 else weight.detach().view(1, -1)
            for (part,) in blocks(rows) if rows.numel() else ():
                part.copy_(self._rounded(part)).add_(0.0)  # integers have no -0: makes it +0
        return {}

    def _rounded(self, weight: Tensor) -> Tensor:
        levels = 2 ** (self.bits - 1) - 1
        rows = weight.double().flatten(1)
        peak = rows.abs().amax(dim=1, keepdim=True)
        steps = (rows * levels / torch.where(peak == 0, 1.0, peak)).round_()
        rounded: Tensor = steps / levels * peak  # in this order: levels / levels is exactly 1
        return rounded.reshape(weight.shape)
