"""What it costs to prune one layer alone, and the compressions that spread a budget by it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from ..compressors import LayerZeros, TopK
from ..compressors.topk import pruned_count
from ..results import write_whole
from ..scoring import Scores
from .spread import Point, spread

SPARSITIES = (0.5, 0.75, 0.9, 1.0)  # the last one closes each curve: a budget may need all of a layer


def sensitivities(scores: Scores) -> dict[str, list[Point]]:
    """Returns name -> points (weights that go, rise of the loss), each layer pruned alone, by magnitude.

    Each layer is pruned to each of `SPARSITIES`; a small one, in which two of them are the same count, has fewer
    points. Each point is a row of `scores`, called e.g. `topk:0.5 in encoder.layer.0.output.dense.weight`.

    Raises:
        ValueError: the set gives no loss, or one that is not finite.
    """
    weights, curves = scores.trainer.compressible, dict[str, list[Point]]()
    dense = _loss(scores)
    with tqdm(total=len(weights) * len(SPARSITIES), desc="layers alone", unit="point", disable=None) as bar:
        for name, weight in weights.items():
            curves[name] = [(0, 0.0)]
            for sparsity in SPARSITIES:
                count = pruned_count(sparsity, weight.numel())
                if count > curves[name][-1][0]:
                    curves[name].append((count, _loss(scores, name, sparsity) - dense))
                bar.update()
    return curves


def _loss(scores: Scores, name: str = "", sparsity: float = 0) -> float:
    """The loss with one layer pruned, or that of the dense model."""
    if name:
        pruner = TopK(sparsity)
        row = scores.row(pruner, {name: scores.trainer.compressible[name]}, f"{pruner.spec} in {name}")
    else:
        row = scores.row()
    loss = row.metrics.get("loss")
    if loss is None:
        raise ValueError(f"{row.spec}: the loss is not finite or not known, so layers cannot be compared by it.")
    return loss


def allocation(curves: Mapping[str, Sequence[Point]], sparsity: float, folder: Path) -> LayerZeros:
    """Returns the compression whose zeros, `floor(sparsity * N)`, are spread by the curves; writes its file.

    The file is `folder`/`sparsity`.json, and `layers:FILE` the word for it wherever a compression is named. One that
    is there is replaced.
    """
    zeros = spread(curves, pruned_count(sparsity, sum(points[-1][0] for points in curves.values())))
    layers = tuple((name, points[-1][0], zeros[name]) for name, points in curves.items())
    found = LayerZeros(str(folder / f"{sparsity}.json"), layers)
    write_whole(found.path, (json.dumps(found.document(), indent=1) + "\n").encode())
    return found
