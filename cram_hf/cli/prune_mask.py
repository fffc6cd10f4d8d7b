"""The mask of `cram-hf prune --mask_from`: where the weights of another, pruned model are zero."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..card_bare import PRUNING, read_record
from .models import load_checkpoint, weights_of


def read_masks(args: argparse.Namespace, model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns name -> bool of the weight's shape, True where that weight of `--mask_from` is not zero.

    Args:
        args: `mask_from`, a folder, packed folder or name on the Hub, and the flags of `add_model` and `add_weights`.
        model: what is to be pruned.
        weights: its compressible weights.

    Raises:
        ValueError: `--mask_from` cannot be loaded, was pruned with `--permute` as far as its record tells, its
            compressible weights have other names or shapes than `weights`,
            or none of their values is zero.
    """
    given, record = f"--mask_from {args.mask_from}", Path(args.mask_from) / PRUNING
    if record.exists() and read_record(record).get("permute"):
        raise ValueError(f"{given} was pruned with --permute: its channels lie in another order than those of MODEL.")
    other, _ = load_checkpoint(args.mask_from, args.trust_remote_code)
    try:
        theirs = weights_of(other, args)
    except ValueError as error:
        raise ValueError(f"{given}: {error}") from error
    names, kinds = theirs.keys() ^ weights.keys(), f"{type(other).__name__}, {args.model} a {type(model).__name__}"
    if names:
        raise ValueError(
            f"{given} is a {kinds}: {len(names)} compressible weights are in one of them alone, first {min(names)}. "
            "Give a pruned model of the same architecture."
        )
    odd = [name for name, weight in weights.items() if theirs[name].shape != weight.shape]
    if odd:
        raise ValueError(
            f"{given} is of another size: {odd[0]} is {tuple(theirs[odd[0]].shape)} there and "
            f"{tuple(weights[odd[0]].shape)} in {args.model}. Give a pruned model of the same architecture."
        )
    masks = {name: weight.detach() != 0 for name, weight in theirs.items()}
    if all(mask.all() for mask in masks.values()):
        raise ValueError(
            f"{given}: none of its {sum(mask.numel() for mask in masks.values()):,} compressible weights is zero, so "
            "there is no mask in it. Give a pruned model, or choose the weights with --to."
        )
    return masks
