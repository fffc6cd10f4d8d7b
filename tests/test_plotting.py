"""The picture: its size, and the lines and marks in it."""

from __future__ import annotations

import struct
import sys

import pytest
from results_fixtures import make_results, row

from cram_hf.plotting import COLOURS, MUTED, figure, plot

pytest.importorskip("matplotlib")


def lines(drawn):
    return {line.get_label(): line for line in drawn.axes[0].lines}


def points(line):
    return list(zip(line.get_xdata(), line.get_ydata(), strict=True))


def test_the_picture_is_a_png_of_1200_by_750_pixels(tmp_path):
    plot([make_results()], tmp_path / "new" / "curve.png")
    head = (tmp_path / "new" / "curve.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:24]) == (1200, 750)


def test_a_run_has_a_line_a_scope_a_mark_a_pattern_and_its_dense_level():
    found = lines(figure([make_results()]))
    assert points(found["CrAM+: top-k global"]) == [(0.0, 80.0), (50.0, 76.0), (80.0, 40.0)]
    assert points(found["CrAM+: top-k per layer"]) == [(0.0, 80.0), (50.0, 72.0)]
    assert points(found["CrAM+: nm:2:4"]) == [(50.0, 70.0)]
    assert list(found["CrAM+: dense"].get_ydata()) == [80.0, 80.0]
    assert [found[f"CrAM+: {kind}"].get_linestyle() for kind in ("top-k global", "top-k per layer", "dense")] == [
        "-",
        "--",
        ":",
    ]
    assert len(found) == 4


def test_patterns_quantizers_and_chains_have_marks_of_their_own():
    scores = dict.fromkeys(["nm:2:4", "nm:4:8", "quantize:8", "nm:2:4+quantize:8", "topk:0.5+quantize:8"], 60.0)
    found = lines(figure([make_results(scores)]))
    markers = [line.get_marker() for line in found.values()]
    assert list(found) == [f"CrAM+: {spec}" for spec in scores]
    assert len(set(markers)) == 5
    assert found["CrAM+: nm:2:4+quantize:8"].get_markerfacecolor() == "none"


def test_the_same_pattern_has_the_same_mark_in_every_run():
    found = lines(figure([make_results(label="a"), make_results({"nm:1:4": 9.0, "nm:2:4": 8.0}, label="b")]))
    assert found["a: nm:2:4"].get_marker() == found["b: nm:2:4"].get_marker()
    assert found["b: nm:1:4"].get_marker() != found["b: nm:2:4"].get_marker()


def test_the_baseline_is_grey_and_the_runs_have_colours_of_their_own():
    runs = [make_results(label=f"run {i}") for i in range(8)]
    found = lines(figure(runs, baseline=make_results(label="AdamW")))
    assert found["AdamW: top-k global"].get_color() == MUTED
    assert [found[f"run {i}: top-k global"].get_color() for i in range(8)] == [*COLOURS, *COLOURS[:2]]


def test_the_title_names_model_and_task_without_folders():
    axes = figure([make_results(model="/home/me/models/minilm-l6/")]).axes[0]
    assert axes.get_title(loc="left") == "minilm-l6 on squad: pruned in one shot, no retraining"
    assert axes.get_ylabel() == "F1"
    assert axes.get_xlabel() == "sparsity of the compressible weights (%)"


def test_a_second_scale_shows_the_sparsity_of_the_whole_model():
    (above,) = figure([make_results()]).axes[0].child_axes
    drawn = above.figure
    drawn.canvas.draw()
    assert above.get_xlabel() == "sparsity of the whole model (%)"
    assert above.get_xlim() == pytest.approx((-1, 51))  # -2 to 102 below: half of the weights are compressible


def test_there_is_no_second_scale_where_none_fits_all_rows():
    other = make_results(rows=(row("dense", 80, 0), row("topk:0.5", 70, 0.5, model_sparsity=0.4)))
    assert not figure([make_results(), other]).axes[0].child_axes
    assert not figure([make_results({"dense": 80.0})]).axes[0].child_axes


def test_percentages_stand_on_an_axis_from_0_to_100_and_other_scores_do_not():
    assert figure([make_results()]).axes[0].get_ylim() == (0, 100)
    rows = (row("dense", 0, 0, metrics={"f1": 0.8}), row("topk:0.5", 0, 0.5, metrics={"f1": 0.7}))
    assert figure([make_results(rows=rows)]).axes[0].get_ylim()[1] < 1


def test_the_legend_stands_below_the_axes_and_inside_the_picture():
    runs = [make_results(label=f"a rather long label of run {i}") for i in range(4)]
    drawn = figure(runs, baseline=make_results(label="AdamW"))
    drawn.draw_without_rendering()
    legend = drawn.legends[0].get_window_extent()
    assert legend.y1 < drawn.axes[0].get_window_extent().y0
    assert legend.x0 >= 0
    assert legend.x1 <= drawn.bbox.width
    words = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert words[0] == "AdamW"
    assert words[5:] == ["top-k global", "top-k per layer", "2:4", "own dense score"]


def test_a_score_that_is_not_finite_is_left_out():
    found = lines(figure([make_results({"dense": 80.0, "topk:0.5": None, "topk:0.8": 40.0, "nm:2:4": None})]))
    assert points(found["CrAM+: top-k global"]) == [(0.0, 80.0), (80.0, 40.0)]
    assert "CrAM+: nm:2:4" not in found


def test_another_metric_can_be_drawn():
    found = lines(figure([make_results()], metric="exact_match"))
    assert points(found["CrAM+: nm:2:4"]) == [(50.0, 60.0)]


def test_an_unknown_metric_and_no_run_at_all_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'CrAM\\+' has no metric 'f2' at dense, it has exact_match, f1"):
        plot([make_results()], tmp_path / "curve.png", metric="f2")
    with pytest.raises(ValueError, match="there is no run to draw"):
        plot([], tmp_path / "curve.png", baseline=make_results())
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "cram-hf\[plot\]"'):
        plot([make_results()], tmp_path / "curve.png")
    assert list(tmp_path.iterdir()) == []
