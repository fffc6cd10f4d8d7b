"""`cram-hf bench`: one table, one sentence an engine, a file that is whole, and clear words for mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from bench_fixtures import small_model
from cli_fixtures import saved
from transformers import BertModel

from cram_hf.cli import main
from cram_hf.cli.bench import text

FAST = ["--seq_length", "4", "8", "--batch_size", "2", "--threads", "1", "--rounds", "8"]


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    monkeypatch.setattr("cram_hf.bench.measure.TURN_SECONDS", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(small_model(), tmp_path_factory.mktemp("bench") / "model")


def refused(capsys, *words: str) -> str:
    assert main(["bench", *words]) == 2
    out, told = capsys.readouterr()
    assert out == ""
    return told


@pytest.fixture(scope="module")
def result(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new" / "bench.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cram_hf.bench.measure.TURN_SECONDS", 0)
        words = ["--to", "topk:0.8", "quantize:8", "--engine", "csr", "eager", *FAST, "--out", str(out)]
        assert main(["bench", folder, *words]) == 0
    return json.loads(out.read_text())


class TestResult:
    def test_the_grid_is_measured_in_the_order_of_the_engines(self, result):
        found = [(row["engine"], row["seq_length"], row["spec"]) for row in result["rows"]]
        specs = ["as it is", "topk:0.8", "quantize:8"]
        assert found == [(engine, n, spec) for engine in ("eager", "csr") for n in (4, 8) for spec in specs]
        assert {row["threads"] for row in result["rows"]} == {1}
        assert result["complete"] is True
        assert result["ok"] is True

    def test_a_compression_that_an_engine_is_not_for_is_said(self, result):
        row = result["rows"][-1]
        assert row["skipped"].startswith("no linear layer has a tenth of its weights at zero")
        assert "milliseconds" not in row

    def test_it_says_where_it_came_from_and_what_was_measured(self, result):
        assert {"command", "versions", "machine", "commit", "created"} <= result.keys()
        assert result["machine"]["threads"] == 1
        assert result["specs"][1] == {
            "spec": "topk:0.8",
            "sparsity": pytest.approx(0.8, abs=0.001),
            "model_sparsity": result["specs"][1]["model_sparsity"],
        }
        assert result["engines"][0] == {"name": "eager", "version": torch.__version__, "missing": None, "note": ""}

    def test_people_get_a_table_and_a_sentence_for_each_engine(self, result):
        lines = text(result).splitlines()
        assert lines[0].startswith("| engine | compression | batch | tokens | threads | ms a batch (quartiles) |")
        assert re.match(
            r"\| eager  \|    topk:0\.8 \|     2 \|      4 \|       1 \|\s+[\d.]+ \([\d.]+-[\d.]+\) \|\s+[\d.]+ \|",
            lines[3],
        )
        assert "|             not for it |" in lines[13]
        assert lines[15] == (
            "Zeros among 2,048 compressible weights: as it is 0.0 %, topk:0.8 80.0 %, quantize:8 "
            f"{100 * result['specs'][2]['sparsity']:.1f} %."
        )
        assert [line.partition(":")[0] for line in lines[17:19]] == ["eager", "csr"]

    def test_without_a_pruned_model_there_is_no_column_for_a_comparison(self, result):
        dense = {**result, "specs": result["specs"][:1], "rows": result["rows"][:1]}
        header, _, row = text(dense).splitlines()[:3]
        names = [
            "engine",
            "compression",
            "batch",
            "tokens",
            "threads",
            "ms a batch (quartiles)",
            "sequences/s",
            "off by",
        ]
        assert [cell.strip() for cell in header.strip("| ").split("|")] == names
        assert row.split("|")[-2].strip() == "0.0e+00"


class TestEngines:
    def test_those_that_are_not_there_are_listed_with_what_to_type(self, folder, monkeypatch, capsys):
        monkeypatch.setattr("cram_hf.bench.engines.find_spec", lambda name: None)
        monkeypatch.setattr("cram_hf.cli.bench.measure_cell", lambda *_: [])
        assert main(["bench", folder, *FAST]) == 0
        told = capsys.readouterr().out
        assert '\n  onnxruntime: onnx, onnxscript, onnxruntime not installed: pip install "cram-hf[onnx]"\n' in told
        assert "\n  deepsparse: deepsparse, onnx, onnxscript not installed: pip install deepsparse; its comm" in told

    def test_one_asked_for_by_name_must_be_there(self, folder, monkeypatch, capsys):
        monkeypatch.setattr("cram_hf.bench.engines.find_spec", lambda name: None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        told = refused(capsys, folder, "--engine", "openvino", "eager", "semi-structured", *FAST)
        assert '--engine openvino: openvino, onnx, onnxscript not installed: pip install "cram-hf[openvino]".' in told
        assert "--engine semi-structured: needs a CUDA GPU of compute capability 8.0 or higher" in told
        assert "eager:" not in told

    def test_a_wrong_output_fails_the_row_and_the_command(self, folder, monkeypatch, capsys):
        monkeypatch.setattr("cram_hf.bench.measure.difference", lambda *_: 0.5)
        assert main(["bench", folder, "--engine", "eager", *FAST]) == 1
        told = capsys.readouterr().out
        assert "eager, as it is: wrong output: differs by 0.5 from PyTorch" in told
        assert "| failed |" in " ".join(told.split())


class TestStopped:
    def test_ctrl_c_keeps_the_shapes_that_were_done(self, folder, tmp_path, monkeypatch, capsys, caplog):
        from cram_hf.bench import measure_cell

        def once(*args):
            monkeypatch.setattr("cram_hf.cli.bench.measure_cell", stop)
            return measure_cell(*args)

        def stop(*args):
            raise KeyboardInterrupt

        monkeypatch.setattr("cram_hf.cli.bench.measure_cell", once)
        out = tmp_path / "bench.json"
        assert main(["bench", folder, "--to", "topk:0.5", "--engine", "eager", *FAST, "--out", str(out)]) == 130
        assert f"Stopped: the 2 rows measured so far are in {out}." in caplog.text
        kept = json.loads(out.read_text())
        assert (len(kept["rows"]), kept["complete"]) == (2, False)
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("flags", [[], ["--json"]])
    def test_a_full_disk_is_told_and_what_was_measured_is_printed(self, flags, folder, tmp_path, monkeypatch, capsys):
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("cram_hf.results.os.replace", full)
        out = str(tmp_path / "bench.json")
        assert main(["bench", folder, "--engine", "eager", *FAST, "--out", out, *flags]) == 2
        table, told = capsys.readouterr()
        assert told.endswith(
            f"error: [Errno 28] No space left on device: '{out}'. What was measured so far is on stdout.\n"
        )
        if flags:
            kept = json.loads(table)
            assert ([row["seq_length"] for row in kept["rows"]], kept["complete"]) == ([4], False)
        else:
            assert table.splitlines()[2].startswith("| eager  |    as it is |     2 |      4 |       1 |")
        assert list(tmp_path.iterdir()) == []


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--engine", "onxruntime", "tensorrt"], "--engine onxruntime (did you mean onnxruntime?), tensorrt"),
            (
                ["--engine", "torch"],
                "there are eager, compile, onnxruntime, openvino, csr, sparse, sparse-bf16, sparse-fp16, ",
            ),
            (
                ["--threads", "0", "--batch_size", "1", "-1"],
                "--batch_size -1: a whole number from 1 on.\n--threads 0:",
            ),
            (["--rounds", "3"], "--rounds 3: 8 or more; fewer cannot tell a difference from noise."),
            (["--seq_length", "8", "40"], "--seq_length 40: the model takes up to 32 tokens."),
            (["--to", "nm:2:6", "--seq_length", "8"], "input dimension is a multiple of 6"),
            (["--to", "tpok:0.5"], "Did you mean 'topk'?"),
            (["--compress_exclude", "qeury", "--seq_length", "8"], "--compress_exclude 'qeury' matches no weight."),
        ],
    )
    def test_flags_that_do_not_fit_are_told(self, words, said, folder, capsys):
        assert said in refused(capsys, folder, *words)

    def test_a_file_that_exists_is_left_alone(self, folder, tmp_path, capsys):
        (tmp_path / "bench.json").write_text("mine")
        assert "exists and results are never overwritten" in refused(
            capsys, folder, *FAST, "--out", str(tmp_path / "bench.json")
        )
        assert (tmp_path / "bench.json").read_text() == "mine"

    def test_a_wrong_path_or_head_is_told(self, folder, tmp_path, capsys):
        near = str(Path(folder).with_name("modle"))
        assert f"There is no folder {near}. Near it: {folder}." in refused(capsys, near, *FAST)
        bare = saved(BertModel(small_model().config), tmp_path / "bare")
        assert "BertModel cannot be measured or exported here" in refused(capsys, bare, *FAST)
