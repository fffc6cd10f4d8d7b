"""Small batches with padding, and what the layers of a whole model are given, for the tests of one-shot pruning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cram_hf import compressible_weights

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}


def make_batches(count: int = 3, rows: int = 4, length: int = 10) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    batches = []
    for _ in range(count):
        ids = torch.randint(5, 50, (rows, length), generator=generator)
        mask = torch.ones_like(ids)
        mask[1, 6:] = mask[3, 3:] = 0
        batches.append({"input_ids": ids, "attention_mask": mask})
    return batches


def with_padding(batches: list[dict[str, Tensor]], more: int) -> list[dict[str, Tensor]]:
    """The same texts with other tokens at the padding and `more` of it."""
    padded = []
    for batch in batches:
        ids = torch.where(batch["attention_mask"] == 1, batch["input_ids"], 7)
        padded.append(
            {
                "input_ids": nn.functional.pad(ids, (0, more), value=9),
                "attention_mask": nn.functional.pad(batch["attention_mask"], (0, more)),
            }
        )
    return padded


def gathered(model: nn.Module, batches: list[dict[str, Tensor]], only: str = "") -> dict[str, Tensor]:
    """What each linear layer is given at real tokens when the whole model is run, (tokens, in)."""
    found: dict[str, list[Tensor]] = {}
    handles = []
    for batch in batches:
        mask = batch["attention_mask"].bool()
        for name in [name for name in compressible_weights(model) if only in name]:
            layer = model.get_submodule(name.removesuffix(".weight"))
            handles.append(
                layer.register_forward_pre_hook(
                    lambda m, args, name=name, mask=mask: found.setdefault(name, []).append(args[0][mask])
                )
            )
        with torch.no_grad():
            model(**batch)
        while handles:
            handles.pop().remove()
    return {name: torch.cat(parts) for name, parts in found.items()}
