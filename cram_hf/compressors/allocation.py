"""How many weights of each layer magnitude pruning removes when the layers share one budget: ERK and LAMP."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

# Squares of larger magnitudes, infinity among them, would overflow when they are added up.
LARGEST = 1e145


def erk_zeros(weights: Mapping[str, Tensor], zeros: int) -> dict[str, int]:
    """Returns name -> how many weights go, `zeros` in all, large layers losing a larger share (Erdős-Rényi kernel).

    A layer of shape (out, in, ...) keeps min(numel, epsilon * (out + in + ...)) weights, with the one epsilon that
    gives the total. Fractions are exact; they are rounded down, and what is missing goes, one weight each, to the
    layers with the largest remainders, of equal ones the earlier. Only shapes matter, no value. A scalar counts as
    shape (1,).

    Source: Mocanu et al., Nature Communications 2018, equation 3; Evci et al., ICML 2020 (RigL), section 3.
    """
    sizes = {name: weight.numel() for name, weight in weights.items()}
    scale = {name: sum(weight.shape) or 1 for name, weight in weights.items()}
    keep = sum(sizes.values()) - zeros
    full: set[str] = set()
    while True:
        free = [name for name in sizes if name not in full]
        epsilon = Fraction(keep - sum(sizes[name] for name in full), sum(scale[name] for name in free) or 1)
        over = {name for name in free if epsilon * scale[name] > sizes[name]}
        if not over:
            break
        full |= over
    exact = {name: epsilon * scale[name] if name in free else Fraction(sizes[name]) for name in sizes}
    kept = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(sizes, key=lambda name: kept[name] - exact[name])  # stable: of equal ones the earlier
    for name in by_remainder[: keep - sum(kept.values())]:
        kept[name] += 1
    return {name: sizes[name] - kept[name] for name in sizes}


def lamp_scores(weight: Tensor) -> Tensor:
    """Returns the LAMP scores of a layer's weights, largest magnitude first, in float64; never rising along the way.

    The score of a weight is its square divided by the sum of the squares from the largest down to itself; of equal
    magnitudes the lower index comes first. A zero has the score 0, the largest weight 1.

    Source: Lee et al., ICLR 2021, equation 4.
    """
    magnitudes = weight.detach().double().abs().flatten().clamp_(max=LARGEST)
    squares = magnitudes.sort(descending=True, stable=True).values.square_()
    return squares / squares.cumsum(0).clamp_(min=torch.finfo(torch.float64).tiny)
