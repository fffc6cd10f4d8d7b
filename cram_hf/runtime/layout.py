"""How a sparse matrix lies in memory for the kernel: kept weights tile after tile, with columns of one byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]
Precision = Literal["fp32", "bf16"]
TILES = {torch.float32: 128, torch.bfloat16: 256}
"""Columns of a tile: 64 tokens of it fill a first-level cache of 32 KB."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A matrix W of (rows, width) without its zeros, as `cram_hf/runtime/kernel.cpp` reads it.

    W is cut into tiles of `TILES[dtype]` columns, the last one narrower. The kept weights lie tile after tile, in a
    tile row after row, in a row by column. In bf16 each row of a tile has an even number of them: the last of an odd
    number is stored as two that add up to it, so that an infinite activation still gives infinity and not NaN.

    Args:
        shape (`tuple[int, int]`): rows and width of W.
        ends (`Tensor`): int32 (tiles * (rows + 1),); row r of tile t is `values[ends[i]:ends[i + 1]]` for
            i = t * (rows + 1) + r.
        columns (`Tensor`): uint8 (kept,), the column within the tile.
        values (`Tensor`): fp32 or bf16 (kept,).
    """

    shape: tuple[int, int]
    ends: Tensor
    columns: Tensor
    values: Tensor

    @property
    def precision(self) -> Precision:
        return "fp32" if self.values.dtype == torch.float32 else "bf16"

    @property
    def kept(self) -> int:
        """Number of weights that are stored, those in two parts once."""
        split = int((self.columns[::2] == self.columns[1::2]).sum()) if self.precision == "bf16" else 0
        return self.values.numel() - split

    @property
    def nbytes(self) -> int:
        return self.ends.nbytes + self.columns.nbytes + self.values.nbytes


def pack(weight: Tensor, precision: Precision = "fp32") -> Packed:
    """Returns a matrix without its zeros, of either sign. Nothing is mutated; temporaries: about three such matrices.

    Args:
        weight (`Tensor`): fp32, bf16 or fp16, (rows, width), on the CPU.
        precision (`str`, defaults to `"fp32"`): what is stored; bf16 is rounded to nearest, ties to even.

    Raises:
        ValueError: no matrix of such a type on the CPU, or more than 2^31 - 1 weights are kept.
    """
    _check(weight, precision)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    rows, width = weight.shape
    tile = TILES[dtype]
    tiles = max(1, -(-width // tile))
    padded = torch.nn.functional.pad(weight.detach().float(), (0, tiles * tile - width))
    tiled = padded.view(rows, tiles, tile).transpose(0, 1).contiguous().numpy()
    # Told by their bits, not as floats: a process may have been told to take denormals for zero.
    there = (tiled.view(np.int32) & 0x7FFFFFFF) != 0
    places = np.flatnonzero(there)
    counts, columns = np.count_nonzero(there, axis=2), (places & (tile - 1)).astype(np.uint8)
    values = torch.from_numpy(tiled.reshape(-1)[places]).to(dtype)
    if dtype == torch.bfloat16:
        counts, columns, values = _paired(counts, columns, values)
    if len(columns) >= 2**31:
        raise ValueError(f"{len(columns):,} weights are kept, at most 2,147,483,647 can be: leave this layer dense.")
    return Packed((rows, width), torch.from_numpy(_ends(counts)), torch.from_numpy(columns), values)


def unpack(packed: Packed) -> Tensor:
    """Returns the dense fp32 matrix (rows, width): of fp32 the weights as they were, of bf16 the rounded ones."""
    rows, width = packed.shape
    ends = packed.ends.view(-1, rows + 1).long()
    tile = TILES[packed.values.dtype]
    segments = torch.arange(len(ends) * rows).repeat_interleave((ends[:, 1:] - ends[:, :-1]).reshape(-1))
    tiles, row = segments.div(max(1, rows), rounding_mode="floor"), segments.remainder(max(1, rows))
    places = row * width + tiles * tile + packed.columns
    # Added, since a weight may be stored as its two halves.
    return torch.zeros(rows * width).index_add_(0, places, packed.values.float()).view(rows, width)


def _check(weight: Tensor, precision: str) -> None:
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision is {precision!r}; it must be 'fp32' or 'bf16'.")
    kinds = (torch.float32, torch.bfloat16, torch.float16)
    if weight.dim() != 2 or weight.dtype not in kinds or weight.device.type != "cpu":
        raise ValueError(
            f"a {weight.dtype} tensor of shape {tuple(weight.shape)} on {weight.device} cannot be packed; it must be "
            "a matrix of fp32, bf16 or fp16 on the CPU: move it there with .cpu()."
        )


def _ends(counts: Array) -> Array:
    """Counts (tiles, rows) as the ends of `Packed`."""
    ends = np.zeros((counts.shape[0], counts.shape[1] + 1), dtype=np.int64)
    ends[:, 1:] = np.cumsum(counts).reshape(counts.shape)
    ends[1:, 0] = ends[:-1, -1]
    return ends.reshape(-1).astype(np.int32)


def _paired(counts: Array, columns: Array, values: Tensor) -> tuple[Array, Array, Tensor]:
    """Gives each row of a tile an even number of values, the last of an odd number as two that add up to it."""
    odd = (counts & 1).reshape(-1)
    last = np.cumsum(counts.reshape(-1))[odd == 1] - 1
    repeats = np.ones(len(columns), dtype=np.int64)
    repeats[last] = 2
    source = np.repeat(np.arange(len(columns)), repeats)
    first = torch.from_numpy(last + np.arange(len(last)))
    pairs = values[torch.from_numpy(source)]
    whole = pairs[first].float()
    half = (whole / 2).to(values.dtype)
    pairs[first] = half
    pairs[first + 1] = torch.where(whole.isfinite(), whole - half.float(), whole).to(values.dtype)
    return counts + odd.reshape(counts.shape), columns[source], pairs
