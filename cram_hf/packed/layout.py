"""How a tensor of the model lies in a packed file: as it is, or as a bit mask and the values the mask keeps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

FORMAT, VERSION = "cram_hf.packed", "1"
FILE_NAME = "model.packed.safetensors"
NO_DIGEST = "0" * 64  # what stands in the header while the digest is computed
MAX_RANK = 8  # dimensions of a tensor
LEVELS = 127  # int8 runs from -127 to 127
FLOATS = ("F64", "F32", "F16", "BF16")

TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in TORCH.items()}
# Integers of the same width, since NumPy has no bf16; all are little-endian in the file.
NUMPY = {name: f"<i{dtype.itemsize}" for name, dtype in TORCH.items()} | {"U8": "|u1", "BOOL": "|u1"}


class PackedError(ValueError):
    """A file that is no packed model, or a damaged or forged one."""


@dataclass(frozen=True)
class Entry:
    """One tensor of the safetensors file."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * TORCH[self.dtype].itemsize


@dataclass(frozen=True)
class Stored:
    """How one tensor of the model is stored.

    Args:
        kind (`str`): `"dense"`, or `"mask"` for a bit mask and the kept values.
        shape (`tuple[int, ...]`): the tensor's shape.
        dtype (`str`): the tensor's own dtype, as safetensors writes it; `load_packed` returns it in this one.
        stored (`str`): dtype of the values in the file; `"I8"` with a floating-point `dtype` has a scale per row.
        kept (`int`): number of stored values; with `"dense"` all of them.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    stored: str
    kept: int

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def scaled(self) -> bool:
        return self.stored == "I8" and self.dtype in FLOATS

    def entries(self, name: str) -> dict[str, Entry]:
        """Returns the entries of the safetensors file that hold the tensor, in the order values, scale, mask."""
        found = {name: Entry(self.stored, (self.kept,) if self.kind == "mask" else self.shape)}
        if self.scaled:
            found[f"{name}:scale"] = Entry("F32", (self.shape[0] if len(self.shape) > 1 else 1,))
        if self.kind == "mask":
            found[f"{name}:mask"] = Entry("U8", (mask_bytes(self.numel),))
        return found


def mask_bytes(numel: int) -> int:
    """Bytes of a mask: one bit for each value, the last byte filled up."""
    return (numel + 7) // 8


def header(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    """Returns the head of a safetensors file whose tensors lie in this order: its length in 8 bytes, then JSON."""
    document: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name, entry in entries.items():
        end = start + entry.nbytes
        document[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": (start, end)}
        start = end
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def widest_first(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Returns the entries in the order of the file: widest type first, so that each is aligned, and then by name."""
    return dict(sorted(entries.items(), key=lambda pair: (-TORCH[pair[1].dtype].itemsize, pair[0])))


def packed_metadata(stored: Mapping[str, Stored], tied: Mapping[str, str]) -> dict[str, str]:
    """Returns the metadata of a packed file, its digest still zeros."""
    compact: dict[str, Any] = {"separators": (",", ":"), "ensure_ascii": False}
    return {
        "format": FORMAT,
        "version": VERSION,
        "sha256": NO_DIGEST,
        "tensors": json.dumps({name: asdict(item) for name, item in stored.items()}, **compact),
        "tied": json.dumps(dict(tied), **compact),
    }
