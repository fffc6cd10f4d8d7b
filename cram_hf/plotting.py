"""The one picture: score against sparsity, from results files alone (needs the extra `plot`)."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from cram_hf.results import DENSE, LOWER_IS_BETTER, Results, Row, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with every common colour blindness; yellow is left out as too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MUTED, INK = "#8C8C8C", "#333333"
NM_MARKERS, CHAIN_MARKERS, OTHER_MARKERS = "DspH", "oh8d", "^v<>X*"
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

    Each run has a colour: a line through its dense score and its global top-k rows, a dashed line for top-k with the
    same sparsity in every layer, a mark for every other compression (N:M, quantized, chains), a thin dotted line at
    its dense score. Horizontally stands the *measured* sparsity of the compressible weights, and above that of the
    whole model, where one scale fits all rows (to a hundredth of the compressible one).

    Args:
        results (`Sequence[Results]`): the runs, in the order of the legend; at least one.
        metric (`str`, *optional*): what to draw. Defaults to the main metric of the first run.
        baseline (`Results`, *optional*): a run to compare with, drawn in grey behind the others.

    Raises:
        ValueError: there is no run, or one lacks the metric.
        ImportError: matplotlib is not installed; says what to type.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError('the picture needs matplotlib, which is missing: pip install "cram-hf[plot]"') from error
    if not results:
        raise ValueError("there is no run to draw: give at least one results file")
    runs = [*([baseline] if baseline else []), *results]
    metric = metric or results[0].main_metric
    _check_metric(runs, metric)
    drawn = Figure(SIZE, DPI, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08), facecolor="white")
    FigureCanvasAgg(drawn)
    axes = drawn.add_subplot()
    markers = _markers(runs)
    colours = [*([MUTED] if baseline else []), *islice(cycle(COLOURS), len(results))]
    for order, (run, colour) in enumerate(zip(runs, colours, strict=True)):
        _draw_run(axes, run, metric, colour, markers, order)
    _label(axes, results, metric, [row.metrics[metric] for run in runs for row in run.rows])
    _whole_model(axes, runs)
    _legend(drawn, runs, colours, markers)
    return drawn


def _check_metric(runs: list[Results], metric: str) -> None:
    for run in runs:
        for row in run.rows:
            if metric not in row.metrics:
                raise ValueError(
                    f"{run.label!r} has no metric {metric!r} at {row.spec}, it has {', '.join(row.metrics)}: "
                    "draw one of these, or leave that run out"
                )


def _is_mark(row: Row) -> bool:
    return row.spec != DENSE and not TOPK.fullmatch(row.spec)


def _markers(runs: list[Results]) -> dict[str, str]:
    """Returns one shape a compression, the same in every run: N:M patterns first, then others, then chains."""
    specs = sorted({row.spec for run in runs for row in run.rows if _is_mark(row)})
    chains = [spec for spec in specs if "+" in spec]
    patterns = [spec for spec in specs if spec.startswith("nm:") and spec not in chains]
    others = [spec for spec in specs if spec not in chains and spec not in patterns]
    families = ((patterns, NM_MARKERS), (others, OTHER_MARKERS), (chains, CHAIN_MARKERS))
    return {spec: marker for family, markers in families for spec, marker in zip(family, cycle(markers), strict=False)}


def _mark_look(spec: str, marker: str, colour: str) -> dict[str, Any]:
    """Returns how a mark is drawn. A chain is hollow and larger, since it often lies on top of its first member."""
    hollow = "+" in spec
    look = {"mfc": "none", "mec": colour, "ms": 13, "mew": 1.5} if hollow else {"mfc": colour, "mec": "white", "ms": 9}
    return {"ls": "", "marker": marker, **look}


def _curve(run: Results, metric: str, *, layer: bool) -> list[tuple[float, float]]:
    """Returns (sparsity in percent, score) of one scope by rising sparsity, from dense on; empty if not scored."""
    rows = [row for row in run.rows if (found := TOPK.fullmatch(row.spec)) and bool(found["layer"]) is layer]
    points = [(100 * row.sparsity, score) for row in rows if (score := row.metrics[metric]) is not None]
    dense = run.score(DENSE, metric)
    return sorted([(0.0, dense), *points] if points and dense is not None else points)


def _draw_spread(axes: Axes, run: Results, metric: str, colour: str, order: int) -> None:
    """Draws a bar of one standard deviation either way, where the run is a summary of several seeds."""
    for row in run.rows:
        score, deviation = row.metrics[metric], (row.std or {}).get(metric)
        if score is not None and deviation is not None:
            axes.errorbar(100 * row.sparsity, score, yerr=deviation, color=colour, lw=1.2, capsize=3, zorder=2 + order)


def _draw_run(axes: Axes, run: Results, metric: str, colour: str, markers: dict[str, str], order: int) -> None:
    for layer, style in ((False, "-"), (True, "--")):
        if points := _curve(run, metric, layer=layer):
            label = f"{run.label}: top-k " + ("per layer" if layer else "global")
            look: dict[str, Any] = {
                "color": colour,
                "lw": 2,
                "marker": "o",
                "ms": 5,
                "mfc": "white" if layer else colour,
            }
            axes.plot(*zip(*points, strict=True), ls=style, **look, label=label, zorder=3 + order)
    for row in filter(_is_mark, run.rows):
        if (score := row.metrics[metric]) is not None:
            at = ([100 * row.sparsity], [score])
            axes.plot(
                *at,
                **_mark_look(row.spec, markers[row.spec], colour),
                label=f"{run.label}: {row.spec}",
                zorder=20 + order,
            )
    _draw_spread(axes, run, metric, colour, order)
    if (dense := run.score(DENSE, metric)) is not None:
        axes.axhline(dense, color=colour, lw=1, ls=":", label=f"{run.label}: {DENSE}", zorder=2)


def _label(axes: Axes, runs: Sequence[Results], metric: str, scores: list[float | None]) -> None:
    names = {run.model.replace("\\", "/").rstrip("/").rpartition("/")[2] for run in runs}
    name = names.pop() if len(names) == 1 else f"{len(names)} models"
    axes.set_title(f"{name} on {runs[0].task}: pruned in one shot, no retraining", loc="left", fontsize=12)
    axes.set_xlabel("sparsity of the compressible weights (%)")
    axes.set_ylabel(NAMES.get(metric, metric))
    axes.set_xlim(-2, 102)
    axes.set_xticks(range(0, 101, 10))
    known = [score for score in scores if score is not None]
    if metric in LOWER_IS_BETTER and known and max(known) > 10 * min(known):
        axes.set_yscale("log")
        axes.set_ylabel(f"{NAMES.get(metric, metric)} (lower is better, logarithmic)")
    if metric in PERCENTAGES and known and 1 < max(known) <= 100:
        axes.set_ylim(0, 100)
        axes.set_yticks(range(0, 101, 10))
    axes.grid(color="#E6E6E6", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _whole_model(axes: Axes, runs: list[Results]) -> None:
    """Adds a second scale, the sparsity of the whole model, if it is the same share of the other in all rows."""
    shares = [row.model_sparsity / row.sparsity for run in runs for row in run.rows if row.sparsity > 0.01]
    if shares and max(shares) - min(shares) < 0.01 and min(shares) > 0:
        share = max(shares)

        def scale(factor: float) -> Callable[[Any], Any]:
            return lambda values: values * factor

        above = axes.secondary_xaxis("top", functions=(scale(share), scale(1 / share)))
        above.set_xlabel("sparsity of the whole model (%)", fontsize=9, color=MUTED)
        above.tick_params(labelsize=8, colors=MUTED)
        above.spines["top"].set_visible(False)


def _legend(figure: Figure, runs: list[Results], colours: list[str], markers: dict[str, str]) -> None:
    """Puts one entry a run and one a kind of mark below the axes, in as few rows as fit, where they hide no data."""
    from matplotlib.lines import Line2D

    entries = [Line2D([], [], color=c, lw=2.5, label=run.label) for run, c in zip(runs, colours, strict=True)]
    drawn = {str(line.get_label()).rpartition(": ")[2] for line in figure.axes[0].lines}
    for words, style, face in (("top-k global", "-", INK), ("top-k per layer", "--", "white")):
        if words in drawn:
            entries.append(Line2D([], [], color=INK, ls=style, marker="o", ms=5, mfc=face, label=words))
    for spec, marker in markers.items():
        entries.append(Line2D([], [], **_mark_look(spec, marker, INK), label=spec.replace("nm:", "")))
    entries.append(Line2D([], [], color=INK, lw=1, ls=":", label="own dense score"))
    for columns in range(len(entries), 0, -1):
        legend = figure.legend(handles=entries, loc="outside lower center", ncols=columns, frameon=False, fontsize=10)
        if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
            return
        legend.remove()
