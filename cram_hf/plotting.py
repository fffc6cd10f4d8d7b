"""The one picture: score against sparsity, from results files alone (needs the extra `plot`)."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cram_hf.results import DENSE, Results, Row, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with every common colour blindness; yellow is left out as too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MUTED = "#7F7F7F"
MARKERS = "DsP^vX*h"
SIZE, DPI = (8.0, 5.0), 150
TOPK = re.compile(r"topk:[^:+]+(?P<layer>:layer)?(:global)?")
PERCENTAGES = {"f1", "exact", "exact_match", "accuracy"}
NAMES = {"f1": "F1", "exact_match": "exact match", "exact": "exact match"}


def plot(
    results: Sequence[Results],
    path: str | os.PathLike[str],
    metric: str | None = None,
    baseline: Results | None = None,
) -> None:
    """Writes `figure(...)` to `path` as a PNG of 1200 x 750 pixels, whole or not at all; replaces an older picture.

    Raises:
        ValueError: see `figure`.
        ImportError: matplotlib is not installed; says what to type.
    """
    picture = io.BytesIO()
    figure(results, metric, baseline).savefig(picture, format="png", dpi=DPI)
    write_whole(path, picture.getvalue())


def figure(results: Sequence[Results], metric: str | None = None, baseline: Results | None = None) -> Figure:
    """Returns the curves of all runs in one axes, ready to save.

    Each run has a colour: a line through its dense score and its global top-k rows, a dashed line for top-k with the same
    sparsity in every layer, a mark for every other compression (N:M, quantized, chains), a thin dotted line at its dense
    score. Horizontally stands the *measured* sparsity of the compressible weights. `baseline` is drawn in grey, behind.

    Args:
        results (`Sequence[Results]`): the runs, in the order of the legend; at least one.
        metric (`str`, *optional*): what to draw. Defaults to the main metric of the first run.
        baseline (`Results`, *optional*): a run to compare with.

    Raises:
        ValueError: there is no run, or one lacks the metric.
        ImportError: matplotlib is not installed; says what to type.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('the picture needs matplotlib, which is missing: pip install "cram-hf[plot]"') from error
    runs = [*([baseline] if baseline else []), *results]
    metric = _checked(runs, metric or (results[0].main_metric if results else ""))
    drawn = Figure(figsize=SIZE, dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(drawn)
    axes = drawn.add_subplot()
    markers = dict(zip(sorted({row.spec for run in runs for row in run.rows if _is_mark(row)}), MARKERS * 9, strict=False))
    colours = [*([MUTED] if baseline else []), *COLOURS * len(results)]
    for order, (run, colour) in enumerate(zip(runs, colours, strict=False)):
        _draw_run(axes, run, metric, colour, markers, order)
    _label(axes, results[0], metric, [score for run in runs for row in run.rows for score in [row.metrics[metric]]])
    _legend(axes, runs, colours, markers)
    return drawn


def _checked(runs: list[Results], metric: str) -> str:
    if not runs:
        raise ValueError("there is no run to draw: give at least one results file")
    for run in runs:
        for row in run.rows:
            if metric not in row.metrics:
                raise ValueError(
                    f"{run.label!r} has no metric {metric!r} at {row.spec}, it has {', '.join(row.metrics)}: "
                    "draw one of these, or leave that run out"
                )
    return metric


def _is_mark(row: Row) -> bool:
    return row.spec != DENSE and not TOPK.fullmatch(row.spec)


def _curve(run: Results, metric: str, *, layer: bool) -> list[tuple[float, float]]:
    """Returns (sparsity in percent, score) of one scope by rising sparsity, from the dense score on; empty if unscored."""
    rows = [row for row in run.rows if (found := TOPK.fullmatch(row.spec)) and bool(found["layer"]) is layer]
    points = [(100 * row.sparsity, score) for row in rows if (score := row.metrics[metric]) is not None]
    dense = run.score(DENSE, metric)
    return sorted([(0.0, dense), *points] if points and dense is not None else points)


def _draw_run(axes: Axes, run: Results, metric: str, colour: str, markers: dict[str, str], order: int) -> None:
    for layer, style in ((False, "-"), (True, "--")):
        if points := _curve(run, metric, layer=layer):
            label = f"{run.label}: top-k " + ("per layer" if layer else "global")
            face = "white" if layer else colour
            axes.plot(
                *zip(*points, strict=True), style, color=colour, lw=2, marker="o", ms=5, mfc=face, label=label, zorder=3 + order
            )
    for row in filter(_is_mark, run.rows):
        if (score := row.metrics[metric]) is not None:
            label = f"{run.label}: {row.spec}"
            at = ([100 * row.sparsity], [score])
            axes.plot(*at, markers[row.spec], color=colour, ms=10, mec="white", mew=1.2, label=label, zorder=20 + order)
    if (dense := run.score(DENSE, metric)) is not None:
        axes.axhline(dense, color=colour, lw=1, ls=":", label=f"{run.label}: {DENSE}", zorder=2)


def _label(axes: Axes, run: Results, metric: str, scores: list[float | None]) -> None:
    name = run.model.replace("\\", "/").rstrip("/").rpartition("/")[2]
    axes.set_title(f"{name} on {run.task}: pruned in one shot, no retraining", loc="left", fontsize=12)
    axes.set_xlabel("sparsity of the compressible weights (%)")
    axes.set_ylabel(NAMES.get(metric, metric))
    axes.set_xlim(-2, 102)
    axes.set_xticks(range(0, 101, 10))
    known = [score for score in scores if score is not None]
    if metric in PERCENTAGES and known and 1 < max(known) <= 100:
        axes.set_ylim(0, 100)
        axes.set_yticks(range(0, 101, 10))
    axes.grid(color="#E6E6E6", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: Axes, runs: list[Results], colours: list[str], markers: dict[str, str]) -> None:
    """Puts one entry a run and one a kind of mark below the axes, where they hide no data."""
    from matplotlib.lines import Line2D

    black = "#333333"
    entries = [Line2D([], [], color=c, lw=2.5, label=run.label) for run, c in zip(runs, colours, strict=False)]
    labels = {str(line.get_label()).rpartition(": ")[2] for line in axes.lines}
    styles = {"top-k global": ("-", black), "top-k per layer": ("--", "white")}
    for words, (style, face) in styles.items():
        if words in labels:
            entries.append(Line2D([], [], color=black, ls=style, marker="o", ms=5, mfc=face, label=words))
    for spec, marker in markers.items():
        word = spec.removeprefix("nm:") if "+" not in spec else spec
        entries.append(Line2D([], [], color=black, ls="", marker=marker, ms=8, label=word))
    entries.append(Line2D([], [], color=black, lw=1, ls=":", label="own dense score"))
    figure = axes.figure
    figure.legend(handles=entries, loc="outside lower left", ncols=min(len(entries), 5), frameon=False, fontsize=10)
