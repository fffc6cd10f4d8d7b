"""GELU as the last step of the sparse layer before it: what lies in registers is not written and read once more."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.functional import gelu

from .choice import watched
from .linear import SparseLinear

BLOCKS = ((r"\w*Intermediate", "dense", "intermediate_act_fn"), ("FFN", "lin1", "activation"))
"""Modules of transformers that do nothing between a linear layer and its activation: the name of the class (BERT and
its kin; DistilBERT), of the layer, and of the activation."""


class Applied(nn.Module):
    """Stands in for an activation that the layer before it applies: it returns what it is given."""

    def __init__(self, original: nn.Module, layer: SparseLinear) -> None:
        super().__init__()
        self.originals = (original, layer)  # in a tuple, they are no part of this module
        layer.gelu = True
        self.train(original.training)

    def forward(self, x: Tensor) -> Tensor:
        return x


def join(model: nn.Module, made: Iterable[SparseLinear]) -> None:
    """Lets sparse layers that are known to have GELU after them apply it; `part` undoes it.

    **Mutated**: the model and those layers. An activation with hooks stays, and so does any that is not the exact
    GELU, whose block has another `forward` than that of transformers, or whose layer is used in another place too.

    Args:
        model (`nn.Module`): with the layers in their places.
        made (iterable of `SparseLinear`): those that nobody else has yet.
    """
    new = {id(layer) for layer in made}
    uses = Counter(id(child) for module in model.modules() for child in module._modules.values())
    for block in list(model.modules()):
        if "forward" in vars(block) or not type(block).forward.__module__.startswith("transformers.models."):
            continue
        for kind, name, activation in BLOCKS:
            layer, after = getattr(block, name, None), getattr(block, activation, None)
            if not re.fullmatch(kind, type(block).__name__) or not isinstance(layer, SparseLinear):
                continue
            alone = id(layer) in new and uses[id(layer)] == 1
            if alone and isinstance(after, nn.Module) and _is_gelu(after) and not watched(after):
                setattr(block, activation, Applied(after, layer))


def part(model: nn.Module) -> None:
    """Puts back the activations that `join` replaced."""
    for block in list(model.modules()):
        for name, module in list(block.named_children()):
            if isinstance(module, Applied):
                original, layer = module.originals
                layer.gelu = False
                setattr(block, name, original.train(module.training))


def _is_gelu(module: nn.Module) -> bool:
    if (type(module).__module__, type(module).__name__) == ("transformers.activations", "GELUActivation"):
        return module.act is gelu  # not its form in Python
    return type(module) is nn.GELU and module.approximate == "none"
