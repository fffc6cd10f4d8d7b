"""Packed models: one safetensors file with a bit mask for each sparse matrix and its kept values (docs/packed.md).

In a model folder the file is called `FILE_NAME`; a `Precision` is the widest type of the values in it.
"""

from .dense import dense_pieces, dense_size
from .layout import FILE_NAME, PackedError
from .read import load_packed, load_packed_model
from .write import Precision, packed_size, save_packed

__all__ = [
    "FILE_NAME",
    "PackedError",
    "Precision",
    "dense_pieces",
    "dense_size",
    "load_packed",
    "load_packed_model",
    "packed_size",
    "save_packed",
]
