"""Replaces the linear layers of a model that are faster without their zeros, and puts them back."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from torch import nn

from .layout import Precision
from .library import kernel
from .linear import CSR_PAYS, FLOATS, SparseLinear

logger = logging.getLogger(__name__)

LEAST_ZEROS = 0.5
"""Share of zeros from which on a layer is replaced by default: a cautious guess, not a measured bound."""
SMALLEST = 2**14
"""A layer of fewer weights gains nothing worth a change."""


@dataclass(frozen=True)
class Layer:
    """What `accelerate` did with one linear layer.

    Args:
        name (`str`): its name in the model.
        shape (`tuple[int, int]`): out_features and in_features.
        sparsity (`float`): share of zeros of its weight, in [0, 1].
        precision (`str`, *optional*): `"fp32"` or `"bf16"` where it was replaced, `None` where it stays as it is.
        reason (`str`): why.
    """

    name: str
    shape: tuple[int, int]
    sparsity: float
    precision: Precision | None
    reason: str


@dataclass(frozen=True)
class Report:
    """What `accelerate` did. As a text (`str(report)`) a line for each layer.

    Args:
        layers (`tuple[Layer, ...]`): the linear layers in the model's order.
        instructions (`str`): the instruction set of the kernel, or `"pytorch"` without one.
        dense_bytes (`int`): size of the replaced weights.
        sparse_bytes (`int`): what they take now; with `keep_dense` it comes on top.
    """

    layers: tuple[Layer, ...]
    instructions: str
    dense_bytes: int
    sparse_bytes: int

    @property
    def replaced(self) -> list[str]:
        """Names of the layers that were replaced."""
        return [layer.name for layer in self.layers if layer.precision]

    def summary(self) -> str:
        """Returns one line."""
        return (
            f"{len(self.replaced)} of {len(self.layers)} linear layers run sparse ({self.instructions}): "
            f"{self.sparse_bytes / 1e6:.1f} MB instead of {self.dense_bytes / 1e6:.1f}"
        )

    def __str__(self) -> str:
        wide = max((len(layer.name) for layer in self.layers), default=0)
        lines = [
            f"{layer.name:{wide}}  {'x'.join(map(str, layer.shape)):>11}  {layer.sparsity:6.1%} zeros  "
            f"{layer.precision or 'as it is':8}  {layer.reason}"
            for layer in self.layers
        ]
        return "\n".join([self.summary(), *lines])


def accelerate(
    model: nn.Module,
    dtype: Literal["fp32", "bf16", "auto"] = "fp32",
    *,
    min_sparsity: float | None = None,
    keep_dense: bool = True,
) -> Report:
    """Replaces linear layers that are faster without their zeros by `SparseLinear`, and says what it did and why.

    **Mutated**: the model's modules; its weights are not. `restore` undoes it. Layers with hooks, with a weight that
    another module shares, and subclasses of `nn.Linear` stay. Activations are best in fp32: with `"bf16"` they are
    rounded inside the layer.

    Args:
        model (`nn.Module`): on the CPU. It is then for inference alone.
        dtype (`str`, defaults to `"fp32"`): `"bf16"` is faster where the processor has bf16 dot products, and its
            answers differ from fp32 by the rounding; `"auto"` takes it there and fp32 elsewhere.
        min_sparsity (`float`, *optional*): share of zeros from which on a layer is replaced. Defaults to 0.5; without
            a compiled kernel to 0.9.
        keep_dense (`bool`, defaults to `True`): hold on to the dense layers. Without them the model takes less memory,
            `restore` is not possible, and a saved bf16 layer has the rounded weights.

    Raises:
        ValueError: `dtype` or `min_sparsity` is none of these, or `model` itself is a linear layer.
    """
    _check(model, dtype, min_sparsity)
    engine = kernel()
    if min_sparsity is None:
        min_sparsity = CSR_PAYS if engine is None else LEAST_ZEROS
    precision: Precision = "bf16" if dtype == "bf16" or (dtype == "auto" and engine and engine.dots) else "fp32"
    owners = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    layers, made = [], dict[nn.Linear, SparseLinear]()
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if not isinstance(module, nn.Linear | SparseLinear):
            continue
        sparsity = _zeros(module)
        reason = _reason_to_stay(module, owners, sparsity, min_sparsity)
        if reason is None and isinstance(module, nn.Linear):
            if module not in made:
                made[module] = SparseLinear.from_linear(module, precision, keep_dense=keep_dense)
            model.set_submodule(name, made[module])
        shape = (module.out_features, module.in_features)
        done = f"{min_sparsity:.0%} or more are zero"
        layers.append(Layer(name, shape, sparsity, None if reason else precision, reason or done))
    report = Report(
        tuple(layers),
        engine.level if engine else "pytorch",
        sum(module.weight.nbytes for module in made),
        sum(sparse.packed.nbytes for sparse in made.values()),
    )
    logger.info(report.summary())
    return report


def restore(model: nn.Module) -> list[str]:
    """Puts the dense layers back that `accelerate` replaced, the very modules, and returns their names.

    Raises:
        ValueError: layers were replaced with `keep_dense=False`; nothing is changed then.
    """
    found = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, SparseLinear)
    ]
    lost = [name for name, module in found if module.original is None]
    if lost:
        raise ValueError(
            f"{len(lost)} layers have no dense weights to go back to, first {lost[0]}: they were replaced with "
            "keep_dense=False. Load the model again."
        )
    for name, module in found:
        assert module.original is not None
        model.set_submodule(name, module.original.train(module.training))
    return [name for name, _ in found]


def _check(model: nn.Module, dtype: str, min_sparsity: float | None) -> None:
    problems = []
    if dtype not in ("fp32", "bf16", "auto"):
        problems.append(f"dtype is {dtype!r}; it must be 'fp32', 'bf16' or 'auto'.")
    if min_sparsity is not None and not 0 <= min_sparsity <= 1:
        problems.append(f"min_sparsity is {min_sparsity}; it is a share of zeros in [0, 1], e.g. 0.5.")
    if isinstance(model, nn.Linear | SparseLinear):
        problems.append("the model is itself a linear layer; use SparseLinear.from_linear(model).")
    if problems:
        raise ValueError(" ".join(problems))


def _zeros(module: nn.Linear | SparseLinear) -> float:
    size = module.in_features * module.out_features
    if isinstance(module, SparseLinear):
        return 1 - module.packed.kept / max(1, size)
    return 1 - int(module.weight.detach().count_nonzero()) / max(1, size) if not module.weight.is_meta else 0.0


def _reason_to_stay(
    module: nn.Linear | SparseLinear, owners: Counter[int], sparsity: float, min_sparsity: float
) -> str | None:
    if isinstance(module, SparseLinear):
        return "is sparse already"
    weight = module.weight
    if type(module) is not nn.Linear:
        return f"is a {type(module).__name__}"
    if weight.device.type != "cpu" or weight.dtype not in FLOATS:
        return f"is {str(weight.dtype).removeprefix('torch.')} on {weight.device}"
    if owners[id(weight)] > 1:
        return "shares its weight with another module"
    if _watched(module):
        return "has hooks"
    if sparsity < min_sparsity:
        return f"fewer than {min_sparsity:.0%} are zero"
    if weight.numel() < SMALLEST:
        return f"has fewer than {SMALLEST:,} weights"
    return None


def _watched(module: nn.Module) -> bool:
    """Whether something runs with the module, or in its place, that a new module would not know of."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in vars(module)
