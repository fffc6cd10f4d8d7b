"""Pruned models that are faster on a CPU: linear layers without their zeros (docs/runtime.md)."""

from .accelerate import accelerate, restore
from .layout import Packed, pack, unpack
from .library import kernel
from .linear import SparseLinear
from .load import load_accelerated
from .report import Layer, Report

__all__ = [
    "Layer",
    "Packed",
    "Report",
    "SparseLinear",
    "accelerate",
    "kernel",
    "load_accelerated",
    "pack",
    "restore",
    "unpack",
]
