"""GELU as the last step of the sparse layer before it: what lies in registers is not written and read once more."""

from __future__ import annotations

from collections import Counter

from torch import Tensor, nn
from torch.nn.functional import gelu

from .choice import watched
from .linear import SparseLinear

BLOCKS = (("Intermediate", "dense", "intermediate_act_fn"), ("FFN", "lin1", "activation"))
"""Modules of transformers that do nothing between a linear layer and its activation: how the name of the class ends
(BERT and its kin, DistilBERT), the name of the layer, and of the activation."""


class Applied(nn.Module):
    """Stands in for an activation that the layer before it has applied: it returns what it is given."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.originals = (original,)  # in a tuple, it is no part of the model

    def forward(self, x: Tensor) -> Tensor:
        return x


def join(model: nn.Module) -> None:
    """Lets the sparse layers that are known to have GELU after them apply it; `part` undoes it.

    **Mutated**: the model. An activation with hooks stays, and so does any that is not the exact GELU, or whose layer
    is used in another place too.
    """
    uses = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for block in list(model.modules()):
        if not type(block).__module__.startswith("transformers.models."):
            continue
        for ending, layer, activation in BLOCKS:
            linear, after = getattr(block, layer, None), getattr(block, activation, None)
            if not (type(block).__name__.endswith(ending) and isinstance(linear, SparseLinear)):
                continue
            if uses[id(linear)] == 1 and isinstance(after, nn.Module) and _is_gelu(after) and not watched(after):
                linear.gelu = True
                setattr(block, activation, Applied(after))


def part(model: nn.Module) -> None:
    """Puts back the activations that `join` replaced."""
    for block in list(model.modules()):
        for name, module in list(block.named_children()):
            if isinstance(module, Applied):
                setattr(block, name, module.originals[0])


def _is_gelu(module: nn.Module) -> bool:
    if (type(module).__module__, type(module).__name__) == ("transformers.activations", "GELUActivation"):
        return module.act is gelu  # not its form in Python
    return type(module) is nn.GELU and module.approximate == "none"
