"""`benchmarks/inference.py` on a tiny model: each engine, its ratios and errors; DeepSparse where it is installed."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig

from cram_hf.runtime import kernel

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALL = {"vocab_size": 20, "hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
SPECS = "--specs topk:0:layer topk:0.2:layer topk:0.9:layer"
GRID = f"--shapes tiny {SPECS} --seq_lengths 4 7 --batch_sizes 2 --threads 1 --rounds 3"


@pytest.fixture
def load(monkeypatch):
    """Imports a script of `benchmarks/` anew."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str):
        for module in ("cpu_engines", "inference"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        return importlib.import_module(name)

    return load


@pytest.mark.skipif(kernel() is None, reason="the package was installed without a C++ compiler")
def test_every_place_of_the_grid_has_each_engine_with_its_error_and_ratios(load, monkeypatch, tmp_path):
    script = load("inference")
    monkeypatch.setattr(script, "SHAPES", {"tiny": BertConfig(**SMALL, intermediate_size=256)})
    engines = ["csr", "dense-bf16", "ours-fp32", "ours-bf16", "ours-int8", "ours-fp16"]
    gain = 6 + kernel().fp16  # without its arithmetic fp16 would be fp32 once more
    before = torch.get_num_threads()
    try:
        script.main([*GRID.split(), "--engines", *engines, "--out", str(tmp_path / "out.json")])
    finally:
        torch.set_num_threads(before)
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    found = {(row["spec"], row["seq_length"], row["engine"]): row for row in rows}
    # without zeros, dense engines alone; with few of them, no layer of ours would gain
    assert len(rows) == len(found) == 2 * 2 + 2 * 3 + 2 * gain
    assert {engine for spec, _, engine in found if spec == "topk:0.2:layer"} == {"dense-fp32", "dense-bf16", "csr"}
    for (_, _, engine), row in found.items():
        assert row["relative_error"] < (1e-5 if engine in ("dense-fp32", "csr", "ours-fp32") else 0.1)
        assert (row["relative_error"] == 0) == (engine == "dense-fp32")
        assert row["least_ms"] <= row["median_ms"]
        dense = found[row["spec"], row["seq_length"], "dense-fp32"]
        assert row["speed_up_of_least"] == pytest.approx(dense["least_ms"] / row["least_ms"], rel=0.05, abs=0.01)
    assert {row["speed_up"] for row in rows if row["engine"] == "dense-fp32"} == {1}


def test_deepsparse_takes_part_where_it_is_installed_compiled_for_each_shape(load, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "deepsparse" else found(name))
    assert "deepsparse" not in load("cpu_engines").ENGINES
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "deepsparse" else found(name))
    module, shapes = load("cpu_engines"), []

    def compiled(subject, given):
        shapes.append(tuple(given["input_ids"].shape))
        return lambda given: (given["input_ids"],)

    monkeypatch.setattr(module, "deepsparse", compiled)
    run = module.ENGINES["deepsparse"](SimpleNamespace(), {})
    for shape in ((1, 4), (2, 4), (1, 4)):
        assert run({"input_ids": torch.zeros(shape)})[0].shape == shape
    assert shapes == [(1, 4), (2, 4)]


def test_engines_that_are_not_installed_are_left_out_and_refused_when_asked_for(load, monkeypatch, capsys, tmp_path):
    script = load("inference")
    monkeypatch.setattr("cram_hf.bench.engines.find_spec", lambda name: None if name == "openvino" else name)
    assert not [name for name in script.arguments([]).engines if name.startswith("openvino")]
    assert "Left out: openvino: openvino not installed: pip install" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script.arguments(["--engines", "openvino-bf16"])
    assert "--engines openvino-bf16: openvino not installed: pip install" in capsys.readouterr().err
    (tmp_path / "out.json").write_text("{}")
    with pytest.raises(SystemExit):
        script.arguments(["--out", str(tmp_path / "out.json")])
    assert "results are never overwritten" in capsys.readouterr().err
