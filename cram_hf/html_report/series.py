"""What the figures draw, as plain rows: each point with the sentence that is read out, or shown beside the pointer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from cram_hf.plotting import NAMES, TOPK
from cram_hf.results import DENSE, Results, Row
from cram_hf.table import digits_of, number, percent, share_of_dense

from .read import Loss, Run

GLOBAL, PER_LAYER, OTHER = "top-k global", "top-k per layer", "other"
TRAINED, AFTER = "dense", "compressed"
MOST_POINTS = 120
NUMBERED = re.compile(r"(?:(?P<stack>.*?)\.)?(?P<layer>\d+)\.(?P<kind>.+)")

Points = list[dict[str, Any]]


def metric_name(metric: str) -> str:
    """Returns a metric as people write it: `F1`."""
    return NAMES.get(metric, metric)


def curve_points(run: Results) -> Points:
    """Returns a point for each scored row: x is the measured sparsity in percent, y the main score.

    `low` and `high` are one standard deviation away where the run is a summary of several seeds, `word` is written
    beside the point where no line goes through it.
    """
    return [_point(run, row, score) for row in run.rows if (score := row.metrics[run.main_metric]) is not None]


def _point(run: Results, row: Row, score: float) -> dict[str, Any]:
    digits = digits_of(run, run.main_metric)
    spread = (row.std or {}).get(run.main_metric)
    scope, metric = _scope(row), metric_name(run.main_metric)
    deviation = "" if spread is None else f" ± {spread:.{digits}f}"
    return {
        "run": run.label,
        "spec": row.spec,
        "scope": scope,
        "x": 100 * row.sparsity,
        "y": score,
        "low": score - (spread or 0),
        "high": score + (spread or 0),
        "word": row.spec.removeprefix("nm:") if scope == OTHER else "",
        "text": f"{run.label}, {row.spec}: {metric} {number(score, digits)}{deviation}, "
        f"{share_of_dense(run, row)} of dense, at {percent(row.sparsity)} zeros",
    }


def _scope(row: Row) -> str:
    found = TOPK.fullmatch(row.spec)
    if row.spec == DENSE or (found and not found["layer"]):
        return GLOBAL
    return PER_LAYER if found else OTHER


def curve_lines(run: Results) -> Points:
    """Returns the points of the lines: dense and global top-k, and dense and top-k per layer."""
    points = curve_points(run)
    starts = [{**point, "scope": PER_LAYER} for point in points if point["spec"] == DENSE]
    rest = [point for point in points if point["scope"] == PER_LAYER]
    return [point for point in points if point["scope"] == GLOBAL] + ([*starts, *rest] if rest else [])


def loss_points(run: Run) -> Points:
    """Returns the dense and the compressed loss of each logged update, at most `MOST_POINTS` of each."""
    found: Points = []
    for loss in thinned(run.losses):
        where = {"run": run.results.label, "x": loss.update}
        words = f"{run.results.label}, update {loss.update:,}"
        found.append({**where, "kind": TRAINED, "y": loss.dense, "text": f"{words}: dense loss {loss.dense:.3f}"})
        if loss.compressed is not None:
            each = ", ".join(f"{name} {value:.3f}" for name, value in loss.each.items())
            text = f"{words}: compressed loss {loss.compressed:.3f}{f' ({each})' if each else ''}"
            found.append({**where, "kind": AFTER, "y": loss.compressed, "text": text})
    return found


def thinned(losses: Sequence[Loss]) -> list[Loss]:
    """Returns at most `MOST_POINTS` losses: means over equally many neighbours, at the last one's update."""
    size = -(-len(losses) // MOST_POINTS) or 1
    return [_mean(losses[start : start + size]) for start in range(0, len(losses), size)]


def _mean(losses: Sequence[Loss]) -> Loss:
    compressed = [loss.compressed for loss in losses if loss.compressed is not None]
    names = list(dict.fromkeys(name for loss in losses for name in loss.each))
    each = {name: fmean(loss.each[name] for loss in losses if name in loss.each) for name in names}
    dense = fmean(loss.dense for loss in losses)
    return Loss(losses[-1].update, dense, fmean(compressed) if compressed else None, each)


def layer_cells(shares: Mapping[str, float]) -> Points:
    """Returns a cell for each weight: its layer, its kind of matrix, its share of zeros and a sentence.

    The first number in a name is the layer, what follows is the kind. Where a model has two stacks of layers the
    layer has the stack's name in front; weights without a number come last, in a row of their own.

    Args:
        shares: name of the weight -> share of zeros, in [0, 1].
    """
    split = {name: NUMBERED.fullmatch(name.removesuffix(".weight")) for name in shares}
    stacks = {found["stack"] for found in split.values() if found}
    cells: Points = []
    for name, found in split.items():
        layer, kind = (found["layer"], found["kind"]) if found else ("others", name.removesuffix(".weight"))
        if found and len(stacks) > 1:
            layer = f"{found['stack'] or ''} {layer}".strip()
        text = f"layer {layer}, {kind}: {percent(shares[name])} zeros"
        cells.append({"layer": layer, "kind": kind, "share": shares[name], "text": text})
    return sorted(cells, key=lambda cell: cell["layer"] == "others")
