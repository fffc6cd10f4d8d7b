"""What a compression operator C is: the contract every compressor keeps, and chains of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# The integer type whose order on non-negative floats is the order of the floats themselves (IEEE 754).
BITS: dict[torch.dtype, torch.dtype] = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}


class Compressor(ABC):
    """A compression operator C on a collection of named weights (CrAM, section 3).

    Calling it is pure: `compressor(weights)` returns new tensors under the same names, with the same shapes, dtypes
    and devices, and mutates nothing. Every compressor is deterministic (of equal magnitudes the lower index is kept),
    idempotent, and the identity at zero strength; `parse_compressor(compressor.spec) == compressor`.
    """

    @property
    @abstractmethod
    def spec(self) -> str:
        """The word for this compressor, e.g. `topk:0.7`: flag value, JSON key and plot label."""

    @property
    def key(self) -> str:
        """`spec` with `_` for `:`, fit for a metric name: `eval_topk_0.7_f1`."""
        return self.spec.replace(":", "_")

    @abstractmethod
    def apply_(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compresses `weights` in place and returns the masks M of the pruned ones.

        Args:
            weights: name -> floating-point tensor of any shape. **Mutated.** A NaN anywhere is refused before any
                weight is touched.

        Returns:
            name -> bool tensor of the weight's shape, True where C keeps the value. A weight that is not pruned
            (quantized, or strength zero) has no entry: a value that a quantizer rounds to zero is not pruned.

        Raises:
            ValueError: a weight holds NaN or has a shape the compressor cannot take; the message names it.
        """

    def check(self, weights: Mapping[str, Tensor]) -> None:  # noqa: B027  # most compressors take any shape
        """Raises `ValueError`, naming them, if weights of these shapes cannot be compressed; looks at no value."""

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns C(weights) as new tensors, detached from autograd; `weights` stays as it is."""
        values = {name: weight.detach().clone() for name, weight in weights.items()}
        self.apply_(values)
        return values


@dataclass(frozen=True)
class Chain(Compressor):
    """Compressors applied one after the other, e.g. prune and then quantize: `nm:2:4+quantize:8`.

    The mask of a weight is the conjunction of the members' masks. A chain among the members is taken apart, so that
    each chain has one spec.

    Args:
        members (`tuple[Compressor, ...]`): two or more.
    """

    members: tuple[Compressor, ...]

    def __post_init__(self) -> None:
        flat = [
            part for member in self.members for part in (member.members if isinstance(member, Chain) else (member,))
        ]
        if len(flat) < 2:
            raise ValueError(
                f"chain: {len(flat)} compressors were given; a chain has two or more. Type e.g. nm:2:4+quantize:8."
            )
        object.__setattr__(self, "members", tuple(flat))

    @property
    def spec(self) -> str:
        return "+".join(member.spec for member in self.members)

    @property
    def key(self) -> str:
        return "+".join(member.key for member in self.members)

    def apply_(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        masks: dict[str, Tensor] = {}
        for member in self.members:
            for name, mask in member.apply_(weights).items():
                masks[name] = masks[name].logical_and_(mask) if name in masks else mask
        return masks

    def check(self, weights: Mapping[str, Tensor]) -> None:
        for member in self.members:
            member.check(weights)


def refuse_nan(weights: Mapping[str, Tensor]) -> None:
    """Raises `ValueError` naming the weights that hold a NaN; one reduction each, one synchronisation for all."""
    filled = {name: weight for name, weight in weights.items() if weight.numel()}
    if not filled:
        return
    peaks = [weight.amax().float() for weight in filled.values()]  # amax propagates NaN
    found = torch.stack([peak.to(peaks[0].device) for peak in peaks]).isnan().tolist()
    bad = [name for name, nan in zip(filled, found, strict=True) if nan]
    if bad:
        raise ValueError(
            f"{len(bad)} of {len(weights)} weights hold NaN, first {bad[0]!r}: only finite weights can be ranked and "
            "compressed. Look for a diverged training run (lower --learning_rate, or set --max_grad_norm)."
        )


def prune_(weight: Tensor, keep: Tensor) -> None:
    """Sets `weight` to zero where `keep` is False, in place.

    The numbers are multiplied by 1 or 0 as integers, bit pattern and all: that leaves a +0, whatever was pruned, in a
    tenth of the time of `masked_fill_`.
    """
    for part, kept in blocks(weight.detach(), keep):
        part.view(BITS[part.dtype]).mul_(kept)


def blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cuts tensors of one shape into matching views of whole rows, in order.

    A block has about 2^18 numbers on a CPU, so that the temporaries of an operation stay in its cache and need no new
    memory, and 2^22 on an accelerator, which would rather start few large kernels.
    """
    elements = 1 << (18 if tensors[0].device.type == "cpu" else 22)
    rows_of = [tensor.unsqueeze(0) if tensor.dim() == 0 else tensor for tensor in tensors]
    rows = max(1, elements // max(1, rows_of[0][:1].numel()))
    yield from zip(*(tensor.split(rows) for tensor in rows_of), strict=True)
