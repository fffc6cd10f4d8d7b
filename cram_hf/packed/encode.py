"""Turns a tensor into the arrays that a packed file holds of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..compressors.base import BITS, blocks
from .layout import LEVELS, MAX_RANK, NAMES, NUMPY, Stored, mask_bytes

Array = np.ndarray[Any, Any]
WORTH = 256  # bytes that a mask must save: about what its entry costs in the header


@dataclass(frozen=True)
class Encoded:
    """A tensor in its stored form.

    Args:
        stored (`Stored`): how it is stored.
        arrays (`tuple[Callable[[], Array], ...]`): make the arrays of `stored.entries(...)`, in that order.
    """

    stored: Stored
    arrays: tuple[Callable[[], Array], ...]


def encode(name: str, tensor: Tensor, dtype: torch.dtype) -> Encoded:
    """Encodes a tensor with its values in `dtype`; the arrays are made when they are asked for.

    A floating-point tensor becomes a mask and its non-zero values where that saves 256 bytes or more.

    Raises:
        ValueError: a finite value is not finite in `dtype`; the message names the tensor.
    """
    form = partial(Stored, shape=tuple(tensor.shape), dtype=NAMES[tensor.dtype], stored=NAMES[dtype])
    if dtype not in BITS:
        return Encoded(form(kind="dense", kept=tensor.numel()), (partial(flat, name, tensor, dtype),))
    kept = int(np.count_nonzero(_not_zero(flat(name, tensor, dtype))))
    if not _pays(tensor.numel(), kept, dtype.itemsize):
        return Encoded(form(kind="dense", kept=tensor.numel()), (partial(flat, name, tensor, dtype),))
    arrays = (lambda: _kept(flat(name, tensor, dtype)), lambda: _mask(flat(name, tensor, dtype)))
    return Encoded(form(kind="mask", kept=kept), arrays)


def encode_int8(name: str, tensor: Tensor) -> Encoded:
    """Encodes a tensor rounded as `quantize:8` does: whole numbers in [-127, 127] and each row's largest magnitude.

    Raises:
        ValueError: a value is not finite, or not in fp32; the message names the tensor.
    """
    rows = tensor.cpu().reshape(len(tensor) if tensor.dim() > 1 else 1, -1)
    peaks = rows.abs().amax(dim=1).float()
    if not bool(peaks.isfinite().all()):
        raise ValueError(f"{name} holds a value that is not finite in fp32, so that int8 has no scale for its row")
    steps = torch.empty(rows.shape, dtype=torch.int8)
    for part, peak, out in blocks(rows, peaks.unsqueeze(1), steps):
        scale = torch.where(peak == 0, 1.0, peak).double()
        out.copy_((part.float().double() * LEVELS / scale).round_())
    whole = steps.numpy().reshape(-1)
    kept = int(np.count_nonzero(whole))
    form = partial(Stored, shape=tuple(tensor.shape), dtype=NAMES[tensor.dtype], stored="I8")
    scales = partial(_same, peaks.view(torch.int32).numpy())
    if not _pays(whole.size, kept, 1):
        return Encoded(form(kind="dense", kept=whole.size), (partial(_same, whole), scales))
    return Encoded(form(kind="mask", kept=kept), (partial(_same, _kept(whole)), scales, partial(_same, _mask(whole))))


def state_of(model: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the state dict. Raises `ValueError` for what no safetensors file of ours can hold."""
    state = getattr(model, "_orig_mod", model).state_dict() if isinstance(model, nn.Module) else dict(model)
    odd = [name for name, tensor in state.items() if not _storable(tensor)]
    if odd:
        raise ValueError(
            f"{', '.join(map(str, odd[:5]))} ({len(odd)} in all): only dense tensors with values, of the types "
            f"{', '.join(str(dtype).removeprefix('torch.') for dtype in NAMES)}, can be packed"
        )
    return {name: tensor.detach() for name, tensor in state.items()}


def untied(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the tensors without those that share all values with an earlier one, and alias -> first name."""
    first: dict[Any, str] = {}
    tied = {}
    for name, tensor in state.items():
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and place in first:
            tied[name] = first[place]
        else:
            first[place] = name
    return {name: tensor for name, tensor in state.items() if name not in tied}, tied


def narrowed(dtype: torch.dtype, widest: torch.dtype) -> torch.dtype:
    """Returns `widest` for a floating-point `dtype` that is wider, and else `dtype` itself."""
    return widest if dtype in BITS and dtype.itemsize > widest.itemsize else dtype


def flat(name: str, tensor: Tensor, dtype: torch.dtype) -> Array:
    """Returns the values in `dtype` and row-major order, floating-point ones as integers of the same bits.

    Raises:
        ValueError: a finite value is not finite in `dtype`; the message names the tensor.
    """
    cast = tensor.cpu().to(dtype)
    if cast.dtype != tensor.dtype and cast.numel():
        _check_finite(name, tensor, cast)
    bits = torch.uint8 if dtype == torch.bool else BITS.get(dtype, dtype)
    return cast.contiguous().view(-1).view(bits).numpy().astype(NUMPY[NAMES[dtype]], copy=False)


def _check_finite(name: str, tensor: Tensor, cast: Tensor) -> None:
    if bool(torch.stack(torch.aminmax(cast)).isfinite().all()):
        return
    finite = tensor[tensor.isfinite()].abs()
    if bool(finite.to(cast.dtype).isinf().any()):
        kind = str(cast.dtype).removeprefix("torch.")
        raise ValueError(f"{name} holds {float(finite.max()):g}, which {kind} cannot; bf16 and fp32 go to 3e38")


def _storable(tensor: Any) -> bool:
    if not isinstance(tensor, Tensor) or tensor.is_meta or tensor.dim() > MAX_RANK:
        return False
    return tensor.dtype in NAMES and tensor.layout == torch.strided


def _same(array: Array) -> Array:
    return array


def _not_zero(bits: Array) -> Array:
    """Where a number is neither +0 nor -0. Not compared as floats: a processor may be told to take tiny ones for 0."""
    return (bits != 0) & (bits != np.iinfo(bits.dtype).min)


def _kept(bits: Array) -> Array:
    return bits[np.flatnonzero(_not_zero(bits))]


def _mask(bits: Array) -> Array:
    return np.packbits(_not_zero(bits), bitorder="little")


def _pays(numel: int, kept: int, itemsize: int) -> bool:
    return mask_bytes(numel) + kept * itemsize + WORTH <= numel * itemsize
