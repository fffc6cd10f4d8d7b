"""Magnitude pruning: keep the largest weights, with one budget for all layers together or one for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Literal, get_args

import torch
from torch import Tensor

from .allocation import erk_zeros, lamp_scores
from .base import BITS, Compressor, blocks, prune_, refuse_nan

Scope = Literal["global", "layer", "erk", "lamp"]


@dataclass(frozen=True)
class TopK(Compressor):
    """Sets the share `sparsity` of the weights that is smallest in magnitude to zero.

    Exactly `floor(sparsity * N)` weights go, the product taken in decimal arithmetic (0.29 of 100 is 29). Of equal
    magnitudes the lower index is kept; under the global scope the index runs over the collection in its order.

    Args:
        sparsity (`float`): share of zeros, in [0, 1]. `topk:0` is the identity: with a normalised gradient and
            `plus=False` it makes CrAM the SAM optimizer.
        scope (`"global"`, `"layer"`, `"erk"` or `"lamp"`, defaults to `"global"`): how the zeros are spread over the
            layers. One threshold for all weights together (the official default); the same sparsity in each, rounded
            in each; by the layers' shapes (Erdős-Rényi kernel, see `erk_zeros`); or one threshold for the LAMP scores
            of all weights (see `lamp_scores`), which sorts each layer and so takes several times as long. In any scope
            a layer loses its smallest magnitudes.
    """

    sparsity: float
    scope: Scope = "global"

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity <= 1:
            raise ValueError(
                f"topk: sparsity is {self.sparsity!r}; it is the share of zeros, a number in [0, 1]. "
                "Type e.g. topk:0.7."
            )
        if self.scope not in get_args(Scope):
            raise ValueError(
                f"topk: scope is {self.scope!r}; allowed are 'global', 'layer', 'erk' and 'lamp'. "
                "Type e.g. topk:0.7:layer."
            )

    @property
    def spec(self) -> str:
        return f"topk:{float(self.sparsity)!r}".removesuffix(".0") + (
            "" if self.scope == "global" else f":{self.scope}"
        )

    def apply_(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        refuse_nan(weights)
        if self.scope == "global":
            return prune_smallest_(weights, pruned_count(self.sparsity, _total(weights)))
        masks: dict[str, Tensor] = {}
        for name, zeros in self._zeros(weights).items():
            masks |= prune_smallest_({name: weights[name]}, zeros)
        return masks

    def _zeros(self, weights: Mapping[str, Tensor]) -> dict[str, int]:
        """How many weights go, name -> count."""
        if self.scope == "layer":
            return {name: pruned_count(self.sparsity, weight.numel()) for name, weight in weights.items()}
        count = pruned_count(self.sparsity, _total(weights))
        if self.scope == "erk":
            return erk_zeros(weights, count)
        if not count:
            return dict.fromkeys(weights, 0)
        scores = {name: lamp_scores(weight) for name, weight in weights.items()}
        masks = prune_smallest_(scores, count)
        return {name: mask.numel() - int(mask.count_nonzero()) for name, mask in masks.items()}


def prune_smallest_(weights: Mapping[str, Tensor], zeros: int) -> dict[str, Tensor]:
    """Sets the `zeros` smallest magnitudes of all `weights` together to zero, in place; returns name -> mask.

    A mask is True where a value is kept. Of equal magnitudes the lower index is kept; the index runs over the
    collection in its order. No NaN may be among them. Nothing to prune gives no masks.
    """
    if zeros == 0:
        return {}
    dtype = reduce(torch.promote_types, (weight.dtype for weight in weights.values()))
    width = torch.finfo(dtype).bits
    parts = [part for weight in weights.values() for part in blocks(weight.detach())]
    threshold, below, equal = smallest_bits(lambda: (_bits(part, dtype) for (part,) in parts), width, zeros)
    ties_to_keep = equal - (zeros - below)
    masks = {}
    for name, weight in weights.items():
        masks[name] = torch.empty(weight.shape, dtype=torch.bool, device=weight.device)
        for part, keep in blocks(weight.detach(), masks[name]):
            bits = _bits(part, dtype)
            torch.gt(bits, threshold, out=keep)
            if ties_to_keep:
                kept = (bits == threshold).flatten().nonzero().flatten()[:ties_to_keep]
                keep.view(-1)[kept] = True
                ties_to_keep -= len(kept)
        prune_(weight, masks[name])
    return masks


def _total(weights: Mapping[str, Tensor]) -> int:
    return sum(weight.numel() for weight in weights.values())


def pruned_count(sparsity: float, numel: int) -> int:
    """Returns `floor(sparsity * numel)`, exact for the decimal number that `sparsity` was written as."""
    return int(Fraction(repr(float(sparsity))) * numel)


def _bits(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """|weight| as integers in the same order: the sign cleared, the rest of the representation read as a number."""
    return weight.abs().to(dtype).contiguous().view(BITS[dtype])


def smallest_bits(tensors: Callable[[], Iterable[Tensor]], width: int, k: int) -> tuple[int, int, int]:
    """Finds the k-th smallest of non-negative integers spread over several tensors.

    A radix selection with 16 bits a pass from the top: one pass for 16-bit numbers, two for 32-bit ones. Nothing is
    concatenated or sorted, and each pass holds one histogram of 2^16 counts.

    Args:
        tensors: called once a pass; yields integer tensors of `width` bits.
        width: bits of a number, a multiple of 16.
        k: rank, from 1 to the total number of elements.

    Returns:
        The k-th smallest value, how many values are below it, and how many equal it.
    """
    prefix = below = 0
    for shift in range(width - 16, -1, -16):
        within = prefix if shift + 16 < width else None
        histograms = (torch.bincount(_digits(bits, shift, within), minlength=1 << 16).cpu() for bits in tensors())
        histogram = reduce(Tensor.add_, histograms)
        reached = histogram.cumsum(0)
        digit = int(torch.searchsorted(reached, k - below))
        equal = int(histogram[digit])
        below += int(reached[digit]) - equal
        prefix = prefix << 16 | digit
    return prefix, below, equal


def _digits(bits: Tensor, shift: int, prefix: int | None) -> Tensor:
    """The 16 bits above `shift` of the numbers that begin with `prefix`, or, at the very top, of all of them."""
    digits = bits.flatten() >> shift
    return digits if prefix is None else digits[digits >> 16 == prefix] & 0xFFFF
