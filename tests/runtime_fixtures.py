"""Sparse matrices, the float64 answer, and the kernel at each instruction set that the processor has."""

from __future__ import annotations

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from cram_hf.runtime import kernel
from cram_hf.runtime.library import Kernel

needs_kernel = pytest.mark.skipif(kernel() is None, reason="the package was installed without a C++ compiler")
AVAILABLE = found.levels if (found := kernel()) else ()
FP16 = "avx512_fp16"
"""The only level that takes a matrix of fp16."""
PRECISIONS = ("fp32", "bf16", *(["fp16"] if found and found.fp16 else []), "int8")
"""Those that the kernel computes in here."""


def taken(*precisions: str) -> list[tuple[str, str]]:
    """Each level with each precision that it takes."""
    return [
        (level, precision) for level in AVAILABLE for precision in precisions if precision != "fp16" or level == FP16
    ]


CASES = {
    "rows": st.integers(0, 70) | st.integers(250, 530),
    "width": st.integers(0, 70) | st.integers(120, 530),
    "tokens": st.integers(0, 140),
    "zeros": st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0]),
    "has_bias": st.booleans(),
    "threads": st.integers(1, 3),
    "seed": st.integers(0, 2**16),
}
"""Every kind of layer and call, for hypothesis: none, few and many rows, columns and tokens."""

MATRICES = {
    "rows": st.integers(0, 40) | st.integers(250, 530),
    "width": st.integers(0, 40) | st.integers(120, 530),
    "zeros": st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    "seed": st.integers(0, 2**16),
}
"""Matrices that are packed: none, few and many columns."""


def at(level: str, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """The kernel at this level until the test ends; every call may use several threads."""
    engine = kernel()
    assert engine is not None
    monkeypatch.setattr(engine, "level", level)
    monkeypatch.setattr("cram_hf.runtime.library.ALONE", 0)
    return engine


def sparse(rows: int, width: int, zeros: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    there = torch.rand(rows, width, generator=generator) >= zeros
    return torch.randn(rows, width, generator=generator) * there


def inputs(tokens: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))


def product(x: Tensor, weight: Tensor, bias: Tensor | None, precision: str) -> Tensor:
    """The answer in float64, of operands that are rounded first where the kernel rounds them to bf16."""
    if precision == "bf16":
        x, weight = x.bfloat16(), weight.bfloat16()
    y = x.double() @ weight.double().t()
    return y if bias is None else y + bias.double()
