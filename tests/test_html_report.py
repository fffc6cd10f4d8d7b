"""What stands in the report: points, cells and tables are those of the files, and nothing else gets into the page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from results_fixtures import SCORES, TOKEN, make_results, row

from cram_hf.html_report import Heat, check_together, page, read_bench, read_run, read_size
from cram_hf.html_report.read import Loss
from cram_hf.html_report.series import curve_lines, curve_points, layer_cells, thinned
from cram_hf.html_report.tables import bench_table, runs_table, scores_table, size_table

MARKUP = "</script><img src=x onerror=alert(1)>\"'&"
LOG = [
    {"step": 10, "loss": 4.0, "loss_compressed": 4.5, "loss_compressed_topk_0.5": 4.25, "learning_rate": 1e-4},
    {"step": 20, "loss": 2.0, "loss_compressed": 3.0},
    {"step": 20, "eval_f1": 50.0},
    {"step": 20, "loss": 2.5, "loss_compressed": float("nan")},
    {"step": 20, "train_loss": 3.0},
]
SIZE = {"model": "m", "rows": [{"spec": "topk:0.8", "sparsity": 0.8, "bytes": {"packed_fp32": 57_600_000}}]}
SHAPE = {"batch_size": 1, "seq_length": 128, "threads": 2}
TIMES = {"milliseconds": {"median": 12.5, "q1": 12.0, "q3": 13.0}, "sequences_per_second": 80.0}
BENCH = {
    "model": "m",
    "rows": [
        {"engine": "eager", "spec": "as it is", **SHAPE, **TIMES},
        {"engine": "eager", "spec": "topk:0.8", **SHAPE, **TIMES, "ratio": {"median": 1.0, "q1": 0.9, "q3": 1.1}},
        {"engine": "csr", "spec": "topk:0.8", **SHAPE, "error": "out of memory"},
    ],
    "findings": ["eager: sparsity brings nothing."],
    "machine": {"cpu": "AMD EPYC", "gpu": None},
}


@pytest.fixture
def folder(tmp_path):
    """Returns a function: a label and changes to the results -> a run folder with a log and no model."""

    def make(label: str = "CrAM+", **changes) -> str:
        run = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        run.mkdir()
        make_results(label=label, **changes).save(run / "results.json")
        (run / "trainer_state.json").write_text(json.dumps({"log_history": LOG}))
        return str(run)

    return make


class Page(HTMLParser):
    """Collects the elements of a page and its text by element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in {"meta", "link", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if data.strip() and self.open:
            self.texts.append((self.open[-1], data.strip()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_a_run_is_read_with_its_log_and_the_later_of_two_lines_counts(folder):
    run = read_run(folder())
    assert run.results.score("topk:0.5") == 76.0
    assert run.losses == (Loss(10, 4.0, 4.5, {"topk_0.5": 4.25}), Loss(20, 2.5, None, {}))


def test_a_results_file_stands_for_its_folder_and_another_file_for_itself(folder, tmp_path):
    path = folder()
    assert read_run(f"{path}/results.json") == read_run(path)
    make_results().save(tmp_path / "adamw.json")
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": LOG}))
    alone = read_run(str(tmp_path / "adamw.json"))
    assert (alone.losses, alone.folder) == ((), None)
    (tmp_path / "log.json").write_text(json.dumps(LOG))
    assert len(read_run(str(tmp_path / "adamw.json"), log=str(tmp_path / "log.json")).losses) == 2


def test_what_is_no_run_is_told(folder, tmp_path):
    folder()
    with pytest.raises(ValueError, match=r"no results\.json there\. .* Near it: .*run-0"):
        read_run(str(tmp_path))
    (tmp_path / "log.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"log\.json: no training log\. Give a trainer_state\.json"):
        read_run(folder(), log=str(tmp_path / "log.json"))
    (tmp_path / "log.json").write_text("[")
    with pytest.raises(ValueError, match=r"log\.json: not valid JSON"):
        read_run(folder(), log=str(tmp_path / "log.json"))


def test_runs_that_cannot_stand_side_by_side_are_told_at_once(folder):
    runs = [read_run(folder()), read_run(folder()), read_run(folder("B", task="mnli"))]
    with pytest.raises(ValueError, match=r"of mnli \(f1\), squad \(f1\).*\nSeveral runs are called CrAM\+: .*--label"):
        check_together(runs)
    check_together([read_run(folder()), read_run(folder(), label="other")])


def test_every_scored_row_is_a_point_with_its_sentence():
    run = make_results(
        {"dense": 80.0, "topk:0.5": 76.0, "topk:0.5:layer": 72.0, "nm:2:4": 70.0, "topk:0.8": None},
    )
    points = curve_points(run)
    assert [(p["spec"], p["x"], p["y"], p["word"]) for p in points] == [
        ("dense", 0, 80, ""),
        ("topk:0.5", 50, 76, ""),
        ("topk:0.5:layer", 50, 72, ""),
        ("nm:2:4", 50, 70, "2:4"),
    ]
    assert points[1]["text"] == "CrAM+, topk:0.5: F1 76.00, 95.0 % of dense, at 50.0 % zeros"
    lines = [(p["scope"], p["y"]) for p in curve_lines(run)]
    assert lines == [
        ("top-k global", 80),
        ("top-k global", 76),
        ("top-k per layer", 80),
        ("top-k per layer", 72),
    ]


def test_several_seeds_have_a_spread():
    rows = (row("dense", 80.0, 0.0, std={"f1": 1.5}), row("topk:0.5", 76.0, 0.5))
    dense, pruned = curve_points(make_results(rows=rows, seeds=(1, 2)))
    assert (dense["low"], dense["high"], pruned["low"], pruned["high"]) == (78.5, 81.5, 76, 76)
    assert "F1 80.00 ± 1.50" in dense["text"]


def test_a_long_log_is_drawn_as_means_of_neighbours():
    losses = [Loss(i, float(i), None if i % 2 else 2.0 * i, {}) for i in range(1, 242)]
    drawn = thinned(losses)
    assert len(drawn) == 81
    assert drawn[0] == Loss(3, 2.0, 4.0, {})
    assert thinned(losses[:120]) == losses[:120]


@pytest.mark.parametrize(
    ("name", "layer", "kind"),
    [
        ("bert.encoder.layer.3.output.dense.weight", "3", "output.dense"),
        ("layers.0.fc.weight", "0", "fc"),
        ("pooler.dense.weight", "others", "pooler.dense"),
    ],
)
def test_a_weight_has_a_layer_and_a_kind(name, layer, kind):
    (cell,) = layer_cells({name: 0.75})
    assert (cell["layer"], cell["kind"], cell["share"]) == (layer, kind, 0.75)
    assert cell["text"] == f"layer {layer}, {kind}: 75.0 % zeros"


def test_two_stacks_of_layers_are_told_apart_and_others_come_last():
    names = ["pooler.weight", "encoder.block.0.layer.1.wi.weight", "decoder.block.0.layer.1.wi.weight"]
    found = [(cell["layer"], cell["kind"]) for cell in layer_cells(dict.fromkeys(names, 0.5))]
    assert found == [("encoder.block 0", "layer.1.wi"), ("decoder.block 0", "layer.1.wi"), ("others", "pooler")]


def test_tables_hold_the_numbers_of_the_files_and_sort_by_them(folder):
    run = read_run(folder())
    scores = scores_table([run.results])
    assert scores.columns[:4] == ["run", "compression", "F1", "F1 of dense"]
    assert [cell.text for cell in scores.rows[1]] == [
        *("CrAM+", "topk:0.5", "76.00", "95.0 %", "66.00", "50.0 %", "25.0 %"),
    ]
    assert [cell.key for cell in scores.rows[1]] == [None, None, 76.0, 0.95, 66.0, 0.5, 0.25]
    assert runs_table([run]).rows[0][-1].text == "topk:0.5 (50.0 %)"
    assert [cell.text for cell in size_table(SIZE).rows[0]] == ["topk:0.8", "80.0 %", "57.6"]


def test_the_sparsest_row_near_dense_knows_that_a_perplexity_is_better_when_lower(folder):
    rows = [
        row(spec, None, zeros, metrics={"perplexity": value})
        for spec, zeros, value in (("dense", 0.0, 10.0), ("topk:0.5", 0.5, 10.4), ("topk:0.9", 0.9, 50.0))
    ]
    run = read_run(folder(main_metric="perplexity", rows=tuple(rows)))
    assert runs_table([run]).rows[0][-1].text == "topk:0.5 (50.0 %)"


def test_the_minutes_of_a_resumed_training_are_not_told(folder):
    training = {"updates": 10, "epochs": 1.0, "seconds": 90.0, "loss": 1.0}
    shown = [
        [cell.text for cell in runs_table([read_run(folder(training=training | more))]).rows[0]]
        for more in ({}, {"resumed": True})
    ]
    assert "1.5 min" in shown[0]
    assert "resumed" in shown[1]
    assert "1.5 min" not in shown[1]


def test_times_are_read_from_the_bench_file(tmp_path):
    (tmp_path / "bench.json").write_text(json.dumps(BENCH))
    bench = read_bench(str(tmp_path / "bench.json"))
    texts = [[cell.text for cell in line] for line in bench_table(bench).rows]
    assert texts[1] == ["eager", "topk:0.8", "1", "128", "2", "12.50 (12.00-13.00)", "80.0", "1.00 (0.90-1.10)"]
    assert texts[2][5:] == ["failed", "-", "-"]


@pytest.mark.parametrize("wrong", ["[]", "{}", '{"rows": []}', '{"rows": [{"spec": "x"}]}', '{"rows": [7]}'])
def test_a_file_of_another_kind_is_refused(wrong, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(wrong)
    with pytest.raises(ValueError, match=r"not the output of cram-hf size\. Type cram-hf size"):
        read_size(str(path))
    with pytest.raises(ValueError, match=r"not a result of cram-hf bench\. Type cram-hf bench"):
        read_bench(str(path))


def test_the_page_is_well_formed_says_all_and_lets_nothing_in(folder, tmp_path):
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    own = {"command": f"run /home/ada/{TOKEN} --data '/home/ada/my data'", "config": {"output_dir": "/home/ada/out"}}
    runs = [read_run(folder(MARKUP, **own)), read_run(folder("B", model="/home/ada/bert"))]
    (tmp_path / "bench.json").write_text(json.dumps(BENCH | {"findings": [f"see /home/ada/{TOKEN} {MARKUP}"]}))
    heats = [Heat(MARKUP, "topk:0.8", {"layer.0.q.weight": 0.6, "layer.1.q.weight": 0.9})]
    made = {"sizes": [SIZE], "benches": [read_bench(str(tmp_path / "bench.json"))], "remarks": [MARKUP]}
    text = page(runs, heats, **made)
    assert page(runs, heats, **made) == text
    assert "/home/" not in text
    assert TOKEN not in text
    assert "<img" not in text
    found = Page(text)
    assert found.open == []
    assert len(found.all("script")) == 1
    outside = {a["href"] for tag in ("a", "link") for a in found.all(tag)}
    assert all(target.startswith("#") or target == "data:," for target in outside)
    assert not any("src" in attributes or "onerror" in attributes for _, attributes in found.elements)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {target for target in outside if target.startswith("#")} == {f"#{name}" for name in ids if name != "tip"}
    assert MARKUP in {words for tag, words in found.texts if tag == "th"}
    labels = [attributes.get("aria-label") or "" for tag, attributes in found.elements if tag == "path"]
    assert len([label for label in labels if label.startswith(f"{MARKUP}, topk:0.5: F1 76.00")]) == 2
    assert any(label == "layer 1, q: 90.0 % zeros" for label in labels)
    assert len([label for label in labels if label == "B, update 20: dense loss 2.500"]) == 2
    for svg in text.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + svg.partition("</svg>")[0] + "</svg>")


def test_tables_and_figures_can_be_read_without_seeing_them(folder):
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    found = Page(page([read_run(folder())]))
    tables, captions = found.all("table"), found.all("caption")
    assert len(tables) == len(captions) == 3
    assert {head["scope"] for head in found.all("th")} == {"col", "row"}
    assert all(figure["aria-label"] for figure in found.all("figure"))
    words = [text for tag, text in found.texts if tag == "span"]
    assert "1 run. CrAM+: F1 of dense: topk:0.5 95.0 %, topk:0.8 50.0 %" in " ".join(words)
    assert len([text for tag, text in found.texts if tag == "td" and text == f"{SCORES['topk:0.5']:.2f}"]) == 1
    assert found.all("html")[0]["lang"] == "en"


def test_a_run_whose_scores_are_not_finite_has_no_curve(folder):
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    found = Page(page([read_run(folder(rows=(row("dense", None, 0.0), row("topk:0.5", None, 0.5))))]))
    assert [figure["aria-label"][:13] for figure in found.all("figure")] == ["Training loss"]
