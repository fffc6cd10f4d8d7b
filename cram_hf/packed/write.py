"""Writes a packed file, whole or not at all, with one tensor's arrays in memory at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from ..compressors.base import BITS
from ..results import replacing
from ..weights import compressible_weights
from .dense import WIDEST
from .encode import Array, encode, encode_int8, narrowed, state_of, untied
from .header import MAX_HEADER
from .layout import NO_DIGEST, Entry, header, packed_metadata, widest_first

Precision = Literal["fp32", "fp16", "bf16", "int8"]


def save_packed(
    model: nn.Module | Mapping[str, Tensor],
    path: str | os.PathLike[str],
    *,
    dtype: Precision = "fp32",
    compressible: Collection[str] | None = None,
    overwrite: bool = False,
) -> int:
    """Writes a model as one packed file, whole or not at all, and returns its size in bytes.

    A floating-point tensor with enough zeros becomes a bit mask and its other values in row-major order; everything
    else is stored as it is. `load_packed` gives back what the file holds in the dtypes of the model: with `"fp32"` the
    same bits for fp32, fp16 and bf16 tensors, NaN payloads included, except that a zero which is masked out comes back
    as +0. Memory: one tensor and its temporaries beside the model; with `"int8"` the packed matrices too.

    Args:
        model (`nn.Module` or `Mapping[str, Tensor]`): a model, or its state dict, on any device. Not mutated. Tensors
            that share all their values are stored once, under the first name.
        path (`str` or `os.PathLike`): the file; missing parent folders are made.
        dtype (`str`, defaults to `"fp32"`): widest floating-point type of the stored values: wider ones are rounded
            to it (to nearest, ties to even), narrower ones stay. With `"int8"` the compressible weights are rounded
            as `quantize:8` rounds them, and everything else is stored as with `"fp16"`.
        compressible (`Collection[str]`, *optional*): names of the weights that `"int8"` rounds; a state dict needs
            them. Defaults to `compressible_weights(model)`.
        overwrite (`bool`, defaults to `False`): replace an existing file.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
        ValueError: a value does not fit the type (70,000 in fp16), a tensor cannot be stored, or `dtype` or a name of
            `compressible` is unknown; the message names it.
    """
    target = Path(path)
    if not overwrite and target.exists():
        raise FileExistsError(f"{path} exists: choose another name, or give overwrite=True")
    form = _form(model, dtype, compressible)
    with replacing(target) as temporary:
        form.write(temporary)
    return form.size


def packed_size(
    model: nn.Module | Mapping[str, Tensor], *, dtype: Precision = "fp32", compressible: Collection[str] | None = None
) -> int:
    """Returns the bytes of the file that `save_packed` would write, without writing; same arguments and errors."""
    return _form(model, dtype, compressible).size


@dataclass(frozen=True)
class _Form:
    """A packed file that is not written yet: its head, and what makes the arrays that follow."""

    head: bytes
    entries: dict[str, Entry]
    arrays: dict[str, Callable[[], Array]]

    @property
    def size(self) -> int:
        return len(self.head) + sum(entry.nbytes for entry in self.entries.values())

    def write(self, path: Path) -> None:
        """Writes the file; the digest, which covers every byte, is filled in last."""
        digest = hashlib.sha256(self.head)
        with path.open("wb") as file:
            file.write(self.head)
            for name in self.entries:
                data = self.arrays[name]().data
                digest.update(data)
                file.write(data)
            file.seek(self.head.index(NO_DIGEST.encode()))
            file.write(digest.hexdigest().encode())


def _form(model: nn.Module | Mapping[str, Tensor], dtype: Precision, compressible: Collection[str] | None) -> _Form:
    """Decides how each tensor is stored."""
    if dtype not in WIDEST:
        raise ValueError(f"dtype {dtype!r} is unknown; allowed are {', '.join(WIDEST)}")
    tensors, tied = untied(state_of(model))
    rounded = _rounded(model, tensors, tied, compressible) if dtype == "int8" else set()
    encoded = {
        name: encode_int8(name, tensor)
        if name in rounded
        else encode(name, tensor, narrowed(tensor.dtype, WIDEST[dtype]))
        for name, tensor in tensors.items()
    }
    parts = [
        (entry_name, entry, array)
        for name, item in encoded.items()
        for (entry_name, entry), array in zip(item.stored.entries(name).items(), item.arrays, strict=True)
    ]
    entries = widest_first({name: entry for name, entry, _ in parts})
    head = header(entries, packed_metadata({name: item.stored for name, item in encoded.items()}, tied))
    if len(entries) < len(parts) or "__metadata__" in entries or len(head) > MAX_HEADER:
        raise ValueError(
            f"{len(tensors)} tensors with a header of {len(head):,} bytes cannot be packed: at most {MAX_HEADER:,} "
            "bytes, no tensor named __metadata__, and none named as another with :mask or :scale at the end"
        )
    return _Form(head, entries, {name: array for name, _, array in parts})


def _rounded(
    model: nn.Module | Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    tied: Mapping[str, str],
    compressible: Collection[str] | None,
) -> set[str]:
    """Names of the tensors that become int8."""
    if compressible is None and not isinstance(model, nn.Module):
        raise ValueError("int8 rounds some weights of a state dict: name them, compressible=[...]")
    names = compressible_weights(model) if compressible is None else compressible  # type: ignore[arg-type]
    chosen = {tied.get(name, name) for name in names}
    unknown = [name for name in sorted(chosen) if name not in tensors or tensors[name].dtype not in BITS]
    if unknown:
        raise ValueError(
            f"compressible: {', '.join(unknown[:5])} ({len(unknown)} in all): no floating-point tensors of the model"
        )
    return {name for name in chosen if tensors[name].numel()}
