"""What was done with each linear layer of a model, as data and as text."""

from __future__ import annotations

from dataclasses import dataclass

from .layout import Precision


@dataclass(frozen=True)
class Layer:
    """What `accelerate` did with one linear layer.

    Args:
        name (`str`): its name in the model.
        shape (`tuple[int, int]`): out_features and in_features.
        sparsity (`float`): share of zeros of its weight, in [0, 1].
        precision (`str`, *optional*): of the sparse layer in its place, `None` where it stays dense.
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
        dense_bytes (`int`): size of the weights of the layers that run sparse, before.
        sparse_bytes (`int`): what they take now; with `keep_dense` it comes on top.
    """

    layers: tuple[Layer, ...]
    instructions: str
    dense_bytes: int
    sparse_bytes: int

    @property
    def replaced(self) -> list[str]:
        """Names of the layers that run sparse, those included that did so before."""
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
            f"{layer.name:{wide}}  {'x'.join(map(str, layer.shape)):>11}  {layer.sparsity:7.2%} zeros  "
            f"{layer.precision or 'as it is':8}  {layer.reason}"
            for layer in self.layers
        ]
        return "\n".join([self.summary(), *lines])
