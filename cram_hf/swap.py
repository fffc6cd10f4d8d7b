"""Other values in a model's weights for a while, in place, and the originals back bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from .compressors import Compressor
from .compressors.base import blocks


@contextmanager
def swapped(
    weights: Mapping[str, Tensor], values: Mapping[str, Tensor], rows: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """Puts `values` into `weights` inside the block, and the originals back, bit for bit, whatever happens in it.

    The contents are exchanged in place, block by block (rows of a table in one piece), so no third copy exists: inside
    the block `values` holds the originals, and afterwards it is used up. Storage is never rebound; gradients,
    optimizer state and DDP buckets stay valid.

    Args:
        weights: name -> tensor, each another one; mutated inside the block.
        values: name -> new value, same shape and dtype, for a subset of the names. **Consumed.**
        rows: name -> indices, each once, where a value is of these rows only.

    Raises:
        KeyError: a name in `values` is not among `weights`.
        ValueError: a value has another shape or dtype than its weight; nothing was changed.
    """
    rows = rows or {}
    for name, value in values.items():
        shape, dtype = weights[name].shape, weights[name].dtype
        if name in rows:
            shape = torch.Size([len(rows[name]), *shape[1:]])
        if value.shape != shape or value.dtype != dtype:
            raise ValueError(
                f"{name} is {tuple(shape)} {dtype}, its new value {tuple(value.shape)} {value.dtype}: shape and dtype "
                "must be the same."
            )
    exchanged = []
    try:
        with torch.no_grad():
            for name, value in values.items():
                where = rows.get(name, ...)  # all of them
                for weight, other in [(weights[name], value)] if name in rows else blocks(weights[name], value):
                    new = other.clone()
                    other.copy_(weight[where])
                    exchanged.append((weight, other, where))
                    weight[where] = new
        yield
    finally:
        with torch.no_grad():
            for weight, original, where in reversed(exchanged):
                weight[where] = original


@contextmanager
def compressed(weights: Mapping[str, Tensor], compressor: Compressor) -> Iterator[None]:
    """Compresses `weights` in place inside the block and puts the originals back, bit for bit, afterwards."""
    with swapped(weights, compressor(weights)):
        yield
