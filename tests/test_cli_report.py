"""`cram-hf report` writes one page whole or not at all, and says in a line what it was not given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cli_fixtures import saved
from results_fixtures import make_results

from cram_hf import compressible_weights
from cram_hf.cli import main
from cram_hf.cli import report as command
from cram_hf.html_report import Heat
from cram_hf.sparsity import measure


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder with results alone."""
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    make_results(label="A").save(folder / "results.json")
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """Takes the place of the page: a list of what was asked for."""
    asked: list[tuple] = []

    def page(runs, heats, **more):
        asked.append((runs, heats, more))
        return "<p>é</p>"

    monkeypatch.setattr(command, "page", page)
    monkeypatch.setattr(command, "drawing", lambda: None)
    return asked


def test_a_real_page_is_written_and_told(qa_model, run, tmp_path, capsys):
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    saved(qa_model, run)
    out = tmp_path / "report.html"
    assert main(["report", str(run), "--spec", "topk:0.75", "--out", str(out)]) == 0
    assert capsys.readouterr().out == (
        f"Written: {out} ({out.stat().st_size / 1000:.0f} kB): curve and scores of A; layers of A.\n"
    )
    text = out.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert str(tmp_path) not in text
    assert "A at topk:0.75: percent of zeros in each matrix." in text
    assert list(tmp_path.glob(".*")) == []


def test_the_map_of_layers_is_measured_on_the_weights_that_were_trained_for(qa_model, run, tmp_path, drawn, capsys):
    (run / "results.json").unlink()
    make_results(label="A", config={"compress_include": ["query"]}).save(run / "results.json")
    saved(qa_model, run)
    words = ["report", str(run), "--spec", "topk:0.75:layer", "--out", str(tmp_path / "r.html"), "--json"]
    assert main(words) == 0
    names = measure(qa_model, compressible_weights(qa_model, ["query"])).layers
    assert drawn[0][1] == [Heat("A", "topk:0.75:layer", dict.fromkeys(names, 0.75))]
    assert json.loads(capsys.readouterr().out) == {
        "out": str(tmp_path / "r.html"),
        "bytes": 9,
        "runs": ["A"],
        "losses": [],
        "layers": ["A"],
        "left_out": [],
    }


def test_a_run_without_a_model_has_no_map_and_that_is_said(run, tmp_path, drawn, capsys):
    (run / "trainer_state.json").write_text('{"log_history": [{"step": 1, "loss": 2.0}]}')
    assert main(["report", str(run), "--out", str(tmp_path / "r.html"), "--label", "Mine"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("(0 kB): curve and scores of Mine; losses of Mine.")
    assert told[1] == "No map of layers for Mine: there is no model in its folder."
    assert drawn[0][2]["remarks"] == [told[1]]


def test_an_existing_page_is_never_overwritten(run, tmp_path, drawn, capsys):
    out = tmp_path / "r.html"
    out.write_text("mine")
    assert main(["report", str(run), "--out", str(out)]) == 2
    assert "reports are never overwritten: type another name, or move it." in capsys.readouterr().err
    assert (out.read_text(), drawn) == ("mine", [])


def test_a_page_that_cannot_be_made_leaves_nothing(run, tmp_path, drawn, monkeypatch, capsys):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "write_whole", full)
    assert main(["report", str(run), "--out", str(tmp_path / "r.html")]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("module", ["altair", "vl_convert"])
def test_a_missing_library_is_told_before_anything_is_read(module, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "cram_hf.html_report.figures", raising=False)
    monkeypatch.delattr("cram_hf.html_report.figures", raising=False)
    assert main(["report", "nowhere", "--out", str(tmp_path / "r.html")]) == 2
    told = capsys.readouterr().err
    assert "the report needs Altair and vl-convert (import of" in told
    assert 'pip install "cram-hf[report]"' in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere: no results.json there. Give the folder of a run, or its results file."),
        (["RUN", "RUN"], "Several runs are called A: give each a name of its own, --label NAME NAME."),
        (["RUN", "--label", "x", "y"], "--label: 2 were given for 1 runs. Give one for each."),
        (["RUN", "--log", "x", "y"], "--log: 2 were given for 1 runs. Give one for each."),
        (["RUN", "--spec", "tpok:0.8"], "Did you mean 'topk'?"),
        (["RUN", "--spec", "nm:2:5"], "input dimension is a multiple of 5"),
        (["RUN", "--size", "RUN/results.json"], "not the output of cram-hf size"),
        (["RUN", "--bench", "RUN/config.json"], "not a result of cram-hf bench"),
        (["RUN", "--bench", "none.json"], "none.json"),
        (["RUN", "--lable", "x"], "did you mean --label?"),
    ],
)
def test_mistakes_are_told(words, said, qa_model, run, tmp_path, drawn, capsys):
    saved(qa_model, run, tokenizer=False)
    out = tmp_path / "r.html"
    assert main(["report", *(word.replace("RUN", str(run)) for word in words), "--out", str(out)]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert (told.out, out.exists()) == ("", False)
