"""Pruned models that are faster on a CPU: linear layers without their zeros (docs/runtime.md)."""

from .accelerate import Layer, Report, accelerate, restore
from .layout import Packed, pack, unpack
from .library import kernel
from .linear import SparseLinear

__all__ = ["Layer", "Packed", "Report", "SparseLinear", "accelerate", "kernel", "pack", "restore", "unpack"]
