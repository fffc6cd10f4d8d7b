"""The figures, drawn by Altair (Vega-Lite) as SVG text: colours are the page's own, each point has its sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any, Literal

import altair as alt
import vl_convert

from cram_hf.plotting import PERCENTAGES
from cram_hf.results import LOWER_IS_BETTER, Results

from . import series
from .read import Run

WIDE, NARROW = 940, 360
"""Widths in pixels: of a figure for a desk and for a phone. Both are in the page, which shows the one that fits."""
COLOURS = 6
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")
SOLID, DASHED = [1, 0], [6, 4]
CELL = 26
FAINTEST, ON_HEAT_FROM = 0.03, 0.78

Figure = list[str]
Corner = Literal["top-left", "top-right", "bottom-left"]


def curve(runs: Sequence[Results]) -> Figure:
    """Returns score against sparsity for all runs, wide and narrow."""
    points = [point for run in runs for point in series.curve_points(run)]
    lines = [point for run in runs for point in series.curve_lines(run)]
    look = _Look([run.label for run in runs])
    ticks = alt.Axis(values=list(range(0, 101, 10)), labelFlush=False)
    x = alt.X("x:Q", title="sparsity of the compressible weights (%)", scale=alt.Scale(domain=[0, 100]), axis=ticks)
    y = alt.Y("y:Q", title=_score_title(runs[0].main_metric, points), scale=_score_scale(runs[0].main_metric, points))
    present = [scope for scope in (series.GLOBAL, series.PER_LAYER) if any(p["scope"] == scope for p in lines)]
    # The corner that curves leave free: scores fall towards the right, a perplexity rises.
    dash = look.dash("scope:N", present, "top-left" if runs[0].main_metric in LOWER_IS_BETTER else "bottom-left")
    dense = [point for point in points if point["spec"] == "dense"]
    words = alt.Chart(_data([point for point in points if point["word"]]))
    beside: dict[str, Any] = {"align": "left", "dx": 8, "aria": False}
    layers = [
        alt.Chart(_data(dense)).mark_rule(strokeDash=[1, 3], aria=False).encode(y=y, color=look.color),
        alt.Chart(_data(lines)).mark_line(strokeWidth=2, aria=False).encode(x=x, y=y, color=look.color, **dash),
        alt.Chart(_data(points)).mark_rule(aria=False).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=look.color),
        look.points(points, x, y, size=70),
        words.mark_text(stroke="var(--page)", strokeWidth=3, **beside).encode(x=x, y=y, text="word:N"),
        words.mark_text(**beside).encode(x=x, y=y, text="word:N", color=look.color),
    ]
    return _drawn(layers, height=380)


def losses(runs: Sequence[Run]) -> Figure:
    """Returns the dense and the compressed loss against the number of updates for all runs, wide and narrow."""
    points = [point for run in runs for point in series.loss_points(run)]
    look = _Look([run.results.label for run in runs])
    x = alt.X("x:Q", title="updates", axis=alt.Axis(tickMinStep=1))
    y = alt.Y("y:Q", title="training loss")
    kinds = [kind for kind in (series.TRAINED, series.AFTER) if any(p["kind"] == kind for p in points)]
    dash = look.dash("kind:N", kinds, "top-right")
    layers = [
        alt.Chart(_data(points)).mark_line(strokeWidth=1.5, aria=False).encode(x=x, y=y, color=look.color, **dash),
        look.points(points, x, y, size=28, detail="kind:N"),
    ]
    return _drawn(layers, height=320)


def heat_map(cells: series.Points) -> Figure:
    """Returns the share of zeros of each weight, layers below each other and kinds of matrix beside each other."""
    rows = list(dict.fromkeys(cell["layer"] for cell in cells))
    columns = list(dict.fromkeys(cell["kind"] for cell in cells))
    data = _data([{**cell, "word": f"{100 * cell['share']:.0f}"} for cell in cells])
    axis: dict[str, Any] = {"ticks": False, "domain": False, "grid": False}
    x = alt.X("kind:N", title=None, sort=columns, axis=alt.Axis(orient="top", labelAngle=-40, labelLimit=170, **axis))
    y = alt.Y("layer:N", title="layer", sort=rows, axis=alt.Axis(labelLimit=110, titlePadding=12, **axis))
    opacity = alt.Opacity(
        "share:Q", scale=alt.Scale(type="pow", exponent=2, domain=[0, 1], range=[FAINTEST, 1]), legend=None
    )
    ink = alt.condition(f"datum.share > {ON_HEAT_FROM}", alt.value("var(--on-heat)"), alt.value("var(--ink)"))
    layers = [
        alt.Chart(data).mark_rect(color="var(--heat)").encode(x=x, y=y, opacity=opacity, description="text:N"),
        alt.Chart(data).mark_text(aria=False).encode(x=x, y=y, text="word:N", color=ink),
    ]
    return _drawn(layers, height=CELL * len(rows) + 110)


class _Look:
    """A colour and a shape for each run, the same in every layer of a figure."""

    def __init__(self, labels: Sequence[str]) -> None:
        colours = [f"var(--run-{number})" for number in islice(cycle(range(1, COLOURS + 1)), len(labels))]
        shapes = list(islice(cycle(SHAPES), len(labels)))
        legend = alt.Legend(title=None)
        domain = list(labels)
        self.color = alt.Color("run:N", scale=alt.Scale(domain=domain, range=colours), legend=legend)
        self.shape = alt.Shape("run:N", scale=alt.Scale(domain=domain, range=shapes), legend=legend)

    def points(self, points: series.Points, x: alt.X, y: alt.Y, *, size: int, **more: Any) -> alt.Chart:
        """The points, the only marks that are read out."""
        marks = alt.Chart(_data(points)).mark_point(filled=True, opacity=1, size=size)
        return marks.encode(x=x, y=y, color=self.color, shape=self.shape, description="text:N", **more)

    def dash(self, field: str, kinds: list[str], corner: Corner) -> dict[str, alt.StrokeDash]:
        """Solid lines for the first kind and dashed ones for the second, with a legend where both are there."""
        look: dict[str, Any] = {"symbolStrokeColor": "var(--ink)", "symbolSize": 500, "direction": "vertical"}
        legend = alt.Legend(title=None, orient=corner, **look) if len(kinds) > 1 else None
        scale = alt.Scale(domain=kinds, range=[SOLID, DASHED][: len(kinds)])
        return {"strokeDash": alt.StrokeDash(field, scale=scale, legend=legend)} if kinds else {}


def _data(points: series.Points) -> alt.InlineData:
    return alt.InlineData(values=points)


def _score_title(metric: str, points: series.Points) -> str:
    name = series.metric_name(metric)
    if metric not in LOWER_IS_BETTER:
        return name
    return f"{name} (lower is better{', logarithmic' if _spans_decades(points) else ''})"


def _score_scale(metric: str, points: series.Points) -> alt.Scale:
    """From 0 to 100 for scores in percent, logarithmic for a perplexity that spans decades, else what is there."""
    scores = [point["y"] for point in points]
    if metric in PERCENTAGES and scores and 1 < max(scores) <= 100:
        return alt.Scale(domain=[0, 100])
    if metric in LOWER_IS_BETTER and _spans_decades(points):
        return alt.Scale(type="log")
    return alt.Scale(zero=False)


def _spans_decades(points: series.Points) -> bool:
    scores = [point["y"] for point in points]
    return bool(scores) and min(scores) > 0 and math.log10(max(scores) / min(scores)) > 1


def _drawn(layers: list[alt.Chart], height: int) -> Figure:
    chart = alt.layer(*layers)
    return [_svg(chart, width, height + (60 if width == NARROW else 0)) for width in (WIDE, NARROW)]


def _svg(chart: Any, width: int, height: int) -> str:
    direction = "vertical" if width == NARROW else "horizontal"
    words = {"labelColor": "var(--ink)", "titleColor": "var(--ink)", "labelFontSize": 13, "titleFontSize": 13}
    lines = {"gridColor": "var(--faint)", "domainColor": "var(--line)", "tickColor": "var(--line)"}
    sized = (
        chart.properties(width=width, height=height, autosize=alt.AutoSizeParams(type="fit", contains="padding"))
        .configure(background="transparent", font="system-ui, sans-serif", padding=4)
        .configure_view(stroke=None)
        .configure_axis(titleFontWeight="normal", **words, **lines)
        .configure_text(color="var(--ink)", fontSize=12)
        .configure_legend(
            orient="bottom", direction=direction, labelLimit=300, symbolSize=90, columnPadding=36, **words
        )
    )
    version = "_".join(alt.SCHEMA_VERSION.split(".")[:2])
    found: str = vl_convert.vegalite_to_svg(sized.to_dict(), vl_version=version.lstrip("v").replace("_", "."))
    return found
