"""PyTorch's own sparse matrices in place of a model's linear layers: CSR on a CPU, 2:4 on a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from ..runtime.csr import csr_linear, to_csr
from ..sparsity import follows_nm

Model = TypeVar("Model", bound=nn.Module)

LEAST_ZEROS = 0.1
"""Share of zeros from which on a matrix is stored as CSR; rounding alone leaves fewer."""
TILE = (32, 64)
"""Rows and columns of an fp16 matrix must be multiples of these for the CUTLASS kernels (torch 2.13)."""


class UnsuitableError(ValueError):
    """This model has nothing that the engine is for."""


class CSRLinear(nn.Module):
    """A linear layer whose weight is stored as a compressed-sparse-row matrix."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = to_csr(linear.weight.detach())
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return csr_linear(x, self.weight, self.bias)


def with_csr_(model: Model) -> Model:
    """Returns `model`, in place, with a `CSRLinear` wherever a tenth of a linear layer's weights or more are zero.

    Raises:
        UnsuitableError: there is no such layer.
    """
    chosen = [(name, layer) for name, layer in _linears(model) if _zeros(layer) >= LEAST_ZEROS]
    if not chosen:
        raise UnsuitableError("no linear layer has a tenth of its weights at zero; type e.g. --to topk:0.9")
    for name, layer in chosen:
        model.set_submodule(name, CSRLinear(layer))
    return model


def semi_structured_layers(model: nn.Module) -> list[str]:
    """Returns the linear layers that are 2:4 and whose shape the GPU kernels take.

    Raises:
        UnsuitableError: there is none; says whether the pattern or the shape is at fault.
    """
    pattern = [(name, layer) for name, layer in _linears(model) if follows_nm(layer.weight, 2, 4)]
    if not pattern:
        raise UnsuitableError("no linear layer is 2:4; type --to nm:2:4")
    rows, columns = TILE
    fitting = [name for name, layer in pattern if not (layer.out_features % rows or layer.in_features % columns)]
    if not fitting:
        name, layer = pattern[0]
        raise UnsuitableError(
            f"the GPU's 2:4 kernels take fp16 matrices with a multiple of {rows} rows and of {columns} columns; none "
            f"of the {len(pattern)} layers that are 2:4 has such a shape, first {name}: {layer.out_features} x "
            f"{layer.in_features}"
        )
    return fitting


def with_semi_structured_(model: Model, chosen: Sequence[str]) -> Model:
    """Returns `model`, in place, with 2:4 weights in the layers `chosen`; it must be fp16 and on a GPU."""
    for name in chosen:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        layer.weight = nn.Parameter(to_sparse_semi_structured(layer.weight.detach()), requires_grad=False)
    return model


def _linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear))


def _zeros(layer: nn.Linear) -> float:
    return float((layer.weight == 0).float().mean())
