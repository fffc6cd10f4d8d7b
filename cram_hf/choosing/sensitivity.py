"""What it costs to prune one layer alone, and the compressions that spread a budget by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from tqdm import tqdm

from ..compressors import LayerZeros, TopK
from ..compressors.topk import pruned_count
from ..evaluation import score
from ..results import write_json
from ..scoring import Scores
from .spread import Point, spread

SPARSITIES = (0.4, 0.6, 0.8, 1.0)  # the last one closes each curve: a budget may need all of a layer
SHIFT = "shift"


def sensitivities(scores: Scores) -> dict[str, list[Point]]:
    """Returns name -> points (weights that go, shift of the outputs), each layer pruned alone, by magnitude.

    Each layer is pruned to each of `SPARSITIES`; a small one, in which two of them are the same count, has fewer
    points. Each point is a row of `scores`, called e.g. `topk:0.6 in encoder.layer.0.output.dense.weight`; its metric
    `shift` is that of `output_shift`.
    """
    weights, curves = scores.trainer.compressible, dict[str, list[Point]]()
    scores.row()  # a results file begins with the dense model
    dense = score(scores.trainer, scores.sets, None)[1]

    def measured(predictions: Any) -> dict[str, float]:
        return {SHIFT: output_shift(dense, predictions, scores.sets.features)}

    with tqdm(total=len(weights) * len(SPARSITIES), desc="layers alone", unit="point", disable=None) as bar:
        for name, weight in weights.items():
            curves[name] = [(0, 0.0)]
            for pruner in map(TopK, SPARSITIES):
                count = pruned_count(pruner.sparsity, weight.numel())
                if count > curves[name][-1][0]:
                    row = scores.row(pruner, {name: weight}, f"{pruner.spec} in {name}", measured)
                    shift = row.metrics[SHIFT]
                    curves[name].append((count, math.nan if shift is None else shift))  # NaN: refused by spread
                bar.update()
    return curves


def output_shift(dense: Any, pruned: Any, features: Dataset) -> float:
    """Returns the mean squared difference of two models' outputs on the same rows.

    Squared shifts of small independent errors add up, which is what spreading a budget supposes; differences of losses
    do not, and on few examples are mostly noise. Where there are several outputs, the logits of an answer's start and
    end, they have a number for each token: padding is left out, and so is the mean over the tokens, which a softmax
    ignores.
    """
    if not isinstance(dense, tuple):
        return float(np.mean((np.asarray(pruned, np.float64) - dense) ** 2))
    tokens = np.zeros(dense[0].shape, bool)
    for row, mask in enumerate(features["attention_mask"]):
        tokens[row, : len(mask)] = mask
    counts, total = tokens.sum(1), 0.0
    for before, after in zip(dense, pruned, strict=True):
        change = np.where(tokens, np.asarray(after, np.float64) - before, 0)
        mean = change.sum(1) / counts
        total += float(np.mean((change**2).sum(1) / counts - mean**2))
    return total


def allocation(curves: Mapping[str, Sequence[Point]], sparsity: float, folder: Path) -> LayerZeros:
    """Returns the compression whose zeros, `floor(sparsity * N)`, are spread by the curves; writes its file.

    The file is `folder`/`sparsity`.json, and `layers:FILE` the word for it wherever a compression is named. One that
    is there is replaced.
    """
    zeros = spread(curves, pruned_count(sparsity, sum(points[-1][0] for points in curves.values())))
    layers = tuple((name, points[-1][0], zeros[name]) for name, points in curves.items())
    found = LayerZeros(str(folder / f"{sparsity}.json"), layers)
    write_json(found.path, found.document())
    return found
