"""A linear layer that leaves its zeros out: for inference on a CPU."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import int8
from .csr import csr_linear, to_csr
from .layout import Packed, Precision, pack, spread, unpack
from .library import kernel

CSR_PAYS = 0.9
"""Share of zeros from which on PyTorch's own sparse product is the better fallback; below it the dense one is."""
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


class SparseLinear(nn.Module):
    """`y = x W^T + b` for a W that is mostly zeros. It has no parameters: it cannot be trained.

    A zero weight is left out, so that an infinite or NaN activation under it does not reach the output, as it would in
    the dense layer. Sums are fp32 (but in fp16) and of a fixed order: an output depends neither on the rest of its
    batch nor on the number of threads. In bf16 activations are rounded to bf16 as well, in int8 to whole numbers with
    a scale for each token: sums are then exact, and a token that is not finite gives NaN everywhere. In fp16
    activations are rounded after a division by a power of two for each token, and sums are fp16 within 192 columns and
    fp32 beyond; where the processor has no arithmetic of fp16, PyTorch computes in fp32. Several threads may call one
    layer at a time.

    With `gelu` set, which `accelerate` does where it knows that GELU comes next, it returns GELU of y, made in its
    last step: the exact one, not that of tanh, with an error below 1e-6.

    `state_dict` gives the dense `weight` and `bias` of `nn.Linear`, so that a model is saved as an ordinary
    checkpoint. Use `from_linear` to make one.
    """

    def __init__(self, packed: Packed, bias: Tensor | None = None, original: nn.Linear | None = None) -> None:
        super().__init__()
        if bias is not None and (bias.shape != packed.shape[:1] or bias.dtype != torch.float32 or not bias.is_cpu):
            raise ValueError(
                f"the bias is {bias.dtype} of shape {tuple(bias.shape)} on {bias.device}; it must be torch.float32 of "
                f"shape {packed.shape[:1]} on the CPU: type bias.float().cpu()."
            )
        self.out_features, self.in_features = packed.shape
        self.packed = packed
        self.bias = bias
        self.originals = () if original is None else (original,)  # in a tuple, it is no part of the model
        self.gelu = False
        self._fallback: Tensor | None = None

    @classmethod
    def from_linear(cls, layer: nn.Linear, precision: Precision = "fp32", *, keep_dense: bool = True) -> SparseLinear:
        """Returns the layer without its zeros. Nothing is mutated.

        Args:
            layer (`nn.Linear`): on the CPU; fp32, bf16 or fp16.
            precision (`str`, defaults to `"fp32"`): all but `"fp32"` round weights and activations.
            keep_dense (`bool`, defaults to `True`): hold on to `layer`, for `restore` and `state_dict`.

        Raises:
            ValueError: the weight is of another type or elsewhere.
        """
        bias = None if layer.bias is None else layer.bias.detach().float().clone()
        sparse = cls(pack(layer.weight, precision), bias, layer if keep_dense else None)
        return sparse.train(layer.training)

    @property
    def original(self) -> nn.Linear | None:
        """The dense layer that this one stands for, if it was kept."""
        return self.originals[0] if self.originals else None

    @property
    def sparsity(self) -> float:
        """Share of weights that are left out, in [0, 1]."""
        return 1 - self.packed.kept / max(1, self.in_features * self.out_features)

    @property
    def weight(self) -> Tensor:
        """The dense weight (out_features, in_features); made anew each time if the dense layer was not kept."""
        return unpack(self.packed) if self.original is None else self.original.weight

    def forward(self, x: Tensor) -> Tensor:
        """Returns (..., out_features) in the type of `x` (..., in_features).

        Raises:
            RuntimeError: a gradient is needed, or `x` has another width, type or device.
        """
        self._check(x)
        if not _has_kernel(self.packed.values.dtype == torch.float16):
            if self._fallback is None:
                self._fallback = _pytorch_weight(self.packed)
            return _pytorch_product(x, self.packed, self._fallback, self.bias, self.gelu)
        packed = self.packed
        # Whoever records the call, or has no data yet, must see an operator.
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or type(x) is not Tensor:
            weight = (packed.ends, packed.order, packed.columns, packed.values, packed.peaks, packed.totals)
            return sparse_linear(x, *weight, self.bias, *packed.shape, self.gelu)
        return _product(x, packed, self.bias, self.gelu)

    def extra_repr(self) -> str:
        bias, last = self.bias is not None, ", GELU" if self.gelu else ""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={bias}, "
            f"{self.packed.precision}, {self.sparsity:.1%} zeros{last}"
        )

    def _check(self, x: Tensor) -> None:
        if torch.is_grad_enabled() and x.requires_grad:
            raise RuntimeError(
                "SparseLinear is for inference and has no gradient. Call the model under torch.inference_mode() or "
                "torch.no_grad(), or type cram_hf.runtime.restore(model) to train it."
            )
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise RuntimeError(f"the input is of shape {tuple(x.shape)}; it must be (..., {self.in_features})")
        if x.dtype not in FLOATS or x.device.type != "cpu":
            raise RuntimeError(
                f"the input is {x.dtype} on {x.device}; SparseLinear takes fp32, bf16 or fp16 on the CPU. Move the "
                "model there, or type cram_hf.runtime.restore(model)."
            )

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        layer = self.original
        weight, bias = (unpack(self.packed), self.bias) if layer is None else (layer.weight, layer.bias)
        for name, tensor in (("weight", weight), ("bias", bias)):
            if tensor is not None:
                destination[prefix + name] = tensor if keep_vars else tensor.detach()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if any(prefix + name in state_dict for name in ("weight", "bias")):
            raise RuntimeError(
                f"{prefix.rstrip('.')} is a sparse layer and cannot be loaded into: type "
                "cram_hf.runtime.restore(model) first, or load before accelerate(model)."
            )


