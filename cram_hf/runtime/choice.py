"""Which linear layers are replaced, and by what."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import nn

from .break_even import least_zeros
from .layout import Precision
from .library import Kernel, kernel
from .linear import CSR_PAYS, FLOATS, SparseLinear
from .report import Layer, Report

logger = logging.getLogger(__name__)

Wish = Literal["fp32", "bf16", "fp16", "int8", "auto"]
SMALLEST = 2**14
"""A layer of fewer weights gains nothing worth a change."""


@dataclass(frozen=True)
class Choice:
    """What a call of `accelerate` asked for, on this machine. `choose` makes it.

    Args:
        precision (`str`): of the layers that are replaced.
        min_sparsity (`float`, *optional*): share of zeros from which on they are; by default where they gain.
        engine (`Kernel`, *optional*): the compiled kernel, if there is one.
    """

    precision: Precision
    min_sparsity: float | None
    engine: Kernel | None

    def layer(
        self, name: str, module: nn.Linear, dtype: torch.dtype, device: str, *, shared: bool, sparsity: float
    ) -> Layer:
        """Returns whether a layer is replaced, and why.

        Args:
            name: its name in the model.
            module: the layer; its weight may be a tensor without data.
            dtype: of the weight.
            device: kind of device that the weight is on.
            shared: whether another module has the same weight.
            sparsity: share of zeros of the weight.
        """
        shape = (module.out_features, module.in_features)
        weights = math.prod(shape)
        least = self._least(dtype, weights)
        reason = _obstacle(module, dtype, device, shared)
        if reason is None and round(sparsity * weights) < math.floor(least * weights):  # 80 % may be no whole number
            reason = f"fewer than {100 * least:g}% are zero"
        if reason is None and weights < SMALLEST:
            reason = f"has fewer than {SMALLEST:,} weights"
        done = f"{100 * least:g}% or more are zero"
        return Layer(name, shape, sparsity, None if reason else self.precision, reason or done)

    def report(self, layers: list[Layer], dense_bytes: int, made: Iterable[SparseLinear]) -> Report:
        """Returns what was done, and logs a line of it."""
        level = self.engine.level if self.engine else "pytorch"
        report = Report(tuple(layers), level, dense_bytes, sum(sparse.packed.nbytes for sparse in made))
        logger.info(report.summary())
        return report

    def _least(self, dtype: torch.dtype, weights: int) -> float:
        if self.min_sparsity is not None:
            return self.min_sparsity
        if self.engine is None:
            return CSR_PAYS
        return least_zeros(self.engine.level, dtype, self.precision, weights)


def choose(model: nn.Module, dtype: str, min_sparsity: float | None) -> Choice:
    """Checks the arguments of `accelerate`.

    Raises:
        TypeError: `model` is no PyTorch model.
        ValueError: with all problems.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is a {type(model).__name__}; it must be a PyTorch model, e.g. AutoModel.from_pretrained(...)."
        )
    problems = []
    if dtype not in get_args(Wish):
        problems.append(f"dtype is {dtype!r}; it must be one of {', '.join(get_args(Wish))}.")
    if min_sparsity is not None and not (isinstance(min_sparsity, int | float) and 0 <= min_sparsity <= 1):
        problems.append(f"min_sparsity is {min_sparsity!r}; it is a share of zeros in [0, 1], e.g. 0.5.")
    if isinstance(model, nn.Linear | SparseLinear):
        problems.append("the model is itself a linear layer; use SparseLinear.from_linear(model).")
    if problems:
        raise ValueError(" ".join(problems))
    engine = kernel()
    dots, fp16 = (False, False) if engine is None else (engine.dots, engine.fp16)
    if dtype == "auto":
        dtype = "fp16" if fp16 else "bf16" if dots else "fp32"
    if dtype == "fp16" and not fp16:
        logger.warning("There is no arithmetic of fp16 here (it needs AVX512-FP16 and the kernel): fp32 is computed.")
        dtype = "fp32"
    return Choice(cast(Precision, dtype), min_sparsity, engine)


@contextmanager
def named(layer: str) -> Iterator[None]:
    """A `ValueError` within tells the layer's name too."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"layer {layer}: {error} The model is as it was.") from None


def _obstacle(module: nn.Linear, dtype: torch.dtype, device: str, shared: bool) -> str | None:
    """Why a layer cannot be replaced, whatever its zeros."""
    if type(module) is not nn.Linear:
        return f"is a {type(module).__name__}"
    if device != "cpu" or dtype not in FLOATS:
        return f"is {str(dtype).removeprefix('torch.')} on {device}"
    if shared:
        return "shares its weight with another module"
    return "has hooks" if watched(module) else None


def watched(module: nn.Module) -> bool:
    """Whether something runs with the module, or in its place, that a new module would not know of."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in vars(module)
