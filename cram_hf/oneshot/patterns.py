"""What a compressor asks of each layer when the weights that go are chosen by data: a count, or N of each M."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..compressors import NM, Chain, Compressor, LayerZeros, Quantize, TopK

Pruner = TopK | NM | LayerZeros

Pattern = int | NM
"""How a layer is pruned: the number of its weights that go, or an N:M pattern."""


def split(compressor: Compressor) -> tuple[Pruner, Compressor | None]:
    """Returns the pruner that a spec starts with and what comes after it, `None` for nothing.

    Raises:
        ValueError: the spec is not one pruner, or one pruner followed by quantizers.
    """
    members = compressor.members if isinstance(compressor, Chain) else (compressor,)
    pruner, rest = members[0], members[1:]
    if not isinstance(pruner, Pruner) or not all(isinstance(member, Quantize) for member in rest):
        raise ValueError(
            f"{compressor.spec}: pruning with data takes one pruner, and quantizers after it. Type e.g. topk:0.8, "
            "nm:2:4 or nm:2:4+quantize:8, or take --method magnitude."
        )
    if not rest:
        return pruner, None
    return pruner, rest[0] if len(rest) == 1 else Chain(rest)


def patterns(pruner: Pruner, weights: Mapping[str, Tensor]) -> dict[str, Pattern]:
    """Returns name -> pattern; without N:M each layer loses as many weights as it would by magnitude.

    So the scope of the spec (global, layer, erk, lamp) says how the zeros are spread over the layers, and the total is
    exactly that of the spec. `weights` stay as they are.
    """
    if isinstance(pruner, NM):
        pruner.check(weights)
        return dict.fromkeys(weights, pruner)
    return {name: mask.numel() - int(mask.count_nonzero()) for name, mask in masks_of(pruner, weights).items()}


def masks_of(pruner: Pruner, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the masks of magnitude pruning, name -> bool, True where a weight is kept; mutates nothing."""
    masks = pruner.apply_({name: weight.detach().clone() for name, weight in weights.items()})
    return {name: masks.get(name, torch.ones_like(w, dtype=torch.bool)) for name, w in weights.items()}


def keep_nm(scores: Tensor, pattern: NM) -> Tensor:
    """Returns the mask of the n highest of each m consecutive scores (out, in); scores are not negative."""
    kept = pattern.apply_({"scores": scores.clone()})  # the largest magnitudes, and the lower index of equal ones
    return kept.get("scores", torch.ones_like(scores, dtype=torch.bool))


def keep_highest(scores: Tensor, keep: Tensor) -> Tensor:
    """Returns the mask of the `keep[i]` highest scores of row i; of equal ones the lower index is kept.

    Args:
        scores: (rows, columns).
        keep: (rows,), whole numbers.
    """
    order = scores.sort(dim=1, descending=True, stable=True).indices
    ranks = torch.empty_like(order).scatter_(
        1, order, torch.arange(scores.shape[1], device=order.device).expand_as(order)
    )
    return ranks < keep[:, None]
