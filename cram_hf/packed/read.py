"""Reads a packed file back: a damaged or forged one is an error, never a wrong model or a huge allocation."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from ..compressors.base import blocks
from .encode import Array
from .header import read_head
from .layout import FILE_NAME, LEVELS, NUMPY, TORCH, PackedError, Stored

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
    with opened(path) as file:
        return file.state(file.stored)


def load_packed_model(path: str | os.PathLike[str], model: nn.Module, *, assign: bool = False) -> None:
    """Fills `model` with the tensors of a packed file. **Mutated**: all its parameters and saved buffers, or nothing.

    Args:
        path (`str` or `os.PathLike`): what `save_packed` wrote.
        model (`nn.Module`): a model of the same architecture, on any device.
        assign (`bool`, defaults to `False`): take the file's tensors as they are, on the CPU and in their dtypes,
            instead of copying their values; weights that were tied are then to be tied again.

    Raises:
        PackedError: as `load_packed`.
        ValueError: names, shapes or kinds of numbers differ from the model's; the message lists some.
        OSError: the file cannot be read.
    """
    with opened(path) as file:
        file.check_architecture(model)
        state = file.state(file.stored)
    model.load_state_dict(state, assign=assign)


class PackedFile:
    """An open packed file whose head and digest were checked; its tensors are read when they are asked for.

    Args:
        file (`BinaryIO`): what `open(path, "rb")` returns.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        head = read_head(file, os.fstat(file.fileno()).st_size)
        self.stored, self.tied, self._places = head.stored, head.tied, head.places

    def check_architecture(self, model: nn.Module) -> None:
        """Raises `ValueError` unless the model's state dict has the names, shapes and kinds of numbers of the file."""
        own = model.state_dict()
        held = {name: self.stored[self.tied.get(name, name)] for name in (*self.stored, *self.tied)}
        odd = sorted(held.keys() ^ own.keys())
        odd += [name for name, item in held.items() if name in own and not _fits(item, own[name])]
        if odd:
            raise ValueError(
                f"{self._file.name} is of another architecture than {type(model).__name__}: {', '.join(odd[:5])} "
                f"({len(odd)} in all) are only in one of them, or have another shape or kind of number"
            )

    def state(self, names: Collection[str]) -> dict[str, Tensor]:
        """Returns dense tensors of these keys of `stored`, in the model's dtypes, and the names tied to them."""
        state = {name: self._tensor(name) for name in names}
        return state | {name: state[other] for name, other in self.tied.items() if other in state}

    def kept(self, name: str) -> tuple[Array, Tensor]:
        """Returns of a masked tensor where its values are, bool (numel,), and these in the model's dtype, (kept,)."""
        stored = self.stored[name]
        there, array = self._kept(name)
        values = _tensor_of(array, TORCH[stored.stored])
        if not stored.scaled:
            return there, values.to(TORCH[stored.dtype])
        peaks = self._peaks(name)
        counts = np.count_nonzero(there.reshape(len(peaks), stored.numel // max(1, len(peaks))), axis=1)
        return there, _scaled(values, peaks.repeat_interleave(torch.from_numpy(counts)), TORCH[stored.dtype])

    def _tensor(self, name: str) -> Tensor:
        stored = self.stored[name]
        dtype = TORCH[stored.stored]
        if stored.kind == "mask":
            there, values = self._kept(name)
            array = np.zeros(stored.numel, dtype=values.dtype)
            array[np.flatnonzero(there)] = values
        else:
            array = self._read(name)
            if dtype == torch.bool and array.size and int(array.max()) > 1:
                raise PackedError(f"{name[:80]!r} holds bytes that are neither true nor false")
        tensor, wanted = _tensor_of(array, dtype).reshape(stored.shape), TORCH[stored.dtype]
        return _scaled(tensor, self._peaks(name), wanted) if stored.scaled else tensor.to(wanted)

    def _kept(self, name: str) -> tuple[Array, Array]:
        """Where the values of a masked tensor are, and these as they are stored."""
        stored = self.stored[name]
        mask, past = self._read(f"{name}:mask"), stored.numel % 8
        if int(SET_BITS[mask].sum(dtype=np.int64)) != stored.kept or (past and mask[-1] >> past):
            raise PackedError(f"the mask of {name[:80]!r} does not have {stored.kept} bits set among {stored.numel}")
        there = np.unpackbits(mask, count=stored.numel, bitorder="little").view(np.bool_)
        return there, self._read(name)

    def _peaks(self, name: str) -> Tensor:
        return _tensor_of(self._read(f"{name}:scale"), torch.float32)

    def _read(self, name: str) -> Array:
        start, entry = self._places[name]
        array = np.empty(entry.nbytes, dtype=np.uint8)
        self._file.seek(start)
        if self._file.readinto(array.data) != array.size:  # type: ignore[attr-defined]  # of every file open() returns
            raise PackedError("it became shorter while it was read")
        return array.view(NUMPY[entry.dtype])


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[PackedFile]:
    """Opens a packed file and checks it; a `PackedError`, inside the block too, gets the file's name.

    Raises:
        PackedError: a `ValueError`; the file is no packed model of a known version, or damaged; the message says how.
        OSError: the file cannot be read.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(f"{os.fspath(path)} is a folder; name the packed file in it, {FILE_NAME}.")
    with open(path, "rb") as file:
        try:
            yield PackedFile(file)
        except PackedError as error:
            raise PackedError(f"{os.fspath(path)}: {error}") from None


def _fits(stored: Stored, own: Tensor) -> bool:
    dtype = TORCH[stored.dtype]
    kinds = [(kind.is_floating_point, kind == torch.bool) for kind in (own.dtype, dtype)]
    return own.shape == stored.shape and kinds[0] == kinds[1]


def _scaled(steps: Tensor, peaks: Tensor, dtype: torch.dtype) -> Tensor:
    """Whole numbers q and each row's largest magnitude a as q * a / 127, in float64 and then rounded to `dtype`."""
    weight = torch.empty(steps.shape, dtype=dtype)
    rows = (len(peaks), steps.numel() // max(1, len(peaks)))
    for part, peak, out in blocks(steps.view(rows), peaks.unsqueeze(1), weight.view(rows)):
        out.copy_(part.double() / LEVELS * peak.double())  # in this order: 127 / 127 is exactly 1
    return weight


def _tensor_of(array: Array, dtype: torch.dtype) -> Tensor:
    """The flat tensor of these bits."""
    bits: Any = torch.from_numpy(array)
    return bits.view(dtype)
