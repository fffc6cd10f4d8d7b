"""Magnitude pruning with a count of its own for each layer, read from a file: what `cram-hf choose` allocates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .base import Compressor, refuse_nan
from .topk import prune_smallest_

SCHEMA, VERSION = "cram_hf/layer_zeros", 1


@dataclass(frozen=True)
class LayerZeros(Compressor):
    """Sets so many of each layer's smallest magnitudes to zero as a file says; the word is `layers:FILE`.

    Of equal magnitudes the lower index is kept. Unlike other compressors it fits one architecture only: the weights
    must be those of the file, by name and size. The key of a metric holds the file's name without folder and ending.

    Args:
        path (`str`): the file, relative to where the command runs; without `:` and `+`, which join words.
        layers (`tuple[tuple[str, int, int], ...]`): name of a weight, its size, and how many of its numbers go.
    """

    path: str
    layers: tuple[tuple[str, int, int], ...]

    def __post_init__(self) -> None:
        wrong = [name for name, size, zeros in self.layers if not 0 <= zeros <= size]
        if wrong:
            raise ValueError(f"layers: {self.path}: {wrong[0]} cannot lose that many of its weights; from 0 to all.")
        if set(self.path) & set(":+"):
            raise ValueError(f"layers: {self.path} holds ':' or '+', which join words. Rename the file or its folder.")

    @property
    def spec(self) -> str:
        return f"layers:{self.path}"

    @property
    def key(self) -> str:
        return f"layers_{Path(self.path).stem}"

    def check(self, weights: Mapping[str, Tensor]) -> None:
        """Raises `ValueError` unless the weights are those of the file, by name and size."""
        sizes = {name: size for name, size, _ in self.layers}
        given = {name: weight.numel() for name, weight in weights.items()}
        wrong = [name for name in sizes | given if sizes.get(name) != given.get(name)]
        if wrong:
            here, there = given.get(wrong[0], "no"), sizes.get(wrong[0], "no")
            raise ValueError(
                f"{self.spec} is made for other weights ({len(wrong)} differ): {wrong[0]} has {here} numbers here and "
                f"{there} in the file. Give the model it was made for, and the same --compress_include and "
                "--compress_exclude."
            )

    def apply_(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.check(weights)
        refuse_nan(weights)
        masks: dict[str, Tensor] = {}
        for name, _, zeros in self.layers:
            masks |= prune_smallest_({name: weights[name]}, zeros)
        return masks

    def document(self) -> dict[str, object]:
        """Returns what the file holds, in plain JSON types."""
        layers = {name: {"size": size, "zeros": zeros} for name, size, zeros in self.layers}
        return {"schema": SCHEMA, "schema_version": VERSION, "layers": layers}


def read_layer_zeros(path: str) -> LayerZeros:
    """Returns the compressor that a file stands for.

    Raises:
        ValueError: there is no such file, or it holds something else; the message says what.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"layers: {path} cannot be read: {error}.") from None
    kind = (document.get("schema"), document.get("schema_version")) if isinstance(document, dict) else None
    layers = document.get("layers") if kind == (SCHEMA, VERSION) else None
    if not isinstance(layers, dict) or not all(_is_layer(layer) for layer in layers.values()):
        raise ValueError(f"layers: {path} is no file of layers (version {VERSION}) as cram-hf choose writes them.")
    return LayerZeros(path, tuple((name, layer["size"], layer["zeros"]) for name, layer in layers.items()))


def _is_layer(layer: object) -> bool:
    return isinstance(layer, dict) and all(type(layer.get(key)) is int for key in ("size", "zeros"))
