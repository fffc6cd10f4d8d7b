"""Sparse transfer: the zeros that a pruned checkpoint came with stay zeros while it is fine-tuned."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback

from .compressors.base import prune_

logger = logging.getLogger(__name__)


class KeepZeros(TrainerCallback):
    """Holds the zeros of some weights at zero while a Trainer trains them: what the paper calls sparse transfer.

    Their gradients are set to zero before they are accumulated, so that clipping, momentum and the ascent of CrAM see
    none; after each optimizer step the zeros are put back, whatever the optimizer did. The masks, one byte a weight,
    hold no more than what the start had: a kept weight that passes through zero later goes on training.

    Args:
        weights: name -> parameter; those with zeros are mutated at each optimizer step.

    Raises:
        ValueError: no weight is zero.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._hooks: list[RemovableHandle] = []
        self.take(weights)

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Takes the zeros (of either sign) that `weights` have now as those to keep, in place of any before."""
        masks = {name: weight.detach() != 0 for name, weight in weights.items()}
        total = sum(mask.numel() for mask in masks.values())
        zeros = total - sum(int(mask.count_nonzero()) for mask in masks.values())
        if not zeros:
            raise ValueError(
                f"--keep_sparsity: none of the {total:,} compressible weights of this model is zero, so there is "
                "nothing to keep. Start from a pruned checkpoint (--export topk:0.8 writes one), or leave it out."
            )
        self._weights, self._masks = dict(weights), {name: mask for name, mask in masks.items() if not mask.all()}
        logger.info(f"Keeping the zeros: {zeros:,} of {total:,} compressible weights ({zeros / total:.1%})")

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Surrounds a training: checks at its end that no zero was lost, and takes the hooks off, also on an error.

        Raises:
            RuntimeError: a weight that was zero is not; the message names its layer.
        """
        try:
            yield
            if lost := self._lost():
                raise RuntimeError(
                    f"--keep_sparsity: {lost}. Something other than the optimizer's step changed the weights: look "
                    "for a callback that writes them."
                )
        finally:
            self._release()

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Starts masking gradients; the model is on its device by now and a checkpoint to resume from is loaded."""
        self._release()
        if lost := self._lost():
            raise ValueError(
                f"--keep_sparsity: {lost}. The checkpoint to resume from was trained without these zeros: resume "
                "without --keep_sparsity, or start anew in another --output_dir."
            )
        for name in self._masks:
            weight = self._weights[name]
            mask = self._masks[name] = self._masks[name].to(weight.device)
            if weight.requires_grad:
                self._hooks.append(weight.register_hook(lambda grad, mask=mask: torch.where(mask, grad, 0.0)))

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Puts the zeros back: momentum of a resumed run or an orthogonalised update (Muon) may have moved them."""
        for name, mask in self._masks.items():
            prune_(self._weights[name], mask)

    def _release(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def _lost(self) -> str:
        """Says which zeros are none any more, "" if all of them are."""
        counts = {
            name: int(((self._weights[name].detach() != 0) > mask.to(self._weights[name].device)).count_nonzero())
            for name, mask in self._masks.items()
        }
        lost = {name: count for name, count in counts.items() if count}
        first = next(iter(lost), "")
        return f"{sum(lost.values()):,} weights that were zero at the start are not, first in {first}" if lost else ""
