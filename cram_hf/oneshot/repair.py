"""Repairs a pruned model without labels: each output channel gets back the dense model's mean and variance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .walk import Batch, Walk, evaluating, real_tokens, repeated_blocks, token_mask

Affine = nn.Linear | nn.LayerNorm


@dataclass
class Moments:
    """Sums over tokens of a layer's outputs and of their squares, (channels,) each, in float64."""

    count: int
    total: Tensor
    squares: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean of each channel."""
        return self.total / self.count

    @property
    def std(self) -> Tensor:
        """The standard deviation of each channel, divided by the number of tokens."""
        return (self.squares / self.count - self.mean.square()).clamp_(min=0).sqrt_()


@torch.no_grad()
def output_moments(
    model: nn.Module, weights: Mapping[str, Tensor], batches: Sequence[Batch], *, norms: bool = False
) -> dict[str, Moments]:
    """Returns the moments of the outputs of the layers that `repair_` can mend, module name -> moments.

    Called on the dense model before it is pruned. The model stays as it is.

    Args:
        model, weights, batches: as in `Walk`.
        norms: take the layer normalisations inside the blocks as well as the linear layers of `weights`.
    """
    mask: Tensor | None = None
    device = next(model.parameters()).device
    with evaluating(model), _recording(_repairable(model, weights, norms), lambda: mask) as found:
        for batch in tqdm(batches, desc="dense outputs", unit="batch", disable=None):
            there = {name: value.to(device) for name, value in batch.items()}
            mask = token_mask(there)
            model(**there)
    return found


@torch.no_grad()
def repair_(
    model: nn.Module, weights: Mapping[str, Tensor], batches: Sequence[Batch], dense: Mapping[str, Moments]
) -> None:
    """Gives each output channel of the layers named in `dense` the mean and variance it had there.

    Layer after layer in the order of the forward pass, each with the inputs it now gets: row i of a linear layer's
    weight is multiplied by s = std_dense / std_pruned, and its bias becomes s * (bias - mean_pruned) + mean_dense; a
    layer normalisation is treated the same through its own scale and bias. Zeros stay zeros. A channel that no longer
    varies keeps its scale; a layer without bias is only scaled.

    Args:
        model, weights, batches: as in `Walk`; the layers' parameters are **mutated**.
        dense: what `output_moments` found in the dense model, for the same batches.

    Source: Jordan et al., ICLR 2023 (REPAIR), section 4, there with batch normalisation.
    """
    layers = _affine({name: model.get_submodule(name) for name in dense})
    with evaluating(model):
        walk = Walk(model, weights, batches)
        for _ in tqdm(range(len(walk)), desc="repair", unit="block", disable=None):
            inside = {name: layer for name, layer in layers.items() if name.startswith(f"{walk.name}.")}
            for stage in _stages(walk, inside):
                with _recording(stage, lambda: walk.mask) as found:
                    walk.run_all()
                for name, layer in stage.items():
                    _match_(layer, found[name], dense[name])
            walk.advance()


def _repairable(model: nn.Module, weights: Mapping[str, Tensor], norms: bool) -> dict[str, Affine]:
    layers = _affine({name: model.get_submodule(name) for name in (n.removesuffix(".weight") for n in weights)})
    if norms:
        for home, block in repeated_blocks(model, weights).items():
            inside = _affine({f"{home}.{name}": module for name, module in block.named_modules()})
            layers |= {name: layer for name, layer in inside.items() if isinstance(layer, nn.LayerNorm)}
    return layers


def _affine(modules: Mapping[str, nn.Module]) -> dict[str, Affine]:
    """Those that end in a scale and a shift of each channel."""
    layers = {name: module for name, module in modules.items() if isinstance(module, (nn.Linear, nn.LayerNorm))}
    return {n: m for n, m in layers.items() if isinstance(m, nn.Linear) or m.elementwise_affine}


@contextmanager
def _recording(layers: Mapping[str, nn.Module], mask: Callable[[], Tensor | None]) -> Iterator[dict[str, Moments]]:
    """Adds up the moments of what `layers` give inside the block."""
    found: dict[str, Moments] = {}

    def take(name: str, output: Tensor) -> None:
        values = real_tokens(output, mask(), name).double()
        moments = found.setdefault(
            name, Moments(0, values.new_zeros(values.shape[1]), values.new_zeros(values.shape[1]))
        )
        moments.count += len(values)
        moments.total += values.sum(0)
        moments.squares += values.square().sum(0)

    with ExitStack() as stack:
        for name, layer in layers.items():
            handle = layer.register_forward_hook(lambda module, args, output, name=name: take(name, output))
            stack.callback(handle.remove)
        yield found


def _stages(walk: Walk, layers: Mapping[str, Affine]) -> list[dict[str, Affine]]:
    """The layers in the order they are called; those called with one and the same input (Q, K, V) share a stage."""
    calls: list[tuple[str, Tensor]] = []
    with ExitStack() as stack:
        for name, layer in layers.items():
            handle = layer.register_forward_pre_hook(lambda module, args, name=name: calls.append((name, args[0])))
            stack.callback(handle.remove)
        walk.run(0)
    stages: list[dict[str, Affine]] = []
    for i, (name, given) in enumerate(calls):
        if i == 0 or given is not calls[i - 1][1]:
            stages.append({})
        stages[-1][name] = layers[name]
    return stages


def _match_(layer: Affine, now: Moments, wanted: Moments) -> None:
    weight, bias = layer.weight, layer.bias
    # Outputs are float32, so the variance of a constant channel comes out as rounding error, not as zero.
    varies = now.std > 1e-6 * now.mean.abs()
    scale = torch.where(varies, wanted.std / now.std, 1.0)
    weight.copy_(weight.double() * (scale if weight.dim() == 1 else scale[:, None]))
    if bias is not None:
        bias.copy_(scale * (bias.double() - now.mean) + wanted.mean)