@torch.library.custom_op("cram_hf::sparse_linear", mutates_args=(), device_types="cpu")
def sparse_linear(
    x: Tensor,
    ends: Tensor,
    order: Tensor,
    columns: Tensor,
    values: Tensor,
    peaks: Tensor | None,
    totals: Tensor | None,
    bias: Tensor | None,
    out_features: int,
    in_features: int,
    gelu: bool = False,
) -> Tensor:
    """The kernel as an operator that `torch.compile` and `torch.jit.trace` leave as it is.

    Where there is no kernel, or no fp16 for a layer of it, PyTorch computes, with weights unpacked in every call.
    """
    packed = Packed((out_features, in_features), ends, order, columns, values, peaks, totals)
    if _has_kernel(values.dtype == torch.float16):
        return _product(x, packed, bias, gelu)
    return _pytorch_product(x, packed, _pytorch_weight(packed), bias, gelu)


@sparse_linear.register_fake
def _(x: Tensor, *operands: Any) -> Tensor:
    return x.new_empty((*x.shape[:-1], operands[7]))


@torch.compiler.assume_constant_result  # the compiler would look into the search for the library
def _has_kernel(fp16: bool) -> bool:
    engine = kernel()
    return engine is not None and (engine.fp16 or not fp16)


@torch.compiler.disable  # the compiler comes here if it has given up `forward`, after a call that was refused
def _product(x: Tensor, packed: Packed, bias: Tensor | None, gelu: bool) -> Tensor:
    engine = kernel()
    assert engine is not None
    rows = math.prod(x.shape[:-1])  # not -1, which says nothing where the width is 0
    y = engine.linear(x.detach().reshape(rows, x.shape[-1]).float().contiguous(), packed, bias, gelu=gelu)
    return y.view(*x.shape[:-1], packed.shape[0]).to(x.dtype)


def _pytorch_product(x: Tensor, packed: Packed, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    if packed.precision == "int8":
        assert packed.peaks is not None
        flat = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]).float()
        y = int8.product(flat, weight, packed.peaks, bias).view(*x.shape[:-1], packed.shape[0])
    else:
        rounded = (x.bfloat16() if packed.precision == "bf16" else x).float()
        product = functional.linear if weight.layout == torch.strided else csr_linear
        y = product(rounded, weight, bias)
    y = y.to(x.dtype)
    return functional.gelu(y) if gelu else y


def _pytorch_weight(packed: Packed) -> Tensor:
    """W for PyTorch: as a compressed-sparse-row matrix where that is the faster one, else dense; of int8 the steps."""
    if packed.precision == "int8":
        return spread(packed)
    dense = unpack(packed)
    if int(dense.count_nonzero()) > (1 - CSR_PAYS) * dense.numel() or not dense.numel():
        return dense
    return to_csr(dense)
