"""Compressors, collections of weights that hypothesis draws, and bitwise comparison, shared by the tests."""

from __future__ import annotations

import math

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from cram_hf import NM, Chain, Quantize, TopK
from cram_hf.compressors.topk import BITS

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]

# Many equal magnitudes, zeros of both signs, and numbers at the edges of fp32, bf16 (1e-40) and fp16 (6e-8).
PALETTE = [0.0, -0.0, 0.5, -0.5, 0.25, 1.0, -1.0, 1e-40, -1e-40, 1.4e-45, 6e-8, -1.2e-7, 3.0, 1000.0, -60000.0]

COMPRESSORS = [
    TopK(0),
    TopK(0.29),
    TopK(0.5, "layer"),
    TopK(0.9),
    TopK(1),
    TopK(1, "layer"),
    TopK(0.29, "erk"),
    TopK(0.7, "erk"),
    TopK(0.5, "lamp"),
    TopK(0.9, "lamp"),
    NM(1, 4),
    NM(2, 4),
    NM(4, 8),
    NM(4, 4),
    Quantize(2),
    Quantize(8),
    Quantize(16),
    Chain((NM(2, 4), Quantize(8))),
    Chain((TopK(0.5), TopK(0.7, "layer"))),
    Chain((Quantize(4), TopK(0.6))),
    Chain((TopK(0.3), NM(2, 8), Quantize(3))),
]
PRUNERS = [c for c in COMPRESSORS if "quantize" not in c.spec]

thorough = settings(max_examples=50, deadline=None, derandomize=True)


@st.composite
def tensors(draw, values: list[float], shapes: list[tuple[int, ...]]) -> Tensor:
    """Values from a part of the list, so that some draws are nearly all ties, or normally distributed ones."""
    shape, few = draw(st.sampled_from(shapes)), draw(st.lists(st.sampled_from(values), max_size=6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    if few:
        choice = torch.randint(len(few), shape, generator=generator)
        return torch.tensor(few, dtype=torch.float64)[choice].to(draw(st.sampled_from(DTYPES)))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(draw(st.sampled_from(DTYPES)))


def collections(*, infinite: bool = False, flat: bool = False):
    """Collections of one to three weights; shapes that every compressor takes unless `flat`."""
    shapes = [(3, 8), (1, 8), (2, 16), (0, 8), (2, 0), (2, 8, 3), (1, 8, 1, 2)]
    shapes += [(), (1,), (7,), (0,), (1, 1), (3, 5)] if flat else []
    values = PALETTE + ([math.inf, -math.inf] if infinite else [])
    weights = st.lists(tensors(values, shapes), min_size=1, max_size=3)
    return weights.map(lambda found: {f"layer.{i}.weight": w for i, w in enumerate(found)})


def as_bits(weight: Tensor) -> Tensor:
    return weight.detach().contiguous().view(BITS[weight.dtype])


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(as_bits(a[name]), as_bits(b[name])) for name in a)


def copies(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: w.detach().clone() for name, w in weights.items()}


def zeros(weights: dict[str, Tensor]) -> int:
    return sum(int((w == 0).sum()) for w in weights.values())
