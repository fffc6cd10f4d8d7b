"""Reads a packed file back: a damaged or forged one is an error, never a wrong model or a huge allocation."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from ..compressors.base import blocks
from .encode import Array
from .header import Head, read_head
from .layout import LEVELS, NUMPY, TORCH, PackedError, Stored

SET_BITS = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


def load_packed(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Returns the state dict of a packed file: dense CPU tensors in the model's dtypes; tied names share one tensor.

    The whole file is checked first (see docs/packed.md), so that at most 64 bytes are reserved for each byte of it: a
    mask says eight values in one byte. Memory: the tensors, and the temporaries of one of them.

    Args:
        path (`str` or `os.PathLike`): what `save_packed` wrote.

    Raises:
        PackedError: a `ValueError`; the file is no packed model of a known version, or damaged; the message says how.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        try:
            head = read_head(file, os.fstat(file.fileno()).st_size)
            state = {name: _tensor(file, head, name, item) for name, item in head.stored.items()}
        except PackedError as error:
            raise PackedError(f"{os.fspath(path)}: {error}") from None
    return state | {name: state[other] for name, other in head.tied.items()}


def load_packed_model(path: str | os.PathLike[str], model: nn.Module, *, assign: bool = False) -> None:
    """Fills `model` with the tensors of a packed file. **Mutated**: all its parameters and saved buffers, or nothing.

    Args:
        path (`str` or `os.PathLike`): what `save_packed` wrote.
        model (`nn.Module`): a model of the same architecture, on any device.
        assign (`bool`, defaults to `False`): take the file's tensors as they are, on the CPU and in their dtypes,
            instead of copying their values; weights that were tied are then to be tied again.

    Raises:
        PackedError: as `load_packed`.
        ValueError: names or shapes differ from the model's; the message lists some.
        OSError: the file cannot be read.
    """
    state, own = load_packed(path), model.state_dict()
    odd = sorted(state.keys() ^ own.keys())
    odd += [name for name, tensor in state.items() if name in own and own[name].shape != tensor.shape]
    if odd:
        raise ValueError(
            f"{os.fspath(path)} is of another architecture than {type(model).__name__}: {', '.join(odd[:5])} "
            f"({len(odd)} in all) are only in one of them, or have another shape"
        )
    model.load_state_dict(state, assign=assign)


def _tensor(file: BinaryIO, head: Head, name: str, stored: Stored) -> Tensor:
    values = _values(file, head, name, stored)
    if stored.scaled:
        return _scaled(values, _tensor_of(_read(file, head, f"{name}:scale"), torch.float32), TORCH[stored.dtype])
    return values.to(TORCH[stored.dtype])


def _values(file: BinaryIO, head: Head, name: str, stored: Stored) -> Tensor:
    """The tensor in the dtype in which it is stored."""
    dtype = TORCH[stored.stored]
    if stored.kind == "dense":
        array = _read(file, head, name)
        if dtype == torch.bool and array.size and int(array.max()) > 1:
            raise PackedError(f"{name[:80]!r} holds bytes that are neither true nor false")
        return _tensor_of(array, dtype).reshape(stored.shape)
    mask = _read(file, head, f"{name}:mask")
    if int(SET_BITS[mask].sum(dtype=np.int64)) != stored.kept or (stored.numel % 8 and mask[-1] >> stored.numel % 8):
        raise PackedError(f"the mask of {name[:80]!r} does not have {stored.kept} bits set among {stored.numel}")
    values = _read(file, head, name)
    places = np.flatnonzero(np.unpackbits(mask, count=stored.numel, bitorder="little").view(np.bool_))
    dense = np.zeros(stored.numel, dtype=values.dtype)
    dense[places] = values
    return _tensor_of(dense, dtype).reshape(stored.shape)


def _scaled(steps: Tensor, peaks: Tensor, dtype: torch.dtype) -> Tensor:
    """Whole numbers q and each row's largest magnitude a as q * a / 127, in float64 and then rounded to `dtype`."""
    weight = torch.empty(steps.shape, dtype=dtype)
    rows = (len(peaks), steps.numel() // max(1, len(peaks)))
    for part, peak, out in blocks(steps.view(rows), peaks.unsqueeze(1), weight.view(rows)):
        out.copy_(part.double() / LEVELS * peak.double())  # in this order: 127 / 127 is exactly 1
    return weight


def _read(file: BinaryIO, head: Head, name: str) -> Array:
    start, entry = head.places[name]
    array = np.empty(entry.nbytes, dtype=np.uint8)
    file.seek(start)
    if file.readinto(array.data) != array.size:  # type: ignore[attr-defined]  # of every file that open() returns
        raise PackedError("it became shorter while it was read")
    return array.view(NUMPY[entry.dtype])


def _tensor_of(array: Array, dtype: torch.dtype) -> Tensor:
    """The flat tensor of these bits."""
    bits: Any = torch.from_numpy(array)
    return bits.view(dtype)
