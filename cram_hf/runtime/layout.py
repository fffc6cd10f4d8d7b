"""How a sparse matrix lies in memory for the kernel: kept weights tile after tile, with columns of one byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .fp16 import scale_rows
from .int8 import Array, round_rows, widen

Precision = Literal["fp32", "bf16", "fp16", "int8"]
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.int8,
}
TILES = {torch.float32: 128, torch.bfloat16: 256, torch.float16: 192, torch.int8: 256}
"""Columns of a tile: 64 tokens of it fill a first-level cache of 32 KB, in int8 half of it: a column is one byte. In
fp16 128 tokens fill one of 48 KB, which the processors have that compute in it."""
BLOCK = 192
"""Rows of a tile that are put in order of their length. The kernel takes them as one task."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A matrix W of (rows, width) without its zeros, as `cram_hf/runtime/kernel.cpp` reads it.

    W is cut into tiles of `TILES[dtype]` columns, the last one narrower. The kept weights lie tile after tile, in a
    tile row after row, in a row by column. Each `BLOCK` rows of a tile lie in order of their length, the fullest first
    and equal ones as in W: a processor guesses that a row is as long as the last one. In bf16 and fp16 each row of a
    tile has an even number of weights: the last of an odd number is stored as two that add up to it, so that an
    infinite activation still gives infinity and not NaN. In int8 their number is a multiple of four, filled up with
    zeros.

    Args:
        shape (`tuple[int, int]`): rows and width of W.
        ends (`Tensor`): int32 (tiles * (rows + 1),); place p of tile t is `values[ends[i]:ends[i + 1]]` for
            i = t * (rows + 1) + p.
        order (`Tensor`): uint8 (tiles * rows,); place p of tile t holds row `p // BLOCK * BLOCK + order[i]` for
            i = t * rows + p.
        columns (`Tensor`): uint8 (kept,), the column within the tile.
        values (`Tensor`): fp32, bf16, fp16 or int8 (kept,).
        peaks (`Tensor`, *optional*): with int8 and fp16, fp32 (rows,): a value q of row r stands for
            q * peaks[r] / 127 in int8 and for q * peaks[r] in fp16.
        totals (`Tensor`, *optional*): with int8, int32 (rows,): sums of the rows' values.
    """

    shape: tuple[int, int]
    ends: Tensor
    order: Tensor
    columns: Tensor
    values: Tensor
    peaks: Tensor | None = None
    totals: Tensor | None = None

    @property
    def precision(self) -> Precision:
        return next(name for name, dtype in DTYPES.items() if dtype == self.values.dtype)

    @property
    def kept(self) -> int:
        """Number of weights that are stored, those in two parts once."""
        if self.precision == "int8":
            return int(self.values.count_nonzero())
        split = int((self.columns[::2] == self.columns[1::2]).sum()) if self.precision in ("bf16", "fp16") else 0
        return self.values.numel() - split

    @property
    def nbytes(self) -> int:
        parts = (self.ends, self.order, self.columns, self.values, self.peaks, self.totals)
        return sum(part.nbytes for part in parts if part is not None)


def pack(weight: Tensor, precision: Precision = "fp32") -> Packed:
    """Returns a matrix without its zeros, of either sign. Nothing is mutated.

    Temporaries: about two such matrices in fp32 at half zeros, more for a denser one.

    Args:
        weight (`Tensor`): fp32, bf16 or fp16, (rows, width), on the CPU.
        precision (`str`, defaults to `"fp32"`): what is stored; bf16 and fp16 are rounded to nearest, ties to even,
            fp16 after each row's division by a power of two (`scale_rows`); int8 as `quantize:8` does.

    Raises:
        ValueError: no matrix of such a type on the CPU, or one that `pack_kept` refuses.
    """
    _check(weight, precision)
    dense = weight.detach().float().contiguous().numpy()
    # Told by their bits, not as floats: a process may have been told to take denormals for zero.
    there = (dense.view(np.int32) & 0x7FFFFFFF) != 0
    return pack_kept(there, torch.from_numpy(dense.reshape(-1)[np.flatnonzero(there)]), precision)


def pack_kept(there: Array, kept: Tensor, precision: Precision = "fp32") -> Packed:
    """Returns the matrix of which a mask and the values under it are known; no dense one is made.

    Args:
        there (`Array`): bool (rows, width), where the values are.
        kept (`Tensor`): fp32, bf16 or fp16 (count of `there`,), the values in row-major order.
        precision (`str`, defaults to `"fp32"`): as `pack`.

    Raises:
        ValueError: more than 2^31 - 1 weights are kept; with int8 also what `int8.round_rows` refuses.
    """
    dtype, peaks, totals = DTYPES[precision], None, None
    if precision == "int8":
        there, kept, peaks, totals = round_rows(there, kept)
    elif precision == "fp16":
        kept, peaks = scale_rows(there, kept)
    rows, width = there.shape
    tiles = [there[:, first : first + TILES[dtype]] for first in range(0, max(1, width), TILES[dtype])]
    # Fewer than 2^16 columns a tile: a third of the time of np.count_nonzero.
    counts = np.stack([tile.view(np.uint8).sum(axis=1, dtype=np.uint16) for tile in tiles]).astype(np.int64)
    begins = (np.cumsum(counts.T) - counts.T.reshape(-1)).reshape(counts.T.shape).T
    order = np.lexsort((-counts, np.broadcast_to(np.arange(rows) // BLOCK, counts.shape)))  # by block, then by count
    parts = zip(tiles, begins, counts, order, strict=True)
    stored = [_tile(tile[at], begin[at], count[at], kept, dtype) for tile, begin, count, at in parts]
    values, columns = torch.cat([part[2] for part in stored]), np.concatenate([part[1] for part in stored])
    if len(columns) >= 2**31:
        raise ValueError(f"{len(columns):,} weights are kept, at most 2,147,483,647 can be: leave this layer dense.")
    ends = _ends(np.stack([part[0] for part in stored]))
    places = torch.from_numpy((order % BLOCK).astype(np.uint8).reshape(-1))
    return Packed((rows, width), torch.from_numpy(ends), places, torch.from_numpy(columns), values, peaks, totals)


def unpack(packed: Packed) -> Tensor:
    """Returns the dense fp32 matrix (rows, width): of fp32 the weights as they were, else the rounded ones."""
    values = spread(packed)
    if packed.precision == "fp16":
        assert packed.peaks is not None
        return values * packed.peaks.unsqueeze(1)
    return values if packed.peaks is None else widen(values, packed.peaks)


def spread(packed: Packed) -> Tensor:
    """The stored values in a dense fp32 matrix."""
    rows, width = packed.shape
    ends = packed.ends.view(-1, rows + 1).long()
    tile = TILES[packed.values.dtype]
    row = torch.arange(rows, device="cpu") // BLOCK * BLOCK + packed.order.view(len(ends), rows)
    begins = row * width + tile * torch.arange(len(ends), device="cpu")[:, None]
    places = begins.reshape(-1).repeat_interleave((ends[:, 1:] - ends[:, :-1]).reshape(-1)) + packed.columns
    # Added, since a weight may be stored as its two halves.
    dense = torch.zeros(rows * width, dtype=torch.float32, device="cpu")
    return dense.index_add_(0, places, packed.values.float()).view(rows, width)


def _check(weight: Tensor, precision: str) -> None:
    if precision not in DTYPES:
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(DTYPES)}.")
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


def _tile(there: Array, begins: Array, counts: Array, kept: Tensor, dtype: torch.dtype) -> tuple[Array, Array, Tensor]:
    """Counts (rows,), columns and values of one tile; its row r begins at `kept[begins[r]]`."""
    flat, width = np.flatnonzero(there).astype(np.uint32), np.uint32(max(1, there.shape[1]))
    columns = (flat - flat // width * width).astype(np.uint8)  # a third of the time of a remainder
    places = np.repeat(begins - (np.cumsum(counts) - counts), counts)
    places += np.arange(len(places))
    values = kept[torch.from_numpy(places)].to(dtype)
    if dtype in (torch.bfloat16, torch.float16):
        return _paired(counts, columns, values)
    return (counts, columns, values) if dtype == torch.float32 else _in_fours(counts, columns, values)


def _in_fours(counts: Array, columns: Array, values: Tensor) -> tuple[Array, Array, Tensor]:
    """Gives each row of a tile a multiple of four values: zeros of column 0 after the last."""
    whole = (counts + 3) // 4 * 4
    ends, own = np.cumsum(whole), np.ones(whole.sum(), dtype=bool)
    for back in (1, 2, 3):
        own[ends[whole - counts >= back] - back] = False
    spaced, filled = np.zeros(len(own), np.uint8), np.zeros(len(own), np.int8)
    spaced[own], filled[own] = columns, values.numpy()
    return whole, spaced, torch.from_numpy(filled)


def _paired(counts: Array, columns: Array, values: Tensor) -> tuple[Array, Array, Tensor]:
    """Gives each row of a tile an even number of values, the last of an odd number as two that add up to it."""
    odd = counts & 1
    last = np.cumsum(counts)[odd == 1] - 1
    first, own = last + np.arange(len(last)), np.ones(len(columns) + len(last), dtype=bool)
    own[first + 1] = False
    spaced, filled = np.empty(len(own), np.uint8), np.empty(len(own), np.int16)
    spaced[own], filled[own] = columns, values.view(torch.int16).numpy()
    spaced[first + 1] = spaced[first]
    pairs, places = torch.from_numpy(filled).view(values.dtype), torch.from_numpy(first)
    whole = pairs[places].float()
    half = (whole / 2).to(values.dtype)
    pairs[places] = half
    pairs[places + 1] = torch.where(whole.isfinite(), whole - half.float(), whole).to(values.dtype)
    return counts + odd, spaced, pairs
