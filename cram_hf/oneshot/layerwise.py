"""Prunes a model's linear layers with data, block by block: Wanda, SparseGPT, and least squares for given masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..compressors import Compressor
from ..compressors.base import refuse_nan
from .patterns import Pattern, masks_of, patterns, split
from .refit import refit as least_squares
from .sparsegpt import sparsegpt
from .walk import Batch, Walk, evaluating, real_tokens
from .wanda import wanda_mask

Method = Literal["magnitude", "wanda", "sparsegpt"]


@torch.no_grad()
def prune_with_data_(
    model: nn.Module,
    weights: Mapping[str, nn.Parameter],
    compressor: Compressor,
    batches: Sequence[Batch],
    *,
    method: Method,
    refit: bool = False,
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, float]:
    """Prunes `weights` in place, block by block, and returns each layer's relative squared output error.

    The inputs of a block are those that the pruned blocks before it give; statistics of its layers are taken with the
    block still dense, padding left out. Counts are exactly those of the spec: its scope says how many weights each
    layer loses, `method` which ones.

    Args:
        model: **Mutated**: `weights`, and with `refit` the biases of their layers.
        weights: name -> parameter, e.g. `compressible_weights(model)`; all belong to `nn.Linear` layers.
        compressor: one pruner, e.g. `TopK(0.8)` or `NM(2, 4)`; quantizers after it act on the pruned values.
        batches: calibration inputs, see `Walk`.
        method: what chooses the mask: `"magnitude"`, `"wanda"` or `"sparsegpt"`, which also updates the weights.
        refit: give the kept weights and the bias of each layer the values of least squares, see `refit.refit`.
        masks: name -> bool, True where a weight stays: masks to keep in place of those that `method` would choose,
            e.g. `masks_of(TopK(0.8), weights)` with `"sparsegpt"`, which then only updates the weights.

    Returns:
        name -> ||X (W' - W)^T + b' - b||^2 / ||X W^T||^2 before quantizers; empty for Wanda without refit, which
        needs no more than the norms of the inputs.

    Raises:
        ValueError: the spec, a layer or the model's form does not fit; the block at which it shows is still unchanged.
    """
    pruner, rest = split(compressor)
    refuse_nan(weights)
    layers = _linear_layers(model, weights)
    choose = masks_of if method == "magnitude" else patterns
    wanted: Mapping[str, Pattern | Tensor] = masks or choose(pruner, weights)
    measure = _squares if method == "wanda" and not refit else _gram
    errors: dict[str, float] = {}
    with evaluating(model):
        walk = Walk(model, weights, batches)
        what = f"{method} {'given mask' if masks else compressor.spec}"
        for _ in tqdm(range(len(walk)), desc=what, unit="block", disable=None):
            inside = {name: layer for name, layer in layers.items() if name.startswith(f"{walk.name}.")}
            for name, found in input_sums(walk, inside, measure).items():
                before = inside[name].weight.double(), inside[name].bias
                after = _pruned(inside[name], found, wanted[name], method, refit)
                if measure is _gram:
                    errors[name] = _relative_error(*before, *after, found)
                _write_(inside[name], *after)
                if rest:
                    rest.apply_({name: inside[name].weight})
            walk.advance()
    return errors


def input_sums(walk: Walk, layers: Mapping[str, nn.Linear], measure: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Runs the current block on all batches and returns the sums of `measure` over its layers' inputs.

    Args:
        walk: at the block that holds `layers`.
        layers: weight name -> layer.
        measure: inputs (tokens, in) of one batch -> a tensor to be added up in float64.
    """
    sums: dict[str, Tensor] = {}

    def take(name: str, values: Tensor) -> None:
        # Accelerate leaves autocast wrapped around a model that a Trainer has scored; sums need all digits.
        with torch.autocast(values.device.type, enabled=False):
            found = measure(real_tokens(values, walk.mask, name)).double()
        sums[name] = sums[name].add_(found) if name in sums else found

    with ExitStack() as stack:
        for name, layer in layers.items():
            handle = layer.register_forward_pre_hook(lambda module, args, name=name: take(name, args[0]))
            stack.callback(handle.remove)
        walk.run_all()
    idle = [name for name in layers if name not in sums]
    if idle:
        raise ValueError(
            f"{', '.join(idle)}: not used in a forward pass on text alone, so there are no inputs to prune by. Leave "
            "them out with --compress_exclude, or take --method magnitude."
        )
    return {name: sums[name] for name in layers}


def _linear_layers(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, nn.Linear]:
    layers = {name: model.get_submodule(name.removesuffix(".weight")) for name in weights}
    odd = [f"{name} ({type(layer).__name__})" for name, layer in layers.items() if not isinstance(layer, nn.Linear)]
    if odd:
        raise ValueError(
            f"{', '.join(odd)}: pruning with data takes nn.Linear layers. Leave these out with --compress_exclude, or "
            "take --method magnitude."
        )
    return {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}


def _squares(inputs: Tensor) -> Tensor:
    return inputs.float().square().sum(0)


def _gram(inputs: Tensor) -> Tensor:
    """The Gram matrix of the inputs with a 1 appended, which is what a bias multiplies."""
    ones = inputs.new_ones(len(inputs), 1)
    with_one = torch.cat([inputs, ones], dim=1).float()
    return with_one.T @ with_one


def _pruned(
    layer: nn.Linear, found: Tensor, wanted: Pattern | Tensor, method: Method, refit: bool
) -> tuple[Tensor, Tensor | None]:
    """The layer's new weight and bias."""
    weight = layer.weight.double()
    if method == "sparsegpt" and not (refit and isinstance(wanted, Tensor)):
        after = sparsegpt(weight, found[:-1, :-1], wanted)
        wanted = after != 0
    else:
        if not isinstance(wanted, Tensor):
            wanted = wanda_mask(weight, found.diagonal()[:-1] if found.dim() == 2 else found, wanted)
        after = weight * wanted
    return least_squares(weight, layer.bias, wanted, found) if refit else (after, layer.bias)


def _relative_error(
    weight: Tensor, bias: Tensor | None, new_weight: Tensor, new_bias: Tensor | None, gram: Tensor
) -> float:
    """Squared change of the outputs, relative to the squared outputs without bias."""
    shift = weight.new_zeros(len(weight), 1)
    if bias is not None and new_bias is not None:
        shift = (new_bias.double() - bias.double())[:, None]
    change = torch.cat([new_weight - weight, shift], dim=1)
    dense = weight.mul(weight @ gram[:-1, :-1]).sum()
    return float(change.mul(change @ gram).sum() / dense) if dense else 0.0


def _write_(layer: nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
