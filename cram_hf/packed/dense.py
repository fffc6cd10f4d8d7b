"""The ordinary dense safetensors file of a model, as bytes to count or to compress, without writing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from .encode import flat, narrowed, state_of, untied
from .layout import NAMES, Entry, header, widest_first

Float = Literal["fp32", "fp16", "bf16"]
# The widest floating-point type that a file of this name holds; beside int8 matrices everything else is fp16.
WIDEST = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.float16}


def dense_size(model: nn.Module | Mapping[str, Tensor], dtype: Float = "fp32") -> int:
    """Returns the bytes of the model's `model.safetensors`, tied tensors once and no float wider than `dtype`."""
    tensors, _ = untied(state_of(model))
    payload = sum(tensor.numel() * narrowed(tensor.dtype, WIDEST[dtype]).itemsize for tensor in tensors.values())
    return len(_head(tensors, dtype)) + payload


def dense_pieces(model: nn.Module | Mapping[str, Tensor], dtype: Float = "fp32") -> Iterator[memoryview]:
    """Yields that file in pieces: its head, then one tensor after the other, the widest types first.

    Raises:
        ValueError: a value does not fit `dtype`; the message names the tensor.
    """
    tensors, _ = untied(state_of(model))
    yield memoryview(_head(tensors, dtype))
    for name in _entries(tensors, dtype):
        yield flat(name, tensors[name], narrowed(tensors[name].dtype, WIDEST[dtype])).data


def _head(tensors: Mapping[str, Tensor], dtype: Float) -> bytes:
    return header(_entries(tensors, dtype), {"format": "pt"})


def _entries(tensors: Mapping[str, Tensor], dtype: Float) -> dict[str, Entry]:
    entries = {
        name: Entry(NAMES[narrowed(tensor.dtype, WIDEST[dtype])], tuple(tensor.shape))
        for name, tensor in tensors.items()
    }
    return widest_first(entries)
